"""Streams that the gateway opens into a sandbox: to an endpoint, to an MCP server, to hand over a set-up.

Each begins with a CONNECT that names a thing the sandbox's set-up has declared, never an address; sandboxd alone knows
where that is, and answers with one head (contracts section 2).
"""

import asyncio
from typing import Final

from gateway.parts import GatewayParts
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


class SandboxStream:
    """A stream that sandboxd has opened. Whoever has it closes it."""

    __slots__ = ("reader", "writer")

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def close(self) -> None:
        """Close, once what was written has gone out."""
        self.writer.close()

    def abort(self) -> None:
        """Close now."""
        self.writer.transport.abort()


async def open_sandbox_stream(parts: GatewayParts, sandbox_id: str, target: str) -> SandboxStream:
    """Open a stream to `endpoint/<clientId>/<endpointKey>`, `mcp/<serverId>` or `setup/<revision>`.

    Raises NoTunnel, or StreamRefused.
    """
    host = parts.tunnels.current(sandbox_id)
    if host is None:
        raise NoTunnel(sandbox_id)
    reader = asyncio.StreamReader(limit=parts.limits.head_bytes, loop=parts.loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=parts.loop)
    try:
        transport = host.tunnel.open_stream(protocol)
    except TunnelUnavailable as error:
        raise StreamRefused(0, f"the tunnel takes no stream now: {error}") from None
    stream = SandboxStream(reader, asyncio.StreamWriter(transport, protocol, reader, parts.loop))
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
