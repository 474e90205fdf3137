"""One end of a stream whose every byte a test controls: a sandbox process on one side, an origin on the other.

Nothing is sent or read that a test did not ask for. Every wait ends after WAIT_SECONDS with a TimeoutError.
"""

import asyncio
import contextlib
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http.client import parse_headers
from io import BytesIO
from typing import Self, cast

# What ends after three seconds of silence is waited for too, and of a process that may have to wait for a core. Where a
# guard was broken (tests/guards) many a wait is in vain, and short.
WAIT_SECONDS = float(os.environ.get("TESTS_WAIT_SECONDS", "30"))
# What a reader of ours takes in before it stops reading; tests of backpressure call pause() instead.
_READ_LIMIT = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class RawAnswer:
    """One whole answer; head is its bytes without the empty line, trailers are lines."""

    status: int
    head: bytes
    body: bytes
    trailers: tuple[bytes, ...] = ()

    def values(self, name: str) -> list[str]:
        """Return every value of one field, in order."""
        return list(parse_headers(BytesIO(self.head.partition(b"\r\n")[2] + b"\r\n\r\n")).get_all(name) or [])

    def value(self, name: str) -> str:
        """Return the value of a field that stands exactly once."""
        (value,) = self.values(name)
        return value


class RawEnd:
    """One end of a socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    @classmethod
    async def dial(cls, port: int) -> Self:
        """Connect to a port of this machine."""
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=_READ_LIMIT))

    async def start_tls(self, context: ssl.SSLContext, server_name: str) -> None:
        """Speak TLS from now on, as its client."""
        async with asyncio.timeout(WAIT_SECONDS):
            await self.writer.start_tls(context, server_hostname=server_name)

    # Out

    def send(self, data: bytes) -> None:
        """Write."""
        self.writer.write(data)

    async def flush(self) -> None:
        """Wait until the peer has taken most of what was written."""
        async with asyncio.timeout(WAIT_SECONDS):
            await self.writer.drain()

    def end(self) -> None:
        """Send the end of file; reading goes on."""
        self.writer.write_eof()

    def close(self) -> None:
        """Close in order."""
        self.writer.close()

    def abort(self) -> None:
        """Reset."""
        # Without a linger time of zero the kernel closes in order, and the peer sees an end of file.
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    # In

    def pause(self) -> None:
        """Read nothing for now, and let the kernel hold little of it."""
        self._pausable.pause_reading()
        # Smaller still, and the peer would send single segments with long pauses when reading goes on.
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)

    def resume(self) -> None:
        """Read again."""
        self._pausable.resume_reading()

    @property
    def _pausable(self) -> asyncio.ReadTransport:
        return cast(asyncio.ReadTransport, self.writer.transport)

    async def until(self, needle: bytes) -> bytes:
        """Read up to and including needle."""
        async with asyncio.timeout(WAIT_SECONDS):
            return await self._reader.readuntil(needle)

    async def exactly(self, size: int) -> bytes:
        """Read so many bytes."""
        async with asyncio.timeout(WAIT_SECONDS):
            return await self._reader.readexactly(size)

    async def some(self) -> bytes:
        """Read whatever comes next; b"" at the end of file."""
        async with asyncio.timeout(WAIT_SECONDS):
            return await self._reader.read(64 * 1024)

    async def head(self) -> bytes:
        """Read a head with its empty line."""
        return await self.until(b"\r\n\r\n")

    async def rest(self) -> bytes:
        """Read to the end of file; a reset is a ConnectionError."""
        async with asyncio.timeout(WAIT_SECONDS):
            return await self._reader.read()

    async def gone(self) -> bytes:
        """Wait until the peer has ended or reset, and return what came before that."""
        try:
            return await self.rest()
        except ConnectionError:
            return b""

    @property
    def has_ended(self) -> bool:
        """Whether the peer has ended or reset, as far as is known by now, and all that came before was read."""
        return self._reader.at_eof() or self.writer.is_closing()

    async def is_quiet(self, seconds: float = 0.02) -> bool:
        """Say whether nothing comes for a moment. For what must not happen; everything else is waited for."""
        try:
            async with asyncio.timeout(seconds):
                await self._reader.readexactly(1)
        except TimeoutError:
            return True
        return False

    async def answer(self, method: str = "GET") -> RawAnswer:
        """Read one whole answer, by the strictest reading; method is that of its request."""
        head = (await self.head())[:-4]
        status = int(head.split(b" ")[1])
        answer = RawAnswer(status=status, head=head, body=b"")
        lengths, codings = answer.values("Content-Length"), answer.values("Transfer-Encoding")
        assert len(lengths) + len(codings) <= 1, head
        if method == "HEAD" or status < 200 or status in (204, 304):
            return answer
        if codings:
            assert codings == ["chunked"], head
            body, trailers = await self._chunks()
            return RawAnswer(status=status, head=head, body=body, trailers=trailers)
        assert lengths, head
        return RawAnswer(status=status, head=head, body=await self.exactly(int(lengths[0])))

    async def _chunks(self) -> tuple[bytes, tuple[bytes, ...]]:
        body = b""
        while size := int(await self.until(b"\r\n"), 16):
            body += await self.exactly(size)
            assert await self.exactly(2) == b"\r\n"
        trailers = []
        while line := (await self.until(b"\r\n"))[:-2]:
            trailers.append(line)
        return body, tuple(trailers)


class RawOrigin:
    """An origin that answers nothing by itself: a test takes its links one by one and plays them."""

    def __init__(self) -> None:
        self.port = 0
        self.ends: list[RawEnd] = []
        self._waiting: asyncio.Queue[RawEnd] = asyncio.Queue()

    async def link(self, within_seconds: float = WAIT_SECONDS) -> RawEnd:
        """Return the next link that the gateway opened."""
        async with asyncio.timeout(within_seconds):
            return await self._waiting.get()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        end = RawEnd(reader, writer)
        self.ends.append(end)
        await self._waiting.put(end)


@contextlib.asynccontextmanager
async def raw_origin(tls: ssl.SSLContext | None = None) -> AsyncIterator[RawOrigin]:
    """Listen on a free port of loopback until the block ends; with tls as a server context."""
    origin = RawOrigin()
    server = await asyncio.start_server(origin.accept, "127.0.0.1", 0, ssl=tls, limit=_READ_LIMIT)
    origin.port = server.sockets[0].getsockname()[1]
    try:
        yield origin
    finally:
        server.close()
        for end in origin.ends:
            end.writer.transport.abort()
