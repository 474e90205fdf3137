"""Streams that the gateway opens into a sandbox: to an endpoint, to an MCP server, to hand over a set-up.

Each begins with a CONNECT that names a thing the sandbox's set-up has declared, never an address; sandboxd alone knows
where that is, and answers with one head (contracts section 2).
"""

import asyncio
from collections.abc import Callable
from typing import Final

from gateway.core.route_table import RouteTable
from gateway.open_streams import OpenStream
from gateway.parts import GatewayParts
from sallyport.claims import Claims
from sallyport.net.tunnel import TunnelUnavailable
from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.codec import parse_response
from sallyport.wire.http1.framing import answer_reader
from sallyport.wire.http1.scan import HEAD_END

# Sandboxd connects on its own machine before it answers: a second is much, this is a stuck process.
ANSWER_SECONDS: Final = 10.0
# A refusal's document is a few hundred bytes.
MAX_REFUSAL_BYTES: Final = 16 * 1024


class NoTunnel(Exception):
    """The sandbox has no tunnel to this gateway now."""


class StreamRefused(Exception):
    """Sandboxd did not open the stream; status is its answer's, 0 where it gave none. The text is for our caller."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class SandboxStream(OpenStream):
    """A stream that sandboxd has opened. Whoever has it closes it; its tunnel or its authority may end it earlier."""

    __slots__ = ("_is_declared", "claims", "reader", "writer")

    claims: Claims
    is_of_sandbox = False

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        claims: Claims,
        is_declared: Callable[[RouteTable], bool] | None,
    ) -> None:
        """Claims are the tunnel's; is_declared says whether a plan names what this leads to, None where none does."""
        self.reader = reader
        self.writer = writer
        self.claims = claims
        self._is_declared = is_declared

    def goes_on_under(self, table: RouteTable | None) -> bool:
        """Whether the plan still names what this leads to."""
        return self._is_declared is None or (table is not None and self._is_declared(table))

    def drain(self) -> bool:
        """Its end is not ours to find: whoever has it closes it, or the drain's deadline ends it."""
        return False

    def revoke(self) -> None:
        """Close now: what has arrived and was not read is not read any more, and its end does not look like one."""
        self.reader.set_exception(ConnectionResetError("the sandbox's authority was withdrawn"))
        self.abort()

    def close(self) -> None:
        """Close, once what was written has gone out."""
        self.writer.close()

    def abort(self) -> None:
        """Close now."""
        self.writer.transport.abort()


class _Protocol(asyncio.StreamReaderProtocol):
    """Hears of the stream's end, whoever ended it."""

    def __init__(self, parts: GatewayParts, reader: asyncio.StreamReader) -> None:
        super().__init__(reader, loop=parts.loop)
        self._parts = parts
        self.stream: SandboxStream | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the stream."""
        super().connection_lost(exc)
        if self.stream is not None:
            self._parts.streams.remove(self.stream)
            self.stream = None


async def open_sandbox_stream(
    parts: GatewayParts, sandbox_id: str, target: str, is_declared: Callable[[RouteTable], bool] | None = None
) -> SandboxStream:
    """Open a stream to `endpoint/<clientId>/<endpointKey>`, `mcp/<serverId>` or `setup/<revision>`.

    It ends when a plan comes for which is_declared is not true, or none is left. Raises NoTunnel, or StreamRefused.
    """
    host = parts.tunnels.current(sandbox_id)
    if host is None:
        raise NoTunnel(sandbox_id)
    reader = asyncio.StreamReader(limit=parts.limits.head_bytes, loop=parts.loop)
    protocol = _Protocol(parts, reader)
    try:
        transport = host.tunnel.open_stream(protocol)
    except TunnelUnavailable as error:
        raise StreamRefused(0, f"the tunnel takes no stream now: {error}") from None
    writer = asyncio.StreamWriter(transport, protocol, reader, parts.loop)
    protocol.stream = stream = SandboxStream(reader, writer, host.claims, is_declared)
    parts.streams.add(stream)
    parts.streams.claim(stream, None, host.claims)
    stream.writer.write(f"CONNECT {target} HTTP/1.1\r\nHost: {sandbox_id}\r\n\r\n".encode("ascii"))
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await _read_answer(stream)
    except BaseException:
        stream.abort()
        raise
    return stream


async def _read_answer(stream: SandboxStream) -> None:
    """Read the one answer; raises StreamRefused for any but 200, and TimeoutError."""
    try:
        block = await stream.reader.readuntil(HEAD_END)
        head = parse_response(block[: -len(HEAD_END)])
        if head.status == 200:
            return
        body = answer_reader("CONNECT", head)
        refusal = b""
        while not body.done and len(refusal) < MAX_REFUSAL_BYTES and (data := await stream.reader.read(4096)):
            refusal += body.feed(data)
    except (RemoteProtocolError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError) as error:
        raise StreamRefused(0, f"no answer of sandboxd that can be read: {type(error).__name__}") from None
    raise StreamRefused(head.status, refusal.decode("utf-8", "replace"))
