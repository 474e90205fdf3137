"""What a tunnel may use and how long it waits; docs/tunnel-protocol.md says the same to the other side."""

from typing import Final

from sallyport.wire.yamux.session import ACCEPT_BACKLOG, MAX_STREAMS
from sallyport.wire.yamux.window import MAX_WINDOW_BYTES

# What a close handshake may take; after it the transport is aborted.
CLOSE_SECONDS: Final = 2.0
# A stream that was closed here while the peer keeps its half open and silent; TCP waits as long (tcp_fin_timeout).
ORPHAN_SECONDS: Final = 60.0
# What one turn of the loop writes at most, so that one tunnel's bulk does not hold up all others.
FLUSH_BYTES: Final = 256 * 1024
# Control messages and pongs pass by the transport's pause; a peer that reads none of them is gone.
MAX_UNREAD_BYTES: Final = 1024 * 1024
# Bytes the kernel may hold that it has not sent: the queue that a small frame cannot overtake.
NOT_SENT_BYTES: Final = 128 * 1024


# A longer read is taken in slices, and what is left after so long waits for the next turn of the loop: a megabyte of
# the smallest frames would hold up all other tunnels for a second.
SLICE_BYTES: Final = 32 * 1024
TURN_SECONDS: Final = 0.005
# At which pieces of streams it is looked at the clock: each so many, for a busy tunnel's read has fewer that cost
# anything; and each so large, for the head that ends in it may take milliseconds by itself.
TURN_PIECES: Final = 8
LARGE_PIECE_BYTES: Final = 1024


class TunnelLimits:
    """What one tunnel may use (docs/tunnel-protocol.md)."""

    __slots__ = ("accept_backlog", "dead_seconds", "max_streams", "max_window_bytes", "ping_seconds")

    def __init__(
        self,
        *,
        max_streams: int = MAX_STREAMS,
        accept_backlog: int = ACCEPT_BACKLOG,
        max_window_bytes: int = MAX_WINDOW_BYTES,
        ping_seconds: float = 10.0,
        dead_seconds: float = 30.0,
    ) -> None:
        self.max_streams = max_streams
        self.accept_backlog = accept_backlog
        self.max_window_bytes = max_window_bytes
        self.ping_seconds = ping_seconds
        self.dead_seconds = dead_seconds


DEFAULT_LIMITS: Final = TunnelLimits()
