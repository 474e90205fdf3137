"""One side of a yamux session: bytes in, calls of a sink, frames out.

`receive` takes the peer's bytes, checks everything they claim, and calls the sinks; `sending` (sending.py) has what is
ready to go. The methods between say what this side wants.
"""

from collections import deque
from typing import Final, Protocol

from sallyport.wire.errors import LocalProtocolError, RemoteProtocolError
from sallyport.wire.yamux.frames import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    HEADER_BYTES,
    INTERNAL_ERROR,
    MAX_DATA_BYTES_TAKEN,
    MAX_STREAM_ID,
    PING,
    RST,
    SESSION_ID,
    SYN,
    WINDOW_UPDATE,
    frame_header,
    read_header,
)
from sallyport.wire.yamux.sending import Sending
from sallyport.wire.yamux.stream import NO_ID, MuxStream, StreamSink
from sallyport.wire.yamux.stream_state import StreamEvent, StreamState, advance

# Open streams of one session, both sides' together.
MAX_STREAMS: Final = 1024
# Streams that were opened and not yet accepted. We hold ours back; a peer that does not is reset.
ACCEPT_BACKLOG: Final = 64
# Answers that a peer has asked for (pongs, resets) and does not read. No honest peer comes near it.
MAX_ANSWERS: Final = 8192
# The window of a peer's receiver as far as we count it; the specification's field has 32 bits.
MAX_CREDIT_BYTES: Final = 0xFFFFFFFF

_OPEN: Final = StreamState.OPEN
_LOCAL_ENDED: Final = StreamState.LOCAL_ENDED
_GONE: Final = (StreamState.ENDED, StreamState.RESET)


class SessionSink(Protocol):
    """What a session calls that concerns no stream yet, or none at all."""

    def stream_opened(self, stream: MuxStream) -> None:
        """The peer has opened a stream: give it a sink before returning."""

    def ping_answered(self) -> None:
        """The peer has answered the ping."""

    def pinged(self) -> None:
        """The peer has pinged, and is answered. May raise RemoteProtocolError: so often is too often."""

    def reset_received(self) -> None:
        """The peer has reset a stream, or opened one too many, which is reset. May raise as pinged() does."""

    def empty_received(self) -> None:
        """The peer has sent a frame that says nothing. May raise as pinged() does."""

    def go_away_received(self, code: int) -> None:
        """The peer opens no more streams and takes none."""


