"""What a session has ready to send, and in which order it goes.

Answers and pings first, then credit and ACKs, then data: a frame of each stream in turn. Frames are made when they are
taken and not before, so that streams take turns however much each has written, and so that a stream that is reset
takes what it had not sent with it.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from sallyport.wire.yamux.frames import (
    ACK,
    DATA,
    FIN,
    HEADER_BYTES,
    MAX_DATA_BYTES_SENT,
    SYN,
    WINDOW_UPDATE,
    frame_header,
)
from sallyport.wire.yamux.stream import MuxStream
from sallyport.wire.yamux.stream_state import StreamEvent, StreamState, advance

# A frame is not cut to less than this only to fill a message.
_SMALLEST_CUT_BYTES: Final = 1024


class Sending:
    """The queues of a session.

    Always: a stream stands in `_writers` once, while is_queued, and in `_updating` once, while is_updating. owed_acks
    counts the streams whose owes_ack is set.
    """

    __slots__ = ("_answers", "_on_ended", "_updating", "_writers", "owed_acks")

    def __init__(self, on_ended: Callable[[MuxStream], None]) -> None:
        """on_ended hears of a stream whose second FIN has gone out."""
        self._on_ended = on_ended
        self._answers: list[bytes] = []  # frames of the session itself, and resets
        self._updating: list[MuxStream] = []  # streams that owe the peer credit or an ACK
        self._writers: deque[MuxStream] = deque()  # streams with something to send now, in turn
        self.owed_acks = 0

    @property
    def is_ready(self) -> bool:
        """Whether take() would give something; what waits for the peer's window is not ready."""
        return bool(self._writers or self._updating or self._answers)

    @property
    def answer_count(self) -> int:
        """Answers that wait to be sent."""
        return len(self._answers)

    def queue(self, stream: MuxStream) -> None:
        """Let a stream have its turn, if it has anything to say."""
        if stream.is_queued or not stream.id:
            return
        # SYN and FIN need no credit; data does, and FIN waits behind the data.
        if (
            (stream.unsent_bytes and stream.credit)
            or stream.owes_syn
            or (stream.fin_wanted and not stream.unsent_bytes)
        ):
            stream.is_queued = True
            self._writers.append(stream)

    def update(self, stream: MuxStream) -> None:
        """Let a stream send its credit or its ACK."""
        if not stream.is_updating:
            stream.is_updating = True
            self._updating.append(stream)

    def answer(self, frame: bytes) -> None:
        """Send a frame of the session, or a reset."""
        self._answers.append(frame)

    def drop(self, stream: MuxStream) -> None:
        """Forget what a stream had to send; left in a queue, streams that come and go unread would pile up there."""
        stream.unsent.clear()
        stream.unsent_bytes = 0
        if stream.is_queued:
            stream.is_queued = False
            self._writers.remove(stream)
        if stream.is_updating:
            stream.is_updating = False
            self._updating.remove(stream)
        if stream.owes_ack:
            stream.owes_ack = False
            self.owed_acks -= 1

    def clear(self) -> None:
        """Send nothing of what is ready."""
        for stream in self._writers:
            stream.is_queued = False
        for stream in self._updating:
            stream.is_updating = False
        self._writers.clear()
        self._updating.clear()
        self._answers.clear()

    def take(self, limit: int) -> list[bytes | memoryview]:
        """Take what is ready, at most limit bytes; what waits for the peer's window is not ready."""
        out: list[bytes | memoryview] = []
        room = limit
        if self._answers:
            room -= self._take_answers(out, room)
        if self._updating:
            room -= self._take_updates(out, room)
        writers = self._writers
        while writers and room > HEADER_BYTES:
            stream = writers[0]
            length = min(stream.unsent_bytes, stream.credit, MAX_DATA_BYTES_SENT)
            if length > room - HEADER_BYTES:
                if room < _SMALLEST_CUT_BYTES:
                    break
                length = room - HEADER_BYTES
            writers.popleft()
            stream.is_queued = False
            room -= HEADER_BYTES + length
            self._take_data(out, stream, length)
        return out

    def _take_answers(self, out: list[bytes | memoryview], room: int) -> int:
        count = min(len(self._answers), room // HEADER_BYTES)
        out += self._answers[:count]
        del self._answers[:count]
        return count * HEADER_BYTES

    def _take_updates(self, out: list[bytes | memoryview], room: int) -> int:
        count = min(len(self._updating), room // HEADER_BYTES)
        taken, self._updating = self._updating[:count], self._updating[count:]
        before = len(out)
        for stream in taken:
            stream.is_updating = False
            # Data that goes now can carry the ACK itself.
            if not (stream.credit_due or (stream.owes_ack and not stream.is_queued)):
                continue
            out.append(frame_header(WINDOW_UPDATE, self._first_flags(stream), stream.id, stream.credit_due))
            stream.credit_due = 0
        return (len(out) - before) * HEADER_BYTES

    def _take_data(self, out: list[bytes | memoryview], stream: MuxStream, length: int) -> None:
        flags = self._first_flags(stream) if stream.owes_syn or stream.owes_ack else 0
        stream.unsent_bytes -= length
        stream.credit -= length
        ends = stream.fin_wanted and not stream.unsent_bytes
        if ends:
            flags |= FIN
        out.append(frame_header(DATA, flags, stream.id, length))
        if length:
            _take_unsent(out, stream, length)
        if ends:
            stream.state = advance(stream.state, StreamEvent.SEND_FIN)
            if stream.state is StreamState.ENDED:
                self._on_ended(stream)
        elif stream.unsent_bytes and stream.credit:
            stream.is_queued = True
            self._writers.append(stream)
        assert stream.sink is not None, "a stream in the queue has a sink"
        if ends:
            stream.sink.stream_finished()
        elif length:
            stream.sink.stream_sent()

    def _first_flags(self, stream: MuxStream) -> int:
        """Return SYN or ACK the first time a stream sends anything."""
        if stream.owes_syn:
            stream.owes_syn = False
            return SYN
        if stream.owes_ack:
            stream.owes_ack = False
            self.owed_acks -= 1
            return ACK
        return 0

    def __repr__(self) -> str:
        return f"{len(self._writers)} writing"


def _take_unsent(out: list[bytes | memoryview], stream: MuxStream, length: int) -> None:
    """Move length bytes of a stream into out, without copying."""
    unsent = stream.unsent
    if len(unsent[0]) == length and not stream.offset:
        out.append(unsent.popleft())
        return
    while True:
        piece = unsent[0]
        offset = stream.offset
        size = len(piece) - offset
        if size <= length:
            unsent.popleft()
            stream.offset = 0
            out.append(memoryview(piece)[offset:] if offset else piece)
            length -= size
            if not length:
                return
        else:
            stream.offset = offset + length
            out.append(memoryview(piece)[offset : offset + length])
            return
