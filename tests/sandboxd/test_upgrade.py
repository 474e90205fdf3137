"""The door of the gateway: over TLS too, and what is raised where it does not open."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sallyport.net.tls import client_context
from sallyport.wire.errors import RemoteProtocolError
from sandboxd.config import GatewayUrl
from sandboxd.upgrade import UpgradeRefused, open_websocket
from tests.support.raw_end import RawOrigin, raw_origin
from tests.support.scripted_gateway import ScriptedGateway, refusal
from tests.support.transports import TlsTrust

pytestmark = pytest.mark.uvloop


def at(port: int, *, is_secure: bool = False, host: str = "127.0.0.1") -> GatewayUrl:
    return GatewayUrl(is_secure, host, port)


@pytest.fixture
async def origin() -> AsyncIterator[RawOrigin]:
    async with raw_origin() as origin:
        yield origin


async def test_the_door_opens(gateway: ScriptedGateway) -> None:
    transport, early = await open_websocket(at(gateway.port), "token", None)
    assert gateway.tokens == ["token"]
    assert early[:1] in (b"", b"\x82"), "frames may come right behind the head"
    transport.abort()


async def test_a_refusal_has_its_status_and_word(gateway: ScriptedGateway) -> None:
    gateway.door = lambda token: refusal(401, "authentication_required")
    with pytest.raises(UpgradeRefused) as refused:
        await open_websocket(at(gateway.port), "token", None)
    assert (refused.value.status, refused.value.code) == (401, "authentication_required")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"SSH-2.0-x\r\n\r\n",
        b"x" * 20_000,
    ],
)
async def test_what_is_no_websocket(gateway: ScriptedGateway, answer: bytes) -> None:
    gateway.door = lambda token: answer
    with pytest.raises(RemoteProtocolError):
        await open_websocket(at(gateway.port), "token", None)


async def test_a_gateway_that_hangs_up_or_is_not_there(origin: RawOrigin) -> None:
    opening = asyncio.get_running_loop().create_task(open_websocket(at(origin.port), "token", None))
    link = await origin.link()
    await link.head()
    link.close()
    with pytest.raises(ConnectionError):
        await opening
    with pytest.raises(OSError, match=r"refused|Connect"):
        await open_websocket(at(1), "token", None)


async def test_the_gateway_s_certificate_is_verified(tmp_path: Path) -> None:
    trust = TlsTrust(tmp_path / "ca")
    (tmp_path / "gateway-ca.pem").write_text(trust.ca_pem)
    async with raw_origin(trust.server) as origin:
        # The certificate is for api.test.
        with pytest.raises(ssl.SSLCertVerificationError):
            await open_websocket(
                at(origin.port, is_secure=True), "canary", client_context(str(tmp_path / "gateway-ca.pem"))
            )
        with pytest.raises(ssl.SSLCertVerificationError):
            await open_websocket(at(origin.port, is_secure=True), "canary", client_context(None))
        assert origin.ends == []
