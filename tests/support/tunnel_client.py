"""A sandboxd of a test: a tunnel to a running gateway, every stream and control message in the test's own hands."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

from sallyport.net.buffer_budget import BufferBudget
from sallyport.net.clock import Clock
from sallyport.net.tunnel import Tunnel
from sallyport.net.tunnel_stream import TunnelStream
from sallyport.net.websocket_upgrade import check_upgrade, upgrade_request
from sallyport.wire import websocket
from sallyport.wire.http1.codec import parse_response
from sallyport.wire.http1.scan import HEAD_END
from tests.support.raw_end import WAIT_SECONDS, RawAnswer, RawEnd

READ_LIMIT = 64 * 1024 * 1024


class OpeningRefused(Exception):
    """The gateway opened no tunnel; answer is what it said instead."""

    def __init__(self, answer: RawAnswer) -> None:
        super().__init__(answer.head.decode("latin-1"))
        self.answer = answer

    @property
    def code(self) -> str:
        return str(json.loads(self.answer.body)["code"])


class Keeping(asyncio.Protocol):
    """Stands between a transport and a tunnel, and keeps every byte that comes in."""

    def __init__(self, tunnel: Tunnel) -> None:
        self.received = b""
        self._tunnel = tunnel
        # What a protocol is told beside its bytes goes on as it is.
        self.connection_lost = tunnel.connection_lost  # type: ignore[method-assign]
        self.eof_received = tunnel.eof_received  # type: ignore[method-assign]
        self.pause_writing = tunnel.pause_writing  # type: ignore[method-assign]
        self.resume_writing = tunnel.resume_writing  # type: ignore[method-assign]

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._tunnel.data_received(data)


class TunnelClient:
    """One open tunnel."""

    def __init__(self, clock: Clock) -> None:
        self.tunnel = Tunnel(self, is_client=True, clock=clock, budget=BufferBudget())
        self.keeping = Keeping(self.tunnel)
        self.control: list[dict[str, Any]] = []
        self.opened: list[RawEnd] = []
        self._ends: list[RawEnd] = []
        self.socket: RawEnd | None = None
        self.lost: tuple[int | None, str] | None = None
        self.accepts: Callable[[RawEnd], None] = self.opened.append

    # What the tunnel calls

    def stream_opened(self, stream: TunnelStream) -> asyncio.Protocol:
        reader, protocol = _reader()
        self.accepts(self._keep(reader, protocol, stream))
        return protocol

    def control_received(self, text: bytes) -> None:
        self.control.append(json.loads(text))

    def tunnel_lost(self, code: int | None, reason: str) -> None:
        self.lost = (code, reason)

    # What tests do

    def open(self) -> RawEnd:
        """Open a stream."""
        reader, protocol = _reader()
        return self._keep(reader, protocol, self.tunnel.open_stream(protocol))

    def open_pair(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a stream that is read and written like any socket; whoever has it closes it."""
        reader, protocol = _reader()
        stream = self.tunnel.open_stream(protocol)
        return reader, asyncio.StreamWriter(stream, protocol, reader, asyncio.get_running_loop())

    def _keep(
        self, reader: asyncio.StreamReader, protocol: asyncio.StreamReaderProtocol, stream: TunnelStream
    ) -> RawEnd:
        end = RawEnd(reader, asyncio.StreamWriter(stream, protocol, reader, asyncio.get_running_loop()))
        self._ends.append(end)  # a writer that nobody holds complains that nobody has closed it
        return end

    def abort(self) -> None:
        """End the tunnel and everything in it."""
        for end in self._ends:
            end.close()
        self.tunnel.abort()

    def ask(self, request: bytes, declared: str = "plain; revision=1") -> RawEnd:
        """Send a request on a new stream, its declaration behind its first line."""
        end = self.open()
        first, _, rest = request.partition(b"\r\n")
        end.send(first + b"\r\nSallyport-Stream: " + declared.encode() + b"\r\n" + rest)
        return end

    def connect(self, authority: str, declared: str) -> RawEnd:
        """Send a CONNECT on a new stream."""
        return self.ask(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode(), declared)

    async def inside(self, authority: str, declared: str = "intercepted; revision=1") -> RawEnd:
        """CONNECT and return the stream behind its 200."""
        end = self.connect(authority, declared)
        head = await end.head()
        assert head.startswith(b"HTTP/1.1 200 "), head
        return end

    def send_text(self, text: bytes) -> None:
        """Send a text message, whatever is in it."""
        self.tunnel.transport.write(websocket.message(websocket.TEXT, text, b"mask"))

    async def message(self, kind: str) -> dict[str, Any]:
        """Wait for a control message of this type and take it."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not (found := [each for each in self.control if each["type"] == kind]):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        self.control.remove(found[0])
        return found[0]

    async def ended_within_a_moment(self) -> int | None:
        """Wait for a moment, for what must not happen; None while the tunnel is open."""
        await asyncio.sleep(0.02)
        return None if self.lost is None else self.lost[0] or 0

    async def ended(self, within_seconds: float = WAIT_SECONDS) -> int | None:
        """Wait for the end and return its close code."""
        async with asyncio.timeout(within_seconds):
            while self.lost is None:  # noqa: ASYNC110  the tunnel tells it to this object alone
                await asyncio.sleep(0.001)
        return self.lost[0]


def _reader() -> tuple[asyncio.StreamReader, asyncio.StreamReaderProtocol]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=READ_LIMIT, loop=loop)
    return reader, asyncio.StreamReaderProtocol(reader, loop=loop)


async def dial_tunnel(
    clock: Clock, port: int, token: str | None, *, request: bytes | None = None, tls: ssl.SSLContext | None = None
) -> TunnelClient:
    """Open a tunnel; raises OpeningRefused. `request` replaces the whole request."""
    end = await RawEnd.dial(port)
    if tls is not None:
        await end.start_tls(tls, "gateway.test")
    asked, key = upgrade_request("gateway.test", token=token)
    end.send(request or asked)
    block = await end.head()
    if not block.startswith(b"HTTP/1.1 101 "):
        answer = await _rest_of(end, block)
        end.close()
        raise OpeningRefused(answer)
    check_upgrade(parse_response(block[: -len(HEAD_END)]), key)
    client = TunnelClient(clock)
    early = bytes(end._reader._buffer)  # type: ignore[attr-defined]  # what the reader took in behind the head
    client.socket = end  # its writer closes the socket when nobody holds it any more
    transport = cast(asyncio.Transport, end.writer.transport)
    client.keeping.received = early
    client.tunnel.start(transport, early)
    transport.set_protocol(client.keeping)
    return client


async def _rest_of(end: RawEnd, block: bytes) -> RawAnswer:
    head = block[: -len(HEAD_END)]
    answer = RawAnswer(status=int(head.split(b" ")[1]), head=head, body=b"")
    length = int(answer.value("Content-Length"))
    return RawAnswer(status=answer.status, head=head, body=await end.exactly(length))


@contextlib.asynccontextmanager
async def tunnel_client(clock: Clock, port: int, token: str, **further: Any) -> AsyncIterator[TunnelClient]:  # noqa: ANN401
    """Open a tunnel until the block ends."""
    client = await dial_tunnel(clock, port, token, **further)
    try:
        yield client
    finally:
        client.abort()
