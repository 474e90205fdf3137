"""A relay between two parts that a test holds in its hands: what goes through is read, dropped, held back or cut.

It runs on a thread of its own (`in_background`), its methods are called from the test's.
"""

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from sallyport.wire import websocket
from sallyport.wire.http1.scan import HEAD_END
from tests.support.background import in_background

CHUNK_BYTES = 64 * 1024
CALL_SECONDS = 10.0
_REQUEST_LINE = re.compile(rb"(?:^|\n)((?:GET|POST|PUT|DELETE) /[^ ]*) HTTP/1\.1\r\n")


class Verdict(Enum):
    """What becomes of something on its way."""

    PASS = "passed on"
    DROP = "lost, the connection goes on"
    HOLD = "kept back until release()"
    CUT = "lost, and its connection with it"


class Cut(Exception):
    """The connection is to be reset."""


class Way(Protocol):
    """One direction of one connection."""

    def take(self, data: bytes) -> bytes:
        """Return what is passed on of these bytes; raises Cut."""


class Relay:
    """A listening relay. Away, it refuses connections and has reset those that were open."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.port = 0
        self._target = target
        self._loop = asyncio.get_running_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.accepted = 0

    # What tests call, from their own thread

    def go_away(self) -> None:
        """Reset everything and refuse what comes."""
        self._call(self._stop())

    def come_back(self) -> None:
        """Listen again, at the same port."""
        self._call(self.start())

    def cut(self) -> None:
        """Reset every connection; new ones are taken."""
        self._call(self._cut())

    def _call[T](self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_SECONDS)

    # What runs on the relay's thread

    def ways(self, back: asyncio.StreamWriter) -> tuple[Way, Way]:
        """Return the two directions of a connection, the one to the target first; back leads to who connected."""
        raise NotImplementedError

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._cut()

    async def _cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._writers.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            self._writers.discard(writer)
            return
        self._writers.add(far_writer)
        there, back = self.ways(writer)
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(_pump(reader, far_writer, there), name="relay there")
                pumps.create_task(_pump(far_reader, writer, back), name="relay back")
        except* (Cut, ConnectionError):
            pass
        finally:
            for end in (writer, far_writer):
                end.transport.abort()
                self._writers.discard(end)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way) -> None:
    while data := await reader.read(CHUNK_BYTES):
        writer.write(way.take(data))
        await writer.drain()
    with suppress(OSError):
        writer.write_eof()


class _Through:
    """A direction nobody looks at."""

    def take(self, data: bytes) -> bytes:
        return data


# ---- between sandboxd and a gateway


class TunnelRelay(Relay):
    """Looks at every control message of the gateway: `judge` says what becomes of it."""

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(target)
        self.judge: Callable[[bytes], Verdict] = lambda text: Verdict.PASS
        self.controls: list[bytes] = []
        self._held: list[tuple[asyncio.StreamWriter, bytes]] = []

    def ways(self, back: asyncio.StreamWriter) -> tuple[Way, Way]:
        return _Through(), _GatewayFrames(self, back)

    def release(self) -> None:
        """Pass on what was held back."""
        self._call(self._release())

    async def _release(self) -> None:
        held, self._held = self._held, []
        for writer, raw in held:
            writer.write(raw)

    def control_seen(self, text: bytes, raw: bytes, back: asyncio.StreamWriter) -> bytes:
        """Return what is passed on of a control message."""
        self.controls.append(text)
        verdict = self.judge(text)
        if verdict is Verdict.CUT:
            raise Cut
        if verdict is Verdict.HOLD:
            self._held.append((back, raw))
        return raw if verdict is Verdict.PASS else b""


class _GatewayFrames:
    """What a gateway sends: one head, then frames that are whole messages and not masked."""

    def __init__(self, relay: TunnelRelay, back: asyncio.StreamWriter) -> None:
        self._relay = relay
        self._back = back
        self._rest = b""
        self._is_open = False

    def take(self, data: bytes) -> bytes:
        self._rest += data
        passed = b""
        if not self._is_open:
            head, end, rest = self._rest.partition(HEAD_END)
            if not end:
                return b""
            passed, self._rest, self._is_open = head + end, rest, True
        for opcode, payload, raw in self._frames():
            passed += self._relay.control_seen(payload, raw, self._back) if opcode == websocket.TEXT else raw
        return passed

    def _frames(self) -> Iterator[tuple[int, bytes, bytes]]:
        while len(self._rest) >= 2:
            length, begin = self._rest[1], 2
            if length >= 126:
                begin = 4 if length == 126 else 10
                length = int.from_bytes(self._rest[2:begin])
            if len(self._rest) < begin + length:
                return
            raw, self._rest = self._rest[: begin + length], self._rest[begin + length :]
            yield raw[0] & 0x0F, raw[begin:], raw


# ---- between a gateway and its control plane


@dataclass(frozen=True, slots=True)
class Asked:
    """One request that went to the control plane: its line without the version."""

    line: str


class ControlRelay(Relay):
    """Notes every request; the next answers to those that `lose` names are lost with their connections."""

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(target)
        self.asked: list[Asked] = []
        self._losing: list[str] = []
        self.lost = 0
        self._lock = threading.Lock()

    def lose(self, end: str, times: int = 1) -> None:
        """Lose the next answers to requests whose path ends like this: they were carried out all the same."""
        with self._lock:
            self._losing += [end] * times

    def count(self, part: str) -> int:
        """Say how many requests had this in their line."""
        return sum(part in asked.line for asked in list(self.asked))

    def ways(self, back: asyncio.StreamWriter) -> tuple[Way, Way]:
        asking = _Asking(self)
        return asking, _Answering(self, asking)

    def is_lost(self, line: str) -> bool:
        """Whether the answer to this request is to be lost; each is lost once."""
        with self._lock:
            for end in self._losing:
                if line.endswith(end):
                    self._losing.remove(end)
                    self.lost += 1
                    return True
        return False


class _Asking:
    """What a gateway asks on one connection, one request after the other."""

    def __init__(self, relay: ControlRelay) -> None:
        self._relay = relay
        self.last = ""

    def take(self, data: bytes) -> bytes:
        for found in _REQUEST_LINE.finditer(data):
            self.last = found[1].decode("latin-1")
            self._relay.asked.append(Asked(self.last))
        return data


class _Answering:
    """What the control plane answers on it."""

    def __init__(self, relay: ControlRelay, asking: _Asking) -> None:
        self._relay = relay
        self._asking = asking

    def take(self, data: bytes) -> bytes:
        if self._relay.is_lost(self._asking.last):
            raise Cut
        return data


@contextmanager
def relaying[R: Relay](kind: Callable[[tuple[str, int]], R], address: str) -> Iterator[R]:
    """Relay to an address (a URL or host:port) until the block ends."""

    @asynccontextmanager
    async def running() -> AsyncIterator[R]:
        host, _, port = address.partition("://")[2].rpartition(":")
        relay = kind((host, int(port)))
        await relay.start()
        try:
            yield relay
        finally:
            await relay._stop()

    with in_background(running()) as relay:
        yield relay
