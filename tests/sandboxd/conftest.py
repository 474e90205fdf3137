"""A sandboxd against a gateway that the test plays."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandboxd.core import backoff
from tests.support.sandboxd_in_process import SandboxdInProcess, in_process_sandboxd
from tests.support.scripted_gateway import ScriptedGateway, ScriptedTunnel, scripted_gateway

QUICK = {"SALLYPORT_TIMEOUTS_HOLD": "400ms", "SALLYPORT_TIMEOUTS_HEAD": "400ms", "SALLYPORT_LIMITS_HEAD_BYTES": "4KiB"}


@pytest.fixture
async def gateway() -> AsyncIterator[ScriptedGateway]:
    async with scripted_gateway() as gateway:
        yield gateway


@pytest.fixture
async def sandboxd(
    tmp_path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[SandboxdInProcess]:
    # A gateway that is back is found while what waits for it is held, though chance has had it asked too early.
    monkeypatch.setattr(backoff, "STEPS_SECONDS", (0.0, 0.01, 0.02))
    async with in_process_sandboxd(tmp_path, f"ws://127.0.0.1:{gateway.port}", settings=QUICK) as running:
        yield running


@pytest.fixture
async def tunnel(gateway: ScriptedGateway, sandboxd: SandboxdInProcess) -> ScriptedTunnel:
    """The tunnel in use, with a managed set in force."""
    tunnel = await gateway.tunnel()
    tunnel.manage(7, "api.test", "*.wild.test")
    await sandboxd.managed(7)
    return tunnel
