"""The files by which programs trust the sandbox's authority, and their renewal; the key is in none of them (T4)."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sallyport.net.clock import Clock
from sallyport.net.interception import MemoryCa
from sandboxd.log import Log
from sandboxd.trust_keeper import TrustKeeper

HOUR = 3600.0


@pytest.fixture
async def clock() -> AsyncIterator[Clock]:
    clock = Clock(asyncio.get_running_loop())
    yield clock
    clock.close()


@pytest.fixture
def keeper(tmp_path: Path, clock: Clock) -> TrustKeeper:
    (tmp_path / "roots.pem").touch()
    environ = {"SSL_CERT_FILE": str(tmp_path / "roots.pem")}
    return TrustKeeper(MemoryCa(), tmp_path / "state", environ, clock, Log("error"))


async def test_t4_the_key_never_touches_the_disk(keeper: TrustKeeper, tmp_path: Path) -> None:
    keeper.begin()
    contents = [path.read_bytes() for path in (tmp_path / "state").iterdir()]
    assert len(contents) == 5
    assert not any(b"PRIVATE KEY" in content for content in contents)


async def test_the_files_follow_a_renewal(keeper: TrustKeeper, clock: Clock) -> None:
    keeper.begin()
    first = keeper.files.ca.read_bytes()
    keeper.expire()
    assert keeper.files.ca.read_bytes() == first
    clock.wall += 12 * HOUR
    keeper.expire()
    assert keeper.files.ca.read_bytes() != first
    assert keeper.files.bundle.read_bytes().endswith(keeper.files.ca.read_bytes())
    context = ssl.create_default_context(cafile=str(keeper.files.bundle))
    assert len(context.get_ca_certs()) == 1


async def test_a_renewal_that_cannot_be_written_is_tried_again(
    keeper: TrustKeeper, clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keeper.begin()
    first = keeper.files.ca.read_bytes()
    clock.wall += 12 * HOUR

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("sandboxd.trust_keeper.write_trust", full)
        keeper.expire()
    assert "ca_files_not_written" in capsys.readouterr().err
    assert keeper.files.ca.read_bytes() == first
    keeper.expire()
    assert keeper.files.ca.read_bytes() != first


async def test_the_variables_hold_no_token(keeper: TrustKeeper) -> None:
    values = keeper.environment("127.0.0.1:3129")
    assert values["HTTPS_PROXY"] == "http://127.0.0.1:3129"
    assert values["SSL_CERT_FILE"] == str(keeper.files.bundle)
    assert values["NODE_EXTRA_CA_CERTS"] == str(keeper.files.ca)
    assert Path(values["SSL_CERT_FILE"]).is_absolute()
