"""How many bytes a process may hold for streams that do not take them.

Each stream's window bounds what it alone can make us hold; with thousands of streams the sum would not be bounded. So
all streams of a process share a budget: above its limit nobody gets credit back, and should what is already granted
arrive all the same, the stream that holds most is reset. Each tunnel has a share of it, a budget inside the budget:
what one sandbox does not take holds up and resets its own streams and no other's.
"""

from typing import Final, Protocol

# For a process that is given nothing else. One stream that is not read holds at most its window, 4 MiB.
DEFAULT_BUDGET_BYTES: Final = 64 * 1024 * 1024
# What was granted before the limit was reached may still come; this much of it is taken, in parts of the limit.
_OVERDRAFT: Final = 4


class Holder(Protocol):
    """A stream, as the budget knows it."""

    def release_credit(self) -> None:
        """Return what was withheld: the budget has room again."""

    def evict(self) -> None:
        """End now: nobody holds more, and the process holds too much. Releases all it holds."""


class BufferBudget:
    """Bytes received and not taken, of every stream of the process, or of one tunnel as a share of the whole.

    Always: held is the sum of `_holders`, which has no entry of 0; a share holds the same of its whole.
    """

    __slots__ = ("_evict_above", "_holders", "_whole", "_withheld", "held", "limit")

    def __init__(self, limit_bytes: int = DEFAULT_BUDGET_BYTES, whole: "BufferBudget | None" = None) -> None:
        self.limit: int = limit_bytes if whole is None else min(limit_bytes, whole.limit)
        self.held = 0
        self._whole = whole
        self._evict_above = self.limit + self.limit // _OVERDRAFT
        self._holders: dict[Holder, int] = {}
        self._withheld: dict[Holder, None] = {}

    @property
    def is_over(self) -> bool:
        """Whether no credit is returned now."""
        return self.held > self.limit or (self._whole is not None and self._whole.is_over)

    def has_room_for(self, more: int) -> bool:
        """Whether a window may grow by so much: half of the budget is kept for those that do not."""
        has_room = (self.held + more) * 2 <= self.limit
        return has_room and (self._whole is None or self._whole.has_room_for(more))

    def hold(self, holder: Holder, count: int) -> None:
        """Count bytes that a stream keeps; may end the stream that keeps most."""
        self.held += count
        self._holders[holder] = self._holders.get(holder, 0) + count
        if self._whole is not None:
            self._whole.hold(self, count)
        while self.held > self._evict_above:
            self.evict()

    def release(self, holder: Holder, count: int) -> None:
        """Count bytes that a stream keeps no longer."""
        was_over = self.held > self.limit
        self.held -= count
        left = self._holders[holder] - count
        if left:
            self._holders[holder] = left
        else:
            del self._holders[holder]
        if self._whole is not None:
            self._whole.release(self, count)
        if was_over and self.held <= self.limit:
            self.release_credit()

    def withhold(self, holder: Holder) -> None:
        """Call the stream's release_credit once the budget has room."""
        self._withheld[holder] = None
        if self._whole is not None and self._whole.is_over:
            self._whole.withhold(self)

    def forget(self, holder: Holder) -> None:
        """Take a stream that has ended out of the books."""
        self._withheld.pop(holder, None)
        held = self._holders.get(holder, 0)
        if held:
            self.release(holder, held)

    def close(self) -> None:
        """End a share whose streams have ended."""
        if self._whole is not None:
            self._whole.forget(self)

    # What the whole calls of a share

    def release_credit(self) -> None:
        """Return what was withheld, unless the other limit forbids it still."""
        if self._whole is not None and self._whole.is_over:
            if self._withheld:
                self._whole.withhold(self)
        elif self.held <= self.limit and self._withheld:
            waiting, self._withheld = self._withheld, {}
            for each in waiting:
                each.release_credit()

    def evict(self) -> None:
        """End the stream that keeps most."""
        max(self._holders, key=self._holders.__getitem__).evict()

    def __repr__(self) -> str:
        return f"<BufferBudget {self.held} of {self.limit} bytes held by {len(self._holders)} streams>"
