"""One stream as its session sees it: two halves, two windows, what waits to be sent. Pure data; session.py moves it."""

from collections import deque
from typing import Final, Protocol

from sallyport.wire.yamux.frames import INITIAL_WINDOW_BYTES
from sallyport.wire.yamux.stream_state import StreamState
from sallyport.wire.yamux.window import ReceiveWindow

# The id of a stream of ours that has not been given one: it waits for its place in the peer's accept backlog.
NO_ID: Final = 0


class StreamSink(Protocol):
    """What a session calls for one stream."""

    def stream_data(self, data: bytes) -> None:
        """Bytes arrived; they count as held until the session is told that they were delivered."""

    def stream_ended(self) -> None:
        """The peer has sent FIN."""

    def stream_reset(self) -> None:
        """The peer has sent RST; the stream is gone and nothing more is called."""

    def stream_sent(self) -> None:
        """Bytes that waited have become frames."""

    def stream_finished(self) -> None:
        """FIN has gone out and there is nothing more to send."""


class MuxStream:
    """One stream of a session.

    Always: unsent_bytes is the sum of `unsent`, less `offset`, the bytes of its first piece that have gone.
    """

    __slots__ = (
        "credit",
        "credit_due",
        "fin_wanted",
        "id",
        "is_accepted",
        "is_local",
        "is_queued",
        "is_updating",
        "offset",
        "owes_ack",
        "owes_syn",
        "sink",
        "state",
        "unsent",
        "unsent_bytes",
        "window",
    )

    def __init__(self, sink: StreamSink | None, *, is_local: bool) -> None:
        self.sink = sink
        self.id = NO_ID
        self.is_local = is_local
        self.is_accepted = not is_local  # by the peer, if it is ours
        self.state = StreamState.OPEN
        self.window = ReceiveWindow(INITIAL_WINDOW_BYTES)
        self.credit = INITIAL_WINDOW_BYTES  # bytes that may still be sent
        self.credit_due = 0  # credit for the peer that has not gone out
        self.unsent: deque[bytes] = deque()
        self.offset = 0
        self.unsent_bytes = 0
        self.fin_wanted = False
        self.owes_syn = is_local
        self.owes_ack = not is_local
        self.is_queued = False  # stands in the session's queue of writers
        self.is_updating = False  # stands in the session's list of window updates

    def __repr__(self) -> str:
        return f"<MuxStream {self.id} {self.state.value}: {self.unsent_bytes} bytes unsent>"
