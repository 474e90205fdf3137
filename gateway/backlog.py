"""What waits for slow peers, of each sandbox: bytes for it, and bytes of it for its upstreams.

Each stream alone holds little: `limits.write_buffer_bytes`, and one read beyond it before its other side is paused. A
thousand of them hold half a gigabyte. So what paused ones hold is counted. While a sandbox has more than its limit,
nothing is read that has brought nothing yet, and a quarter above it nothing at all, on either side of its streams.
Nobody else's is touched.
"""

import sys
from collections.abc import Callable, Hashable, Iterable
from typing import Final
from weakref import WeakValueDictionary

from sallyport.net.bulk_turns import BulkReader

# Reading goes on an eighth below the limit, so that one read does not stop all of them again.
_ROOM_EIGHTHS: Final = 7
# Whose bytes have all been taken so far goes on up to so much above the limit, in parts of it.
_OVERDRAFT: Final = 4

_BACKLOG: Final = "backlog"

# Who reads for a sandbox now: everyone, or those alone that have brought nothing yet, or more than was taken.
type Readers = Callable[[bool], Iterable[BulkReader]]


class Backlog:
    """One sandbox's. Always: held is the sum of `_sizes`; is_over from when that passes the limit until there is room,
    and is_full from a quarter above the limit until it is down to the limit.

    A reader that begins while it is over waits too. Of those that wait the first is who has waited for longest, and
    before them all whose bytes were taken just now: so a program that reads one stream after the other, in the order in
    which it has opened them, does not wait for those that it has not come to.
    """

    __slots__ = (
        "__weakref__",
        "_call_soon",
        "_is_called",
        "_limit",
        "_most",
        "_readers",
        "_sizes",
        "held",
        "is_full",
        "is_over",
        "waiting",
    )

    def __init__(self, limit_bytes: int, readers: Readers, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._limit = limit_bytes
        self._most = limit_bytes + limit_bytes // _OVERDRAFT
        self._readers = readers
        self._call_soon = call_soon
        self._sizes: dict[Hashable, int] = {}
        # Who waits, the next one first, and whether only for as long as it is full.
        self.waiting: dict[BulkReader, bool] = {}
        self._is_called = False
        self.held = 0
        self.is_over = False
        self.is_full = False

    def hold(self, holder: Hashable, size: int) -> None:
        """Count what a slow peer has waiting, in the place of what was counted for it before."""
        self.held += size - self._sizes.get(holder, 0)
        self._sizes[holder] = size
        if self.held > self._limit and not self.is_over:
            self.is_over = True
            for reader in self._readers(False):
                self.wait(reader)
        if self.held > self._most and not self.is_full:
            self.is_full = True
            for reader in self._readers(True):
                self.waiting.setdefault(reader, True)
                reader.hold_reading(_BACKLOG)

    def release(self, holder: Hashable) -> None:
        """Count it no longer: it was taken, or is gone."""
        self.held -= self._sizes.pop(holder, 0)
        if self.is_full and self.held <= self._limit:
            self.is_full = False
            self._go_on()
        if self.is_over and self.held * 8 <= self._limit * _ROOM_EIGHTHS:
            self.is_over = False
            self._go_on()

    def wait(self, reader: BulkReader) -> None:
        """Let a reader wait until there is room, and it is its turn."""
        self.waiting[reader] = False
        reader.hold_reading(_BACKLOG)

    def leave(self, reader: BulkReader) -> None:
        """Forget a reader that reads for this sandbox no more; what held it is for whoever has it now."""
        self.waiting.pop(reader, None)

    def read_on(self, reader: BulkReader) -> None:
        """Let a reader go on whose bytes were taken just now."""
        if reader in self.waiting and self.held <= self._most:
            del self.waiting[reader]
            reader.resume_reading(_BACKLOG)

    def _go_on(self) -> None:
        if self.waiting and not self._is_called:
            self._is_called = True
            self._call_soon(self._next)

    def _next(self) -> None:
        self._is_called = False
        if self.is_full:
            return
        able = (reader for reader, is_brief in self.waiting.items() if is_brief or not self.is_over)
        reader = next(able, None)
        if reader is not None:
            # One in a turn of the loop: what it reads may be too much again, and it is the first in line that reads.
            del self.waiting[reader]
            reader.resume_reading(_BACKLOG)
            self._go_on()

    def __repr__(self) -> str:
        state = " full" if self.is_full else " over" if self.is_over else ""
        return f"<Backlog{state}: {self.held} bytes, {len(self.waiting)} readers wait>"


class Backlogs:
    """Each sandbox's, for as long as one of its streams knows it."""

    def __init__(
        self,
        limit_bytes: int = sys.maxsize,
        readers: Callable[[str, bool], Iterable[BulkReader]] = lambda *_: (),
        call_soon: Callable[[Callable[[], None]], object] = lambda _: None,
    ) -> None:
        """readers returns who reads for a sandbox now: everyone, or not."""
        self._limit = limit_bytes
        self._readers = readers
        self._call_soon = call_soon
        self._known: WeakValueDictionary[str, Backlog] = WeakValueDictionary()
        # Of streams that are nobody's yet: they carry nothing.
        self.nobody = Backlog(sys.maxsize, lambda _: (), call_soon)

    def of(self, sandbox_id: str) -> Backlog:
        """Return a sandbox's backlog. Whoever counts in it keeps it."""
        backlog = self._known.get(sandbox_id)
        if backlog is None:
            backlog = Backlog(self._limit, lambda everyone: self._readers(sandbox_id, everyone), self._call_soon)
            self._known[sandbox_id] = backlog
        return backlog

    @property
    def over(self) -> int:
        """How many sandboxes have more than they may."""
        return sum(backlog.is_over for backlog in self._known.values())

    def __repr__(self) -> str:
        return f"<Backlogs of {len(self._known)} sandboxes>"
