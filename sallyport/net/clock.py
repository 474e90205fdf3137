"""One coarse clock and one timer wheel for every timeout of a process.

A timer object per request costs more than the request (docs/performance.md). Here a deadline is an
attribute: setting it later costs one store, and the wheel looks at an object only when the slot it was
filed under comes round. Deadlines are therefore kept to within two ticks, which is what idle, head and
body timeouts need.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol

TICK_SECONDS: Final = 0.25
# No object is filed further ahead, and so none that is closed and forgotten stays in a slot, with all that it holds,
# for longer. What has a later deadline is filed again on the way: one look in this time.
FARTHEST_SECONDS: Final = 5.0


# The loop's own time has the loop's resolution (uvloop: a millisecond); what is measured is read here.
read_clock: Final = time.perf_counter
# Unix time now, for what is written down; the data path takes the coarse Clock.wall.
read_wall: Final = time.time  # noqa: TID251  this is the clock


class Timed(Protocol):
    """What the wheel watches. deadline_at is loop time in seconds; NEVER when nothing is awaited."""

    deadline_at: float
    filed_at: float

    def expire(self) -> None:
        """The deadline has passed."""


NEVER: Final = float("inf")


class Clock:
    """Coarse time: `now` is the loop's monotonic time, `wall` is unix time, both as of the last tick.

    `wall` jumps when the machine's clock does; nothing but token and credential expiry reads it.
    """

    __slots__ = ("_loop", "_observe_lag", "_slots", "_timer", "now", "wall")

    def __init__(self, loop: asyncio.AbstractEventLoop, observe_lag: Callable[[float], object] | None = None) -> None:
        """observe_lag hears at each tick how late it came, in seconds: what any byte would have waited for the loop."""
        self._loop = loop
        self._observe_lag = observe_lag
        self._slots: dict[int, list[Timed]] = {}
        self.now = loop.time()
        self.wall = time.time()  # noqa: TID251  this is the clock
        self._timer = loop.call_later(TICK_SECONDS, self._tick)

    def watch(self, timed: Timed, deadline_at: float) -> None:
        """Set the deadline of timed; expire() is called once after it, unless it is moved first."""
        timed.deadline_at = deadline_at
        if deadline_at < timed.filed_at:
            self.file(timed, deadline_at)

    def close(self) -> None:
        """Stop ticking; nothing expires any more."""
        self._timer.cancel()
        self._slots.clear()

    def file(self, timed: Timed, at: float) -> None:
        """Have timed looked at by then; for watch(), and for who has set a deadline by itself, as watch() does."""
        # Never into a slot that has been emptied already.
        timed.filed_at = at = max(min(at, self.now + FARTHEST_SECONDS), self.now)
        slot = _slot_of(at)
        entries = self._slots.get(slot)
        if entries is None:
            self._slots[slot] = [timed]
        else:
            entries.append(timed)

    def _tick(self) -> None:
        due_at = self.now + TICK_SECONDS
        before = int(self.now / TICK_SECONDS)
        self.now = self._loop.time()
        if self._observe_lag is not None:
            self._observe_lag(max(self.now - due_at, 0.0))
        self.wall = time.time()  # noqa: TID251  this is the clock
        self._timer = self._loop.call_later(TICK_SECONDS, self._tick)
        for slot in range(before + 1, int(self.now / TICK_SECONDS) + 1):
            for timed in self._slots.pop(slot, ()):
                # An entry that was filed again, for an earlier time, is left over here; looking at it would file it
                # once more, and each deadline brought forward would stay for as long as its owner lives.
                if timed.filed_at != NEVER and _slot_of(timed.filed_at) == slot:
                    self._look_at(timed)

    def _look_at(self, timed: Timed) -> None:
        timed.filed_at = NEVER
        if timed.deadline_at <= self.now:
            timed.deadline_at = NEVER
            try:
                timed.expire()
            except Exception as error:
                # One owner's defect costs no other its deadline.
                self._loop.call_exception_handler({"message": "expire() failed", "exception": error})
        elif timed.deadline_at != NEVER:
            self.file(timed, timed.deadline_at)


def _slot_of(at: float) -> int:
    return int(at / TICK_SECONDS) + 1
