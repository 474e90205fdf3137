"""Large reads of many sockets, so many in a turn of the loop.

libuv reads one socket up to 32 times, each time as much as 256 KiB, before it looks at the next: two hundred of them
that bring all they can hold up everybody else for a second. So do eight that bring chunks or frames of a byte each.
"""

from collections.abc import Callable
from typing import Final, Protocol

# What is shorter is no bulk: it has emptied its socket.
BULK_BYTES: Final = 64 * 1024
# 4 MiB: a few milliseconds of work, and more than one socket alone brings before it is empty.
TURN_READS: Final = 16
# What one of them takes at most. One that takes longer counts as so many.
READ_SECONDS: Final = 0.001

_BULK: Final = "bulk"


class BulkReader(Protocol):
    """Who reads a socket, and may hold it for several reasons."""

    def hold_reading(self, reason: str) -> None:
        """Read nothing until every reason is gone."""

    def resume_reading(self, reason: str) -> None:
        """Drop one reason; nothing happens where it is not one, or the socket is gone."""


class BulkTurns:
    """Counts the large reads of this turn of the loop, and holds whoever goes beyond turn_reads until a later one."""

    def __init__(self, call_soon: Callable[[Callable[[], None]], object], turn_reads: int = TURN_READS) -> None:
        self._call_soon = call_soon
        self._turn_reads = turn_reads
        self._reads = 0  # in this turn
        self._is_called = False
        self.waiting: dict[BulkReader, int] = {}  # those held, whose turn is first; with what they count as

    def took(self, reader: BulkReader, seconds: float) -> None:
        """Note that a reader has just taken BULK_BYTES or more, and how long what became of them took."""
        reads = 1 + int(seconds / READ_SECONDS)
        self._reads += reads
        if not self._is_called:
            self._is_called = True
            self._call_soon(self._next)
        if self._reads >= self._turn_reads:
            reader.hold_reading(_BULK)
            self.waiting[reader] = reads

    def _next(self) -> None:
        self._reads = 0
        left = self._turn_reads
        while self.waiting and left > 0:
            reader = next(iter(self.waiting))
            left -= self.waiting.pop(reader)
            reader.resume_reading(_BULK)
        self._is_called = bool(self.waiting)
        if self._is_called:
            self._call_soon(self._next)

    def __repr__(self) -> str:
        return f"<BulkTurns: {len(self.waiting)} wait>"
