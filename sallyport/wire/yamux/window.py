"""Flow control: how many bytes may still come on one stream, and when the right to send more goes back."""

from typing import Final

from sallyport.wire.errors import RemoteProtocolError

# Windows double up to here; 4 MiB in a round trip of 50 ms is 80 MB/s, which is more than one stream needs.
MAX_WINDOW_BYTES: Final = 4 * 1024 * 1024


class ReceiveWindow:
    """Credit granted to the peer on one stream.

    Always: available + bytes held here + _unreturned == size. "Held" is whatever was received and not yet
    `delivered`. Credit goes back when bytes LEAVE this process, not when they arrive; that is how a slow upstream
    slows the sandbox and not our memory.
    """

    __slots__ = ("_returned_at", "_unreturned", "available", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.available = size
        self._unreturned = 0
        self._returned_at: float | None = None

    def received(self, count: int) -> None:
        """Note what came; raises RemoteProtocolError when it is more than was granted."""
        if count > self.available:
            raise RemoteProtocolError(f"{count} bytes sent into a window of {self.available}")
        self.available -= count

    def delivered(self, count: int) -> bool:
        """Note bytes passed on; say whether credit is due: small returns wait for half a window."""
        self._unreturned += count
        return self._unreturned * 2 >= self.size

    def take_credit(self) -> int:
        """Return what the peer may be told now; it counts as granted from here on."""
        credit, self._unreturned = self._unreturned, 0
        self.available += credit
        return credit

    def grow(self, now: float, round_trip: float, limit: int) -> int:
        """Double the window if it drains within two round trips; return the additional credit.

        Called when credit is due, before take_credit: half a window since the last time. limit is what size may become.
        """
        returned_at, self._returned_at = self._returned_at, now
        if returned_at is None or now - returned_at > round_trip or self.size >= limit:
            return 0
        more = min(self.size, limit - self.size)
        self.size += more
        self.available += more
        return more

    def __repr__(self) -> str:
        return f"<ReceiveWindow {self.available} of {self.size} bytes>"
