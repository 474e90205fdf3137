"""What sockets bring, so much of it in a turn of the loop.

libuv reads one socket up to 32 times, each time as much as 256 KiB, before it looks at the next, and all that are ready
in one turn: two hundred that bring all they can hold up everybody else for a second. So do eight that bring chunks,
frames or TLS records of a byte each, and a hundred whose 60 KiB are dear to read.
"""

from collections.abc import Callable, Hashable
from typing import Final, Protocol

from sallyport.net.clock import read_clock
from sallyport.net.turns import Turns

# What is shorter is taken at once: a fifth of a millisecond of work, whatever is in it.
TIMED_BYTES: Final = 1024
# As much counts as a read, however quickly it is taken.
BULK_BYTES: Final = 64 * 1024
# 4 MiB: a few milliseconds of work, and more than one socket alone brings before it is empty.
TURN_READS: Final = 16
# What takes as long counts as a read, however short it is.
READ_SECONDS: Final = 0.001
# A turn that has had twice its reads takes nothing more: what arrives waits with whoever has read it.
_MOST_TURNS: Final = 2

BULK: Final = "bulk"


class BulkReader(Protocol):
    """Who reads a socket, and may hold it for several reasons."""

    def hold_reading(self, reason: str) -> None:
        """Read nothing until every reason is gone."""

    def resume_reading(self, reason: str) -> None:
        """Drop one reason; nothing happens where it is not one, or the socket is gone."""


class TurnReader(Hashable, Protocol):
    """Who may have to wait with reading, or with what was read, for a later turn of the loop."""

    @property
    def turn_owner(self) -> object:
        """Whose reading it is: owners take turns."""

    def await_turn(self, late: int) -> bool:
        """Read nothing until go_on(); so many bytes wait. False where its socket is not, or no longer, its to hold."""

    def go_on(self, late: bytes) -> None:
        """Take what was read too late for its turn, if anything was and it is still of use, and read on."""


class BulkTurns:
    """Counts what is read in this turn of the loop, and has whoever goes beyond turn_reads wait for a later one.

    Always: each that waits is in the line once, and in `_late` with its owner there, what it counts as, and what it has
    read too late.
    """

    def __init__(self, call_soon: Callable[[Callable[[], None]], object], turn_reads: int = TURN_READS) -> None:
        self._call_soon = call_soon
        self._turn_reads = turn_reads
        self.reads = 0.0  # in this turn
        self._is_called = False
        self._line: Turns[object, TurnReader] = Turns(at_once=1, each=1)
        self._late: dict[TurnReader, tuple[object, float, bytes]] = {}

    def take(self, reader: TurnReader, data: bytes, take: Callable[[bytes], None]) -> None:
        """Have a reader take what it has read: now, or where this turn is spent when it goes on.

        For what takes long, and for all of a reader's that is not shorter than TIMED_BYTES.
        """
        if self.is_spent or reader in self._late:
            self.wait(reader, 1.0, data)
            return
        reads = self.time(take, data)
        if self.reads >= self._turn_reads:
            self.wait(reader, reads)

    def took(self, reader: TurnReader) -> None:
        """Note that BULK_BYTES or more have gone by, at hardly any cost."""
        self.reads += 1
        self._call()
        if self.reads >= self._turn_reads:
            self.wait(reader, 1.0)

    def time(self, take: Callable[[bytes], None], data: bytes) -> float:
        """Have something taken in this turn; return as how many reads that counted."""
        before, began_at = self.reads, read_clock()
        take(data)
        return self.count(before, read_clock() - began_at, len(data))

    def count(self, before: float, seconds: float, size: int) -> float:
        """Note what has been taken since there were `before` reads, and how long it took; return as how many it counts.

        What was noted within it is part of it, not more.
        """
        reads = seconds / READ_SECONDS
        if size >= BULK_BYTES:
            reads += 1
        if before + reads > self.reads:
            self.reads = before + reads
        if self.reads >= 1:  # less is not worth a call, and too little to matter in another turn
            self._call()
        return reads

    @property
    def is_spent(self) -> bool:
        """Whether this turn takes nothing more."""
        return self.reads >= _MOST_TURNS * self._turn_reads

    def wait(self, reader: TurnReader, reads: float, late: bytes = b"") -> None:
        """Have a reader go on in a later turn, as what counts as so many reads."""
        known = self._late.get(reader)
        if known is not None:
            owner, reads, before = known
            late = before + late
            self._late[reader] = (owner, reads, late)
            reader.await_turn(len(late))
        elif reader.await_turn(len(late)):
            owner = reader.turn_owner
            self._late[reader] = (owner, reads, late)
            self._line.enter(owner, reader)
            self._call()

    def leave(self, reader: TurnReader) -> None:
        """Have a reader wait no more, whose socket is gone; nothing happens where it does not."""
        known = self._late.pop(reader, None)
        if known is not None:
            self._line.leave(known[0], reader)

    def late_bytes(self, reader: TurnReader) -> int:
        """How much a reader has read and not taken yet."""
        known = self._late.get(reader)
        return 0 if known is None else len(known[2])

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._late)

    def _call(self) -> None:
        if not self._is_called:
            self._is_called = True
            self._call_soon(self._next)

    def _next(self) -> None:
        self.reads = taken = 0.0
        while max(taken, self.reads) < self._turn_reads and (turn := self._line.take()) is not None:
            owner, reader = turn
            self._line.done(owner)
            _, reads, late = self._late.pop(reader)
            if late:
                self.time(reader.go_on, late)
            else:
                # It reads when the loop next looks at its socket: taken for what it was before.
                taken += max(reads, 1.0)
                reader.go_on(late)
        self._is_called = False
        if self._late or self.reads:
            self._call()

    def __repr__(self) -> str:
        return f"<BulkTurns: {len(self._late)} wait>"
