"""WebSocket frames and the yamux frames in them, as either side of a tunnel reads them.

The first byte of the input says who reads (bit 0: we are the client), whether a stream of ours is open (bit 1), whether
the bytes are yamux frames without a WebSocket round them (bit 2), and how they are cut (the rest: pieces of so many
bytes, 0 for one). Allowed outcomes, for any bytes:
- RemoteProtocolError;
- the same messages, calls and books however the bytes were cut;
- text that is UTF-8 and no message longer than 64 KiB;
- a session whose windows add up: of each stream, what is available and what was received make up the window;
- answers that are whole frames, for streams that exist or have existed.
"""

from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.websocket import BINARY, MAX_MESSAGE_BYTES, TEXT, MessageReader, message
from sallyport.wire.yamux.frames import ACK, DATA, FIN, GO_AWAY, PING, RST, SYN, WINDOW_UPDATE, read_header
from tests.support.fuzzing import run
from tests.support.yamux import Hearing, Side, frame, frames_in

MASK = b"\x01\x02\x03\x04"
_OPENING = frame(DATA, SYN, 1, b"head") + frame(WINDOW_UPDATE, 0, 1, 65536) + frame(DATA, FIN, 1, b"body")

SEEDS = (
    b"\x00" + message(BINARY, _OPENING, MASK) + message(TEXT, b'{"type":"ready"}', MASK),
    b"\x0b" + message(BINARY, frame(WINDOW_UPDATE, ACK, 1) + frame(DATA, FIN, 1, b"answer"), None),
    b"\x01\x89\x02hi\x02\x03abc\x80\x01d\x88\x04\x0f\xa1ok",
    b"\x04" + _OPENING + frame(PING, SYN, 0, 7) + frame(GO_AWAY, 0, 0, 0),
    b"\x06" + frame(WINDOW_UPDATE, ACK, 2, 9) + frame(DATA, 0, 2, b"answer") + frame(DATA, RST, 2),
    b"\x3c" + frame(DATA, SYN, 1) + frame(DATA, SYN | FIN, 3, b"x") + frame(PING, ACK, 0, 0),
)


class Reading:
    """One side that reads, and what came of it."""

    def __init__(self, first: int) -> None:
        self.is_client = bool(first & 1)
        self.side = Side(is_client=self.is_client)
        self.reader = MessageReader(self, is_client=self.is_client)
        self.is_bare = bool(first & 4)
        self.is_closed = False
        self.refusal = ""
        if first & 2:
            self.side.session.write(self.side.open(), b"question")
            self.side.take_all()

    def read(self, data: bytes, size: int) -> None:
        """Read data in pieces; a refusal ends it."""
        try:
            for start in range(0, len(data), size or max(1, len(data))):
                piece = data[start : start + size] if size else data
                if self.is_bare:
                    self.side.session.receive(piece)
                else:
                    self.reader.feed(piece)
        except RemoteProtocolError as error:
            self.refusal = error.reason
            assert self.refusal

    def binary_received(self, data: bytes) -> None:
        assert len(data) <= MAX_MESSAGE_BYTES
        self.side.session.receive(data)

    def text_received(self, data: bytes) -> None:
        assert len(data) <= MAX_MESSAGE_BYTES
        self.side.lines.append(f"text {data.decode('utf-8')}")

    def ping_received(self, payload: bytes) -> None:
        assert len(payload) <= 125
        self.side.lines.append(f"websocket ping {payload!r}")

    def close_received(self, code: int | None, reason: str) -> None:
        assert not self.is_closed
        self.is_closed = True
        self.side.lines.append(f"close {code} {reason}")

    def outcome(self) -> tuple[list[str], str, str]:
        return self.side.lines, self.refusal, repr(self.side.session)


def check(data: bytes) -> None:
    """Check one input."""
    first, wire = (data[0], data[1:]) if data else (0, b"")
    whole, cut = Reading(first), Reading(first)
    whole.read(wire, 0)
    cut.read(wire, (first >> 3) or 1)
    assert whole.outcome() == cut.outcome()
    check_books(whole)
    if not whole.refusal:
        check_answers(whole)


def check_books(reading: Reading) -> None:
    """Count what each stream received against its window."""
    for stream in reading.side.session.streams.values():
        assert isinstance(stream.sink, Hearing)
        assert stream.window.available + len(stream.sink.received) == stream.window.size


def check_answers(reading: Reading) -> None:
    """Read what is answered: whole frames, and none for a stream that never was."""
    answers = reading.side.take_all()
    lines = frames_in(answers)
    at = 0
    for line in lines:
        kind, _, stream_id, length = read_header(answers, at)
        at += 12 + (length if kind == DATA else 0)
        assert kind in (DATA, WINDOW_UPDATE, PING, GO_AWAY), line
        assert stream_id <= max(reading.side.session._last_remote_id, reading.side.session._last_local_id), line
    assert at == len(answers)


if __name__ == "__main__":
    run(check, SEEDS)
