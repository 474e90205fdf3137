"""The door of the gateway: one request with a token, one answer, and then a WebSocket or a reason."""

import asyncio
import ssl
from typing import cast

from sallyport.net.dial import connect_named
from sallyport.net.websocket_upgrade import check_upgrade, upgrade_request
from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.codec import parse_response
from sallyport.wire.http1.scan import HEAD_END
from sandboxd.config import GatewayUrl

# A gateway's head; what stands in front of one may add a few fields of its own.
_MAX_HEAD_BYTES = 16 * 1024
_SWITCHED = 101
_ERROR = b"x-sallyport-error"


class UpgradeRefused(Exception):
    """The gateway answered something else than 101. `code` is its own word for it, or ""."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"{status} {code}".rstrip())
        self.status = status
        self.code = code


class _Exchange(asyncio.Protocol):
    """Send the request and collect what comes; `answered` is done once its head is whole."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.received = b""
        self.answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        # An attempt given up in between never awaits the answer; it must not be reported as forgotten.
        self.answered.add_done_callback(lambda answered: answered.cancelled() or answered.exception())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self.answered.done():
            return
        end = self.received.find(HEAD_END)
        if max(end, len(self.received) if end < 0 else 0) > _MAX_HEAD_BYTES:
            self.answered.set_exception(RemoteProtocolError("the gateway's head is too long"))
        elif end >= 0:
            head, self.received = self.received[:end], self.received[end + len(HEAD_END) :]
            self.answered.set_result(head)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.answered.done():
            self.answered.set_exception(exc or ConnectionResetError("the gateway closed without an answer"))


async def open_websocket(
    url: GatewayUrl, token: str, context: ssl.SSLContext | None
) -> tuple[asyncio.Transport, bytes]:
    """Connect and upgrade; return the transport and what came behind the answer. The caller takes it over at once.

    Raises UpgradeRefused, RemoteProtocolError, OSError. Has no timeout of its own.
    """
    request, key = upgrade_request(url.authority, token=token)
    transport, protocol = await connect_named(lambda: _Exchange(request), url.host, url.port, context)
    assert isinstance(protocol, _Exchange)
    try:
        head = parse_response(await protocol.answered)
        if head.status != _SWITCHED:
            words = [line.partition(b":")[2].strip() for line in head.lines if line.lower().startswith(_ERROR)]
            raise UpgradeRefused(head.status, words[0].decode("latin-1")[:64] if words else "")
        check_upgrade(head, key)
    except BaseException:
        transport.abort()
        raise
    return transport, protocol.received
