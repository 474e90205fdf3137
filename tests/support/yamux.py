"""Two sessions and a wire between them that a test delivers by hand; every sink writes into one transcript a side."""

from collections.abc import Callable
from typing import cast

from sallyport.wire.yamux.frames import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    HEADER_BYTES,
    PING,
    RST,
    SYN,
    WINDOW_UPDATE,
    frame_header,
    read_header,
)
from sallyport.wire.yamux.session import Session
from sallyport.wire.yamux.stream import MuxStream

MESSAGE_BYTES = 64 * 1024
_TYPES = {DATA: "data", WINDOW_UPDATE: "window", PING: "ping", GO_AWAY: "go-away"}
_FLAGS = {SYN: "SYN", ACK: "ACK", FIN: "FIN", RST: "RST"}


class Side:
    """One session and what it heard, a line for each call."""

    def __init__(self, *, is_client: bool, max_streams: int = 1024, accept_backlog: int = 64) -> None:
        self.lines: list[str] = []
        self.counted: list[str] = []
        self.streams: dict[int, MuxStream] = {}
        self.on_open: Callable[[MuxStream], None] = lambda stream: None
        self.session = Session(self, is_client=is_client, max_streams=max_streams, accept_backlog=accept_backlog)

    def open(self) -> MuxStream:
        sink = Hearing(self)
        sink.stream = self.session.open(sink)
        return sink.stream

    def stream_opened(self, stream: MuxStream) -> None:
        sink = Hearing(self)
        sink.stream = stream
        stream.sink = sink
        self.streams[stream.id] = stream
        self.lines.append(f"{stream.id} opened")
        self.on_open(stream)

    def ping_answered(self) -> None:
        self.lines.append("ping answered")

    # What a tunnel counts; tests of the session look at `counted`.

    def pinged(self) -> None:
        self.counted.append("ping")

    def reset_received(self) -> None:
        self.counted.append("reset")

    def empty_received(self) -> None:
        self.counted.append("empty")

    def go_away_received(self, code: int) -> None:
        self.lines.append(f"go-away {code}")

    def take(self, limit: int = MESSAGE_BYTES) -> bytes:
        """Take one message."""
        return b"".join(self.session.sending.take(limit))

    def take_all(self) -> bytes:
        """Take everything that is ready."""
        taken = b""
        while more := self.take():
            taken += more
        return taken

    def heard(self) -> list[str]:
        """Return the lines since the last call."""
        lines, self.lines = self.lines, []
        return lines


class Hearing:
    """The sink of one stream."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.stream = cast(MuxStream, None)
        self.received = bytearray()
        self.on_data: Callable[[], None] = lambda: None

    def _note(self, what: str) -> None:
        self.side.lines.append(f"{self.stream.id} {what}")

    def stream_data(self, data: bytes) -> None:
        self.received += data
        self._note(f"data {data!r}" if len(data) <= 16 else f"data {len(data)} bytes")
        self.on_data()

    def stream_ended(self) -> None:
        self._note("ended")

    def stream_reset(self) -> None:
        self._note("reset")

    def stream_sent(self) -> None:
        """Said of every frame; transcripts leave it out."""

    def stream_finished(self) -> None:
        self._note("finished")


class SidePair:
    """A client and a server. `deliver` carries what each has ready, until nothing is."""

    def __init__(self, **limits: int) -> None:
        self.client = Side(is_client=True, **limits)
        self.server = Side(is_client=False, **limits)

    def deliver(self, chunk: int = 0) -> None:
        """Carry everything both ways, in whole messages or in chunks of so many bytes."""
        while (out := self.client.take()) or (back := self.server.take()):
            carry(out or b"", self.server, chunk)
            back = b"" if out else back
            carry(back, self.client, chunk)


def carry(data: bytes, to: Side, chunk: int = 0) -> None:
    """Give bytes to a side."""
    size = chunk or max(1, len(data))
    for start in range(0, len(data), size):
        to.session.receive(data[start : start + size])


def delivered(side: Side, stream: MuxStream, count: int) -> None:
    """What the shell does when bytes were passed on."""
    if stream.window.delivered(count):
        side.session.return_credit(stream, stream.window.take_credit())


def frame(kind: int, flags: int, stream_id: int, payload: bytes | int = 0) -> bytes:
    """Make a frame by hand; the payload of a data frame, or the length field of another."""
    if isinstance(payload, int):
        return frame_header(kind, flags, stream_id, payload)
    return frame_header(kind, flags, stream_id, len(payload)) + payload


def frames_in(data: bytes) -> list[str]:
    """Write frames down as words: `data 1 SYN|FIN 5`."""
    lines, at = [], 0
    while at < len(data):
        kind, flags, stream_id, length = read_header(data, at)
        words = "|".join(word for bit, word in _FLAGS.items() if flags & bit)
        lines.append(" ".join(part for part in (_TYPES[kind], str(stream_id), words, str(length)) if part))
        at += HEADER_BYTES + (length if kind == DATA else 0)
    return lines
