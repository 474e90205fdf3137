"""The load of the tunnel rows: stands in for sandboxd, with one tunnel and so many streams, each CONNECTed once.

Frames are made beforehand and answers only scanned, so that it is never the limit; every result says what share of its
core it took. Its mask is four zero bytes: masking is left out here, unmasking costs the gateway what any mask does.
"""

import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import batched
from time import perf_counter

from benchmarks.answers import Answers, LoadError
from benchmarks.load import Tally
from benchmarks.pace import Pace, Poller, measure, measure_ticks, obey
from benchmarks.ticks import Ticks
from sallyport.net.websocket_upgrade import check_upgrade, upgrade_request
from sallyport.wire.http1.codec import parse_response
from sallyport.wire.yamux.frames import (
    ACK,
    DATA,
    FIN,
    HEADER_BYTES,
    INITIAL_WINDOW_BYTES,
    PING,
    RST,
    SYN,
    WINDOW_UPDATE,
    frame_header,
    read_header,
)

_BINARY, _CLOSE, _TEXT = 0x82, 0x88, 0x81
_CONNECT_SECONDS = 10.0
_ESTABLISHED = b"HTTP/1.1 200 "
# Streams that may wait for the gateway at once; its accept backlog is 64.
_OPENED_AT_ONCE = 32
_MESSAGE_BYTES = 64 * 1024
_READ_BYTES = 256 * 1024
# What a slow reader reads at once.
_SLOW_CREDIT_BYTES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What further streams of the tunnel do meanwhile: the same request over and over, its answer read as fast as it
    comes or, with `bytes_per_second`, at that pace.
    """

    streams: int
    request: str
    answer_bytes: int
    bytes_per_second: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelOrder:
    """What to measure. `request` is Latin-1 text of raw bytes; `declared` is what each stream's CONNECT declares.

    With `has_ticks` the answer is a stream of events (`ticks.py`), of which there is one.
    """

    port: int
    token: str
    authority: str
    declared: str
    streams: int
    request: str
    answer_bytes: int
    has_ticks: bool
    beside: Beside | None
    pace: Pace


class TunnelWays:
    """The streams of one tunnel."""

    def __init__(self, order: TunnelOrder, context: ssl.SSLContext | None = None, host: str = "") -> None:
        self.count = order.streams
        self.ticks = Ticks()
        self._frames: list[bytes] = []
        self._answers: list[Answers | Ticks] = []
        for _ in range(order.streams):
            self._add(order.request, self.ticks if order.has_ticks else Answers(order.answer_bytes))
        self._slow_bytes_per_second = 0  # of the streams beside
        if order.beside is not None:
            self._slow_bytes_per_second = order.beside.bytes_per_second
            for _ in range(order.beside.streams):
                self._add(order.beside.request, Answers(order.beside.answer_bytes))
        self._ids = [1 + 2 * way for way in range(len(self._frames))]
        self._taken = [0] * len(self._ids)  # bytes that the gateway has got no credit for
        self._credited_at = 0.0  # when the slow ones last gave some
        self._out: list[bytes] = []
        self._held = b""
        self._poller = Poller()
        self._socket = socket.create_connection(("127.0.0.1", order.port), _CONNECT_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            self._socket = context.wrap_socket(self._socket, server_hostname=host)
        self._upgrade(order)
        self._poller.add(self._socket.fileno())

    def _add(self, request: str, answers: Answers | Ticks) -> None:
        data = request.encode("latin-1")
        stream_id = 1 + 2 * len(self._frames)
        self._frames.append(frame_header(DATA, 0, stream_id, len(data)) + data)
        self._answers.append(answers)

    def _upgrade(self, order: TunnelOrder) -> None:
        asked, key = upgrade_request("127.0.0.1", token=order.token)
        self._socket.sendall(asked)
        data = b""
        while b"\r\n\r\n" not in data:
            more = self._socket.recv(_READ_BYTES)
            if not more:
                raise LoadError("the tunnel's listener closed instead of answering")
            data += more
        head, _, self._held = data.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101 "):
            raise LoadError(f"no tunnel: {head[:300]!r}")
        check_upgrade(parse_response(head), key)

    def connect(self, order: TunnelOrder) -> None:
        """Open every stream and read the gateway's answer to each CONNECT."""
        head = f"CONNECT {order.authority} HTTP/1.1\r\nHost: {order.authority}\r\nSallyport-Stream: {order.declared}"
        block = f"{head}\r\n\r\n".encode("ascii")
        deadline = perf_counter() + _CONNECT_SECONDS
        self._socket.settimeout(0.1)
        for opened in batched(self._ids, _OPENED_AT_ONCE, strict=False):
            self._out += [frame_header(DATA, SYN, each, len(block)) + block for each in opened]
            self.flush()
            waiting = set(opened)
            while waiting:
                for stream_id, payload in self._data_frames():
                    if not payload.startswith(_ESTABLISHED):
                        raise LoadError(f"the CONNECT was refused: {payload[:300]!r}")
                    waiting.discard(stream_id)
                if perf_counter() > deadline:
                    raise LoadError(f"{len(waiting)} CONNECTs got no answer")
        self._credited_at = perf_counter()
        for way in range(self.count, len(self._ids)):
            self.send(way)

    def send(self, way: int) -> None:
        self._out.append(self._frames[way])

    def flush(self) -> None:
        """Send what waits, as many frames to a message as it holds."""
        if not self._out:
            return
        payload = b"".join(self._out)
        self._out.clear()
        # A frame may lie across two messages: they carry one stream of bytes.
        for at in range(0, len(payload), _MESSAGE_BYTES):
            part = payload[at : at + _MESSAGE_BYTES]
            self._socket.sendall(_masked_start(len(part)) + part)

    def poll(self, seconds: float) -> Sequence[int]:
        if self._slow_bytes_per_second:
            self._read_slowly()
        if not self._poller.poll(seconds):
            return ()
        done = []
        for stream_id, payload in self._data_frames():
            way = stream_id >> 1
            if self._answers[way].feed(payload):
                if way < self.count:
                    done.append(way)
                else:
                    self.send(way)
            self._taken[way] += len(payload)
            if self._taken[way] * 2 >= INITIAL_WINDOW_BYTES and not (self._slow_bytes_per_second and way >= self.count):
                self._credit(way, self._taken[way])
        return done

    def _read_slowly(self) -> None:
        """Give credit for what the slow streams have read since they last did, as a slow reader's end does."""
        now = perf_counter()
        allowed = int((now - self._credited_at) * self._slow_bytes_per_second)
        if allowed < _SLOW_CREDIT_BYTES:
            return
        self._credited_at = now
        for way in range(self.count, len(self._ids)):
            if self._taken[way]:
                self._credit(way, min(allowed, self._taken[way]))

    def _credit(self, way: int, count: int) -> None:
        self._out.append(frame_header(WINDOW_UPDATE, 0, self._ids[way], count))
        self._taken[way] -= count

    def _data_frames(self) -> list[tuple[int, bytes]]:
        """Read what is there; return the data frames, and answer what else has to be answered."""
        try:
            data = self._socket.recv(_READ_BYTES)
            while isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
                data += self._socket.recv(_READ_BYTES)
        except TimeoutError:
            return []
        if not data:
            raise LoadError("the gateway closed the tunnel")
        if self._held:
            data = self._held + data
        found: list[tuple[int, bytes]] = []
        at, end = 0, len(data)
        while (start := _payload_start(data, at, end)) and (stop := start + _length(data, at)) <= end:
            if data[at] == _BINARY:
                self._walk(data, start, stop, found)
            elif data[at] != _TEXT:
                raise LoadError(f"the gateway closes the tunnel: {data[start:stop]!r}")
            at = stop
        self._held = data[at:] if at < end else b""
        return found

    def _walk(self, data: bytes, at: int, stop: int, found: list[tuple[int, bytes]]) -> None:
        """Read the frames of one message; the gateway never lays one across two."""
        while at < stop:
            kind, flags, stream_id, length = read_header(data, at)
            at += HEADER_BYTES
            if flags & (FIN | RST):
                raise LoadError(f"the gateway ended stream {stream_id}")
            if kind == DATA:
                found.append((stream_id, data[at : at + length]))
                at += length
            elif kind == PING and flags & SYN:
                self._out.append(frame_header(PING, ACK, 0, length))
            elif kind not in (WINDOW_UPDATE, PING):
                raise LoadError("the gateway goes away")

    def reset(self, way: int) -> None:
        """End a stream of which nothing more is expected; it is said at once."""
        self._out.append(frame_header(WINDOW_UPDATE, RST, self._ids[way], 0))
        self.flush()

    def close(self) -> None:
        self._socket.close()
        self._poller.close()