class Session:
    """The streams of one tunnel, seen from one side. The client's have odd ids, the server's even ones.

    Always: a stream is in `streams` from its SYN to its second FIN or its reset, and in `_unopened` before.
    """

    __slots__ = (
        "_accept_backlog",
        "_have",
        "_is_going_away",
        "_last_local_id",
        "_last_remote_id",
        "_late_bytes",
        "_max_streams",
        "_need",
        "_pieces",
        "_ping_value",
        "_remote_parity",
        "_sink",
        "_unacknowledged",
        "_unopened",
        "is_peer_going_away",
        "sending",
        "streams",
    )

    def __init__(
        self,
        sink: SessionSink,
        *,
        is_client: bool,
        max_streams: int = MAX_STREAMS,
        accept_backlog: int = ACCEPT_BACKLOG,
    ) -> None:
        self._sink = sink
        self._max_streams = max_streams
        self._accept_backlog = accept_backlog
        self.streams: dict[int, MuxStream] = {}
        self._unopened: deque[MuxStream] = deque()  # ours that wait for the peer to accept others
        self._unacknowledged = 0  # ours that the peer has not accepted
        self._last_local_id = -1 if is_client else 0
        self._last_remote_id = 0 if is_client else -1
        self._remote_parity = 0 if is_client else 1
        self.sending = Sending(self._forget)
        self._pieces: list[bytes] = []  # an incomplete frame
        self._have = 0  # bytes in _pieces
        self._need = HEADER_BYTES  # bytes that must be there before looking again
        # Bytes that may still arrive for streams that were reset here, before the peer heard of it: what was left of
        # their windows. One number instead of a list of ids that could never be long enough.
        self._late_bytes = 0
        self._ping_value: int | None = None
        self._is_going_away = False
        self.is_peer_going_away = False

    # What this side asks for -------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """Open streams, with those that wait to be opened."""
        return len(self.streams) + len(self._unopened)

    @property
    def may_open(self) -> bool:
        """Whether open() would be obeyed."""
        is_free = self.count < self._max_streams and self._last_local_id + 2 * len(self._unopened) + 2 < MAX_STREAM_ID
        return is_free and not self.is_peer_going_away and not self._is_going_away

    def open(self, sink: StreamSink) -> MuxStream:
        """Open a stream; its SYN goes with its first bytes."""
        if not self.may_open:
            raise LocalProtocolError("no more streams may be opened")
        stream = MuxStream(sink, is_local=True)
        self._unopened.append(stream)
        self._open_waiting()
        return stream

    def write(self, stream: MuxStream, data: bytes) -> None:
        """Queue bytes; they go when it is the stream's turn and the peer's window allows."""
        if stream.state in _GONE or stream.fin_wanted:
            raise LocalProtocolError("write on a stream that has ended")
        stream.unsent.append(data)
        stream.unsent_bytes += len(data)
        if not stream.is_queued:
            self.sending.queue(stream)

    def end(self, stream: MuxStream) -> None:
        """Send FIN once what was written has gone."""
        if not stream.fin_wanted and stream.state not in _GONE:
            stream.fin_wanted = True
            self.sending.queue(stream)

    def reset(self, stream: MuxStream) -> None:
        """End a stream at once; what it had not sent is dropped."""
        if stream.state in _GONE:
            return
        if stream.state is _OPEN or stream.state is _LOCAL_ENDED:
            self._late_bytes += stream.window.available
        stream.state = advance(stream.state, StreamEvent.SEND_RST)
        was_on_the_wire = stream.id != NO_ID and not stream.owes_syn
        self._forget(stream)
        if was_on_the_wire:
            self.sending.answer(frame_header(WINDOW_UPDATE, RST, stream.id, 0))

    def return_credit(self, stream: MuxStream, credit: int) -> None:
        """Let the peer send so many bytes more."""
        if credit and (stream.state is _OPEN or stream.state is _LOCAL_ENDED):
            stream.credit_due += credit
            self.sending.update(stream)

    def ping(self, value: int) -> bool:
        """Ask for a sign of life; False when the one before is still unanswered."""
        if self._ping_value is not None:
            return False
        self._ping_value = value
        self.sending.answer(frame_header(PING, SYN, SESSION_ID, value))
        return True

    @property
    def is_ping_unanswered(self) -> bool:
        """Whether a ping is under way."""
        return self._ping_value is not None

    def go_away(self, code: int) -> None:
        """Open no more streams and take none; those that are open go on."""
        if not self._is_going_away:
            self._is_going_away = True
            self.sending.answer(frame_header(GO_AWAY, 0, SESSION_ID, code))

    def give_up(self) -> None:
        """End every stream without a word, to the peer or to a sink: the tunnel has ended."""
        self.sending.clear()
        for stream in (*self.streams.values(), *self._unopened):
            stream.state = StreamState.RESET
            self.sending.drop(stream)
        self.streams.clear()
        self._unopened.clear()

    # Bytes in ----------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take bytes of the peer; raises RemoteProtocolError, after which nothing more may be given."""
        if self._pieces:
            self._pieces.append(data)
            self._have += len(data)
            if self._have < self._need:
                return
            data = b"".join(self._pieces)
            self._pieces.clear()
        at, end = 0, len(data)
        need = HEADER_BYTES
        while end - at >= HEADER_BYTES:
            kind, flags, stream_id, length = read_header(data, at)
            if kind == DATA:
                start = at + HEADER_BYTES
                stop = start + length
                if length > MAX_DATA_BYTES_TAKEN:
                    raise RemoteProtocolError("a data frame that is too long")
                if stop > end:
                    need = HEADER_BYTES + length
                    break
                self._data(flags, stream_id, length, data[start:stop])
                at = stop
                continue
            at += HEADER_BYTES
            if kind == WINDOW_UPDATE:
                self._window_update(flags, stream_id, length)
            elif kind == PING:
                self._ping(flags, stream_id, length)
            elif kind == GO_AWAY:
                self._go_away(flags, stream_id, length)
            else:
                raise RemoteProtocolError("an unknown version or type of frame")
        if at < end:
            self._pieces.append(data[at:])
            self._have = end - at
            self._need = need
        if self.sending.answer_count > MAX_ANSWERS:
            raise RemoteProtocolError("the peer asks and does not read the answers")

    def _data(self, flags: int, stream_id: int, length: int, payload: bytes) -> None:
        stream = self.streams.get(stream_id)
        if flags or stream is None or not stream.is_accepted:
            stream = self._opening(flags, stream_id, stream)
            if stream is None:
                self._late(flags, stream_id, length)
                return
        if stream.state is not _OPEN and stream.state is not _LOCAL_ENDED and not flags & RST:
            raise RemoteProtocolError("data after FIN")
        if length and not flags & RST:
            stream.window.received(length)
            assert stream.sink is not None, "a stream in the table has a sink"
            stream.sink.stream_data(payload)
        elif not flags:
            self._sink.empty_received()
        if flags & (FIN | RST):
            self._ending(flags, stream)

    def _window_update(self, flags: int, stream_id: int, credit: int) -> None:
        stream = self.streams.get(stream_id)
        if flags or stream is None or not stream.is_accepted:
            stream = self._opening(flags, stream_id, stream)
            if stream is None:
                self._late(flags, stream_id, 0)
                return
        if credit:
            stream.credit += credit
            if stream.credit > MAX_CREDIT_BYTES:
                raise RemoteProtocolError("a window that is too large")
            if stream.unsent_bytes:
                self.sending.queue(stream)
        elif not flags:
            self._sink.empty_received()
        if flags & (FIN | RST):
            self._ending(flags, stream)

    def _opening(self, flags: int, stream_id: int, stream: MuxStream | None) -> MuxStream | None:
        """Check the flags of a frame and act on SYN and ACK; None for a stream that is gone."""
        if flags & ~(SYN | ACK | FIN | RST) or flags & (SYN | ACK) == SYN | ACK:
            raise RemoteProtocolError("flags that mean nothing")
        if flags & SYN:
            return self._syn(stream_id)
        if stream is None:
            return None
        if flags & ACK:
            if stream.is_accepted or stream.owes_syn:
                raise RemoteProtocolError("ACK for a stream that did not ask for it")
            stream.is_accepted = True
            self._unacknowledged -= 1
            self._open_waiting()
        elif not stream.is_accepted and (stream.owes_syn or not flags & RST):
            raise RemoteProtocolError("a frame on a stream that was not accepted")
        return stream

    def _syn(self, stream_id: int) -> MuxStream | None:
        if stream_id == SESSION_ID or stream_id & 1 != self._remote_parity:
            raise RemoteProtocolError("SYN with an id of the other side")
        if stream_id <= self._last_remote_id:
            raise RemoteProtocolError("SYN with an id that was used already")
        self._last_remote_id = stream_id
        stream = MuxStream(None, is_local=False)
        stream.id = stream_id
        if self._is_going_away or self.count >= self._max_streams or self.sending.owed_acks >= self._accept_backlog:
            self._late_bytes += stream.window.available
            self.sending.answer(frame_header(WINDOW_UPDATE, RST, stream_id, 0))
            self._sink.reset_received()
            return None
        self.streams[stream_id] = stream
        self.sending.owed_acks += 1
        self.sending.update(stream)
        self._sink.stream_opened(stream)
        # The sink may have reset it at once.
        return stream if stream_id in self.streams else None

    def _late(self, flags: int, stream_id: int, length: int) -> None:
        """Judge a frame for a stream that is not there: late, for one that has been; or a lie."""
        is_remote = stream_id & 1 == self._remote_parity
        last = self._last_remote_id if is_remote else self._last_local_id
        if stream_id == SESSION_ID or stream_id > last:
            raise RemoteProtocolError("a frame for a stream that was never opened")
        if length > self._late_bytes:
            raise RemoteProtocolError("data for a stream that has ended")
        self._late_bytes -= length

    def _ending(self, flags: int, stream: MuxStream) -> None:
        assert stream.sink is not None, "a stream in the table has a sink"
        if stream.state is StreamState.RESET:
            return  # by the sink, a moment ago
        if flags & RST:
            stream.state = advance(stream.state, StreamEvent.RECEIVE_RST)
            self._forget(stream)
            stream.sink.stream_reset()
            self._sink.reset_received()
            return
        stream.state = advance(stream.state, StreamEvent.RECEIVE_FIN)
        if stream.state is StreamState.ENDED:
            self._forget(stream)
        stream.sink.stream_ended()

    def _ping(self, flags: int, stream_id: int, value: int) -> None:
        if stream_id != SESSION_ID or flags not in (SYN, ACK):
            raise RemoteProtocolError("a ping that is neither question nor answer")
        if flags == SYN:
            self.sending.answer(frame_header(PING, ACK, SESSION_ID, value))
            self._sink.pinged()
        elif value != self._ping_value:
            raise RemoteProtocolError("the answer to a ping that was not sent")
        else:
            self._ping_value = None
            self._sink.ping_answered()

    def _go_away(self, flags: int, stream_id: int, code: int) -> None:
        if stream_id != SESSION_ID or flags or code > INTERNAL_ERROR:
            raise RemoteProtocolError("a go-away that means nothing")
        self.is_peer_going_away = True
        self._sink.go_away_received(code)

    # Books -------------------------------------------------------------------------------------------

    def _open_waiting(self) -> None:
        """Give ids to streams that wait, as many as the peer's backlog takes."""
        while self._unopened and self._unacknowledged < self._accept_backlog:
            stream = self._unopened.popleft()
            self._last_local_id += 2
            stream.id = self._last_local_id
            self.streams[stream.id] = stream
            self._unacknowledged += 1
            self.sending.queue(stream)

    def _forget(self, stream: MuxStream) -> None:
        """Take a stream that is over out of the table."""
        self.sending.drop(stream)
        if stream.id == NO_ID:
            self._unopened.remove(stream)
            return
        del self.streams[stream.id]
        if not stream.is_accepted:
            stream.is_accepted = True
            self._unacknowledged -= 1
            self._open_waiting()

    def __repr__(self) -> str:
        return f"<Session {len(self.streams)} streams, {len(self._unopened)} waiting, {self.sending!r}>"
