"""Ask once whether something on this machine is ready: a TCP port, an HTTP status, a WebSocket.

One attempt each, over loopback only. Whoever asks repeats it and bounds the whole by a time.
"""

import asyncio
import base64
import os
from typing import Final

from sallyport.net.loopback import LoopbackError, connect_loopback
from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.codec import parse_response
from sallyport.wire.http1.scan import HEAD_END

# An answer's head, and with it what is kept of an answer; 16 KiB is what the gateway allows a proxy's answer too.
_MAX_HEAD_BYTES: Final = 16 * 1024


class ProbeError(Exception):
    """Not ready; says why in words for a status."""


async def probe_tcp(host: str, port: int) -> None:
    """Return when the port accepts; raises ProbeError."""
    transport, _ = await _connect(host, port)
    transport.close()


async def probe_http(host: str, port: int, target: str, expected_status: int) -> None:
    """Return when a GET is answered with the status; raises ProbeError. Interim answers are not looked at."""
    head = f"GET {target} HTTP/1.1\r\nHost: {_authority(host, port)}\r\nConnection: close\r\nAccept: */*\r\n\r\n"
    status = await _ask(host, port, head)
    if status != expected_status:
        raise ProbeError(f"the answer was {status}, not {expected_status}")


async def probe_websocket(host: str, port: int, target: str) -> None:
    """Return when a WebSocket handshake is answered with 101; raises ProbeError."""
    key = base64.b64encode(os.urandom(16)).decode("ascii")
    head = (
        f"GET {target} HTTP/1.1\r\nHost: {_authority(host, port)}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    status = await _ask(host, port, head)
    if status != 101:
        raise ProbeError(f"the handshake was answered {status}, not 101")


class _Head(asyncio.Protocol):
    """Collects bytes up to the end of one answer head."""

    def __init__(self) -> None:
        self.received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, _ = self._buffer.partition(HEAD_END)
        if self.received.done():
            self._buffer = b""
        elif end or len(self._buffer) > _MAX_HEAD_BYTES:
            self.received.set_result(head)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.received.done():
            self.received.set_result(b"")


async def _connect(host: str, port: int) -> tuple[asyncio.Transport, _Head]:
    try:
        return await connect_loopback(_Head, host, port)
    except LoopbackError as error:
        raise ProbeError(str(error)) from None
    except OSError:
        raise ProbeError(f"nothing accepts on port {port}") from None


async def _ask(host: str, port: int, head: str) -> int:
    transport, protocol = await _connect(host, port)
    try:
        transport.write(head.encode("ascii"))
        return parse_response(await protocol.received).status
    except RemoteProtocolError:
        raise ProbeError("what answered does not speak HTTP") from None
    finally:
        transport.abort()


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
