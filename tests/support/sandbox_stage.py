"""Local sandboxes of a worker without the worker: providers as they are, tokens of a test's gateway."""

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

from sallyport.net.tasks import TaskSet
from tests.support.gateway_process import ROOT
from worker.sandboxes.local import LocalSandboxes, LocalSettings
from worker.sandboxes.outside import OutsideSettings
from worker.sandboxes.provider import Definition, Running, SandboxProvider, TunnelTokens

WAIT_SECONDS = 30.0
MARK = ("SALLYPORT_SANDBOX_OF", "a-test")
# What the sandboxes of tests see of this machine beside the usual: the Python that runs the tests, and its packages.
SHARED = tuple(
    sorted({Path(sys.base_prefix), Path(sys.prefix).resolve(), Path(sys.executable).parent.parent.absolute()})
)


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """Make a folder as a worker's is: pytest's own are below /tmp, which is another one in a sandbox."""
    folder = Path(tempfile.mkdtemp(prefix="sallyport-sandboxes-", dir="/var/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def definition(*command: str, sandbox_id: str = "sbx_one", environment: Mapping[str, str] | None = None) -> Definition:
    """Define a sandbox."""
    return Definition(sandbox_id=sandbox_id, command=list(command), environment=dict(environment or {}))


def outside_settings(gateway_url: str, **inherited: str) -> OutsideSettings:
    """Return what sandboxds are told; without roots, which would take a third of a second to convert for Java."""
    here = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "SSL_CERT_FILE": "/dev/null"}
    return OutsideSettings(
        gateway_url=gateway_url, gateway_ca_file=None, start_seconds=30.0, inherited=here | inherited, mark=MARK
    )


@contextlib.asynccontextmanager
async def local_sandboxes(
    folder: Path, gateway_url: str, *, is_isolated: bool = True, **inherited: str
) -> AsyncIterator[LocalSandboxes]:
    """Provide sandboxes below a folder until the block ends."""
    failures: list[BaseException] = []
    tasks = TaskSet(lambda name, error: failures.append(error))
    settings = LocalSettings(root=folder, is_isolated=is_isolated, shared=SHARED, first_uid=200_000, stop_seconds=5.0)
    provider = LocalSandboxes(tasks, settings, outside_settings(gateway_url, **inherited))
    try:
        yield provider
    finally:
        await provider.close()
        await tasks.close()
        assert failures == []


NO_TOKENS = TunnelTokens(token="of-nobody", renewal_token="of-nobody")


async def ended(provider: SandboxProvider, sandbox_id: str = "sbx_one") -> Running:
    """Wait for the end of a sandbox's command."""
    async with asyncio.timeout(WAIT_SECONDS):
        while (state := await provider.state(sandbox_id)) is None or state.is_running:  # noqa: ASYNC110  whoever asks a provider looks again
            await asyncio.sleep(0.02)
    return state


async def heard(provider: SandboxProvider, line: str, sandbox_id: str = "sbx_one") -> None:
    """Wait until a sandbox has printed a line."""
    async with asyncio.timeout(WAIT_SECONDS):
        while line not in await provider.log(sandbox_id, 1000):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def output_of(
    provider: LocalSandboxes, *command: str, tokens: TunnelTokens = NO_TOKENS, sandbox_id: str = "sbx_one"
) -> tuple[int | None, list[str]]:
    """Run a command in a sandbox of its own; return its exit code and what it printed."""
    made = definition(*command, sandbox_id=sandbox_id)
    await provider.create(made)
    await provider.start(made, tokens)
    state = await ended(provider, sandbox_id)
    lines = [line for line in await provider.log(sandbox_id, 1000) if not line.startswith("[sandboxd] ")]
    await provider.destroy(sandbox_id)
    return state.exit_code, lines