def _payload_start(data: bytes, at: int, end: int) -> int:
    """Return where the payload of the message at `at` begins, 0 when that is not there yet. Servers do not mask."""
    if end - at < 2:
        return 0
    size = 2 + {126: 2, 127: 8}.get(data[at + 1], 0)
    return at + size if end - at >= size else 0


def _length(data: bytes, at: int) -> int:
    short = data[at + 1]
    if short < 126:
        return short
    return int.from_bytes(data[at + 2 : at + (4 if short == 126 else 10)])


def _masked_start(size: int) -> bytes:
    if size < 126:
        return bytes((_BINARY, 0x80 | size, 0, 0, 0, 0))
    if size <= 0xFFFF:
        return b"%c\xfe%b\0\0\0\0" % (_BINARY, size.to_bytes(2))
    return b"%c\xff%b\0\0\0\0" % (_BINARY, size.to_bytes(8))


def carry_out(document: dict[str, object]) -> Tally:
    """Measure as ordered; raises LoadError or OSError."""
    pace = Pace(**document.pop("pace"))  # type: ignore[arg-type]  # asdict() of a Pace
    told = document.pop("beside")
    beside = None if told is None else Beside(**told)  # type: ignore[arg-type]  # asdict() of a Beside
    order = TunnelOrder(pace=pace, beside=beside, **document)  # type: ignore[arg-type]  # asdict() of the rest
    ways = TunnelWays(order)
    try:
        ways.connect(order)
        return measure_ticks(ways, ways.ticks, pace) if order.has_ticks else measure(ways, pace)
    finally:
        ways.close()


if __name__ == "__main__":
    obey(carry_out)
