"""Authorities of the explicit listener, local and remote."""

import datetime
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.authorities import LocalAuthorities, RemoteAuthorities
from gateway.fetches import Fetches
from sallyport.net.interception import CaStore, InterceptionError
from tests.support.control_stage import ControlStage, control_stage
from tests.support.fake_control import Document, hang, refusal
from tests.support.until import until

NOW = time.time_ns() / 1e9
PATH = "/internal/sandboxes/sbx_1/interception-ca"


def made(folder: Path, *, days: int = 30) -> Document:
    """Return an authority that the control plane made now."""
    store = CaStore(folder, validity=datetime.timedelta(days=days))
    store.authority("sbx_1", NOW)
    return {
        "certificatePem": (folder / "sbx_1.pem").read_text(),
        "privateKeyPem": (folder / "sbx_1.key").read_text(),
        "notAfter": int(NOW) + days * 86_400,
    }


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[ControlStage]:
    async with control_stage(tmp_path) as stage:
        stage.control.authorities["sbx_1"] = made(tmp_path / "made")
        yield stage


def remote(stage: ControlStage, wait_seconds: float = 2.0) -> RemoteAuthorities:
    fetches = Fetches(stage.tasks, "CA")
    return RemoteAuthorities(stage.session, fetches, lambda: NOW, wait_seconds=wait_seconds)


def test_a_local_authority_is_never_waited_for(tmp_path: Path) -> None:
    authorities = LocalAuthorities(tmp_path / "ca")
    assert authorities.want("sbx_1", NOW) is None
    assert authorities.authority("sbx_1", NOW).is_current(NOW)


async def test_a_remote_authority_is_fetched_once(stage: ControlStage) -> None:
    authorities = remote(stage)
    with pytest.raises(InterceptionError, match="has not come"):
        authorities.authority("sbx_1", NOW)
    waits = [authorities.want("sbx_1", NOW) for _ in range(5)]
    for wait in waits:
        assert wait is not None
        await wait
    assert authorities.want("sbx_1", NOW) is None
    found = authorities.authority("sbx_1", NOW).certificate_pem.decode()
    assert found == stage.control.authorities["sbx_1"]["certificatePem"]
    assert stage.control.count(PATH) == 1


async def test_one_that_nears_its_end_serves_while_the_next_is_fetched(stage: ControlStage, tmp_path: Path) -> None:
    authorities = remote(stage)
    stage.control.authorities["sbx_1"] = made(tmp_path / "short", days=2)
    wait = authorities.want("sbx_1", NOW)
    assert wait is not None
    await wait
    old = authorities.authority("sbx_1", NOW)
    stage.control.authorities["sbx_1"] = made(tmp_path / "next")
    soon = NOW + 1.5 * 86_400
    assert authorities.want("sbx_1", soon) is None
    assert authorities.authority("sbx_1", soon) is old
    await until(lambda: authorities.authority("sbx_1", soon) is not old)


async def test_one_that_is_over_is_waited_for(stage: ControlStage) -> None:
    authorities = remote(stage)
    wait = authorities.want("sbx_1", NOW)
    assert wait is not None
    await wait
    assert authorities.want("sbx_1", NOW + 40 * 86_400) is not None


@pytest.mark.parametrize(
    "change",
    [
        {"privateKeyPem": "canary"},
        {"certificatePem": "canary"},
        {"certificatePem": None},
        {"more": "canary"},
    ],
)
async def test_half_an_authority_is_none(
    stage: ControlStage, change: Document, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.control.authorities["sbx_1"] |= change
    authorities = remote(stage)
    wait = authorities.want("sbx_1", NOW)
    assert wait is not None
    await wait
    with pytest.raises(InterceptionError):
        authorities.authority("sbx_1", NOW)
    logged = capsys.readouterr()
    assert "interception_ca_not_fetched" in logged.out
    assert "canary" not in logged.out + logged.err


async def test_the_key_of_another_certificate_is_refused(stage: ControlStage, tmp_path: Path) -> None:
    stage.control.authorities["sbx_1"]["privateKeyPem"] = made(tmp_path / "other")["privateKeyPem"]
    authorities = remote(stage)
    wait = authorities.want("sbx_1", NOW)
    assert wait is not None
    await wait
    with pytest.raises(InterceptionError):
        authorities.authority("sbx_1", NOW)


async def test_a_wait_is_bounded_and_a_failure_is_asked_for_again(stage: ControlStage) -> None:
    authorities = remote(stage, wait_seconds=0.05)
    stage.control.misbehave(PATH, refusal(503, "database_unavailable"), hang)
    for _ in range(2):
        wait = authorities.want("sbx_1", NOW)
        assert wait is not None
        await wait
    with pytest.raises(InterceptionError):
        authorities.authority("sbx_1", NOW)
