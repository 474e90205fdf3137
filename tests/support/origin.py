"""An origin that records every byte it receives and answers what a test scripts; plain or TLS, on a free port.

Each complete request that `strict_http` can read is answered 200 unless a script says otherwise; bytes it cannot read
end the link with a 400 and stay recorded. It never repairs anything, so what it holds is what was sent.
"""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from weakref import WeakKeyDictionary

from tests.support.raw_end import WAIT_SECONDS
from tests.support.strict_http import Malformed, Request, read_head, read_request

OK_BODY = b"ok"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n" + OK_BODY
_READ_BYTES = 64 * 1024


class On(Enum):
    """What a scripted answer waits for."""

    REQUEST = "the whole request"
    HEAD = "its head only: an early answer"


class Then(Enum):
    """What happens after the last part of a scripted answer."""

    KEEP = "read the next request"
    CLOSE = "close in order"
    ABORT = "reset the link"
    RAW = "echo every further byte, as after a 101"
    HANG = "read on and never answer again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Raw parts of an answer, written one by one; an Event among them is waited for before the next part.

    With `pause_reading` the origin reads nothing until that event is set: a slow upload.
    """

    parts: tuple[bytes | asyncio.Event, ...]
    on: On = On.REQUEST
    then: Then = Then.KEEP
    pause_reading: asyncio.Event | None = None


@dataclass(slots=True, eq=False)
class Link:
    """One accepted socket: every byte received on it, and what they were read as."""

    number: int
    sni: str | None
    is_resumed: bool = False  # by a TLS session of an earlier link
    received: bytearray = field(default_factory=bytearray)
    requests: list[Request] = field(default_factory=list)
    fault: str | None = None
    ended: bool = False  # the peer sent its end of file, or the link broke
    raw_from: int | None = None  # offset from which bytes are no longer HTTP

    def __repr__(self) -> str:
        state = self.fault or ("ended" if self.ended else "open")
        return f"<Link {self.number} sni={self.sni}: {len(self.requests)} requests, {state}>"


class RecordingOrigin:
    """The running origin: `answers` maps a request target without its query to a script, the rest gets `default`."""

    def __init__(self) -> None:
        self.port = 0
        self.links: list[Link] = []
        self.answers: dict[str, Answer] = {}
        self.default = Answer(parts=(OK,))
        self.changed = asyncio.Condition()

    @property
    def requests(self) -> list[Request]:
        """Every whole request, link by link in order of acceptance."""
        return [request for link in self.links for request in link.requests]

    @property
    def received(self) -> bytes:
        """Every byte of every link, for searches."""
        return b"".join(bytes(link.received) for link in self.links)

    def links_for(self, sni: str) -> list[Link]:
        """Return the TLS links that were opened under one server name."""
        return [link for link in self.links if link.sni == sni]

    async def wait_for_requests(self, count: int, within_seconds: float = WAIT_SECONDS) -> list[Request]:
        """Wait until so many requests are whole; raises TimeoutError."""
        async with asyncio.timeout(within_seconds), self.changed:
            await self.changed.wait_for(lambda: len(self.requests) >= count)
        return self.requests

    async def wait_for_bytes(self, needle: bytes, within_seconds: float = WAIT_SECONDS) -> None:
        """Wait until some link has received these bytes; raises TimeoutError."""
        async with asyncio.timeout(within_seconds), self.changed:
            await self.changed.wait_for(lambda: any(needle in link.received for link in self.links))

    async def serve(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one link until it ends."""
        self.links.append(link)
        at = 0
        try:
            while (at := await self._next_request(link, at, reader, writer)) >= 0:
                pass
        except (ConnectionError, ssl.SSLError, TimeoutError):
            pass  # a reset is one of the things tests look for; it is recorded as the end
        finally:
            link.ended = True
            writer.close()
            await self._tell()

    async def _next_request(
        self, link: Link, at: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> int:
        """Read and answer the request at offset `at`; return the offset of the next one, or -1 to end the link."""
        answered_early = False
        while True:
            try:
                head = read_head(bytes(link.received), at)
                request = read_request(bytes(link.received), at) if head is not None else None
            except Malformed as fault:
                link.fault = str(fault)
                writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return -1
            answer = self._script(head.target) if head is not None else None
            if answer is not None and answer.on is On.HEAD and not answered_early:
                answered_early = True
                if not await self._play(link, answer, reader, writer):
                    return -1
            if request is not None and answer is not None:
                link.requests.append(request)
                await self._tell()
                if answered_early or await self._play(link, answer, reader, writer, request.end):
                    return request.end
                return -1
            if answer is not None and answer.pause_reading is not None:
                await answer.pause_reading.wait()
            if not await self._receive(link, reader):
                return -1

    def _script(self, target: str) -> Answer:
        return self.answers.get(target.partition("?")[0], self.default)

    async def _play(
        self,
        link: Link,
        answer: Answer,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        end: int | None = None,
    ) -> bool:
        """Write a scripted answer; say whether the link goes on."""
        for part in answer.parts:
            if isinstance(part, asyncio.Event):
                await part.wait()
            else:
                writer.write(part)
                await writer.drain()
        if answer.then is Then.ABORT:
            _reset(writer)
        if answer.then in (Then.RAW, Then.HANG):
            link.raw_from = len(link.received) if end is None else end
            await self._stay(link, answer, reader, writer)
        return answer.then is Then.KEEP

    async def _stay(
        self, link: Link, answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        echoed = link.raw_from or 0
        while True:
            if answer.then is Then.RAW and len(link.received) > echoed:
                writer.write(bytes(link.received[echoed:]))
                echoed = len(link.received)
                await writer.drain()
            if not await self._receive(link, reader):
                return

    async def _receive(self, link: Link, reader: asyncio.StreamReader) -> bool:
        data = await reader.read(_READ_BYTES)
        link.received += data
        link.ended = not data
        await self._tell()
        return bool(data)

    async def _tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()


def _reset(writer: asyncio.StreamWriter) -> None:
    # Without a linger time of zero the kernel closes in order, and the peer sees an end of file instead of a reset.
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def recording_origin(tls: ssl.SSLContext | None = None) -> AsyncIterator[RecordingOrigin]:
    """Serve a recording origin on a free loopback port until the block ends; with `tls` as a server context."""
    origin = RecordingOrigin()
    names: WeakKeyDictionary[object, str | None] = WeakKeyDictionary()
    if tls is not None:
        tls.sni_callback = lambda link, name, _context: names.__setitem__(link, name)
    serving: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "the streams of asyncio serve each link in a task"
        serving.add(task)
        tls_link = writer.get_extra_info("ssl_object")
        link = Link(number=len(origin.links), sni=None)
        if tls_link is not None:
            link.sni, link.is_resumed = names.get(tls_link), tls_link.session_reused
        try:
            await origin.serve(link, reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()  # the block has ended; asyncio's own task callback must not report it
        finally:
            serving.discard(task)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    origin.port = server.sockets[0].getsockname()[1]
    try:
        yield origin
    finally:
        server.close()
        for task in list(serving):
            task.cancel()
        if serving:
            await asyncio.wait(serving)
