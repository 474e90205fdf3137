"""Whose work is next, where few things can be under way and one owner must not have all of them."""

import asyncio
import contextlib
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Hashable
from typing import Protocol

from sallyport.net.clock import read_clock


class Turns[K, T: Hashable]:
    """Owners take turns; each has at most `each` under way, all together at most `at_once`. First come, first served
    among the work of one owner.

    Always: `_waiting` has no empty queue, in the order in which owners are served; `_under_way` has no count of 0.
    """

    __slots__ = ("_at_once", "_each", "_under_way", "_waiting")

    def __init__(self, *, at_once: int, each: int) -> None:
        self._at_once = at_once
        self._each = each
        # Ordered ones: a plain dict would look for the first among those that are gone.
        self._waiting: dict[K, OrderedDict[T, None]] = {}
        self._under_way: Counter[K] = Counter()

    def enter(self, owner: K, work: T) -> None:
        """Let a piece of work wait for its turn."""
        self._waiting.setdefault(owner, OrderedDict())[work] = None

    def leave(self, owner: K, work: T) -> None:
        """Forget a piece of work that is to be done no more; nothing happens where it does not wait."""
        waiting = self._waiting.get(owner)
        if waiting is not None and work in waiting:
            del waiting[work]
            if not waiting:
                del self._waiting[owner]

    def take(self) -> tuple[K, T] | None:
        """Take what is next, which is under way until done(); None while nothing may begin."""
        if self._under_way.total() >= self._at_once:
            return None
        for owner in self._waiting:
            if self._under_way[owner] < self._each:
                break
        else:
            return None
        waiting = self._waiting.pop(owner)
        work, _ = waiting.popitem(last=False)
        if waiting:
            self._waiting[owner] = waiting  # behind everybody else
        self._under_way[owner] += 1
        return owner, work

    def done(self, owner: K) -> None:
        """A piece of this owner's work is over."""
        self._under_way[owner] -= 1
        if not self._under_way[owner]:
            del self._under_way[owner]

    @property
    def waiting(self) -> int:
        """Pieces of work that have not begun."""
        return sum(map(len, self._waiting.values()))

    def __repr__(self) -> str:
        return f"<Turns {self._under_way.total()} under way, {self.waiting} waiting, of {len(self._waiting)} owners>"


class Waiter(Hashable, Protocol):
    """Who waits for a turn of the event loop."""

    def take_turn(self) -> None:
        """Do as much as one turn allows; whoever has more to do enters the line again."""


class LoopTurns[K]:
    """One line of a process: in a turn of the event loop one of those that wait goes on, and more of them until
    `seconds` are used. Owners take turns.

    So what they do in a turn of the loop does not grow with their number.
    """

    __slots__ = ("_call_soon", "_is_called", "_read_clock", "_seconds", "_turns")

    def __init__(
        self,
        call_soon: Callable[[Callable[[], None]], object],
        seconds: float = 0.0,
        read_clock: Callable[[], float] = read_clock,
    ) -> None:
        self._call_soon = call_soon
        self._seconds = seconds
        self._read_clock = read_clock
        self._turns: Turns[K, Waiter] = Turns(at_once=1, each=1)
        self._is_called = False

    def enter(self, owner: K, waiter: Waiter) -> None:
        """Let it wait for its turn; whoever waits already keeps its place."""
        self._turns.enter(owner, waiter)
        self._call()

    def claim(self) -> bool:
        """Let who asks go on at once, without waiting: one in a turn of the loop, and only where nobody waits."""
        return self._call()

    def _call(self) -> bool:
        if self._is_called:
            return False
        self._is_called = True
        self._call_soon(self._next)
        return True

    def leave(self, owner: K, waiter: Waiter) -> None:
        """Let it wait no more; nothing happens where it does not."""
        self._turns.leave(owner, waiter)

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self._turns.waiting

    def _next(self) -> None:
        turn = self._turns.take()
        if turn is None:
            self._is_called = False
            return
        self._call_soon(self._next)  # first: whatever becomes of this one, the others have their turns
        ends_at = self._read_clock() + self._seconds
        while turn is not None:
            owner, waiter = turn
            self._turns.done(owner)
            waiter.take_turn()
            turn = self._turns.take() if self._read_clock() < ends_at else None

    def __repr__(self) -> str:
        return f"<LoopTurns: {self.waiting} wait>"


class Gate[K]:
    """Lets coroutines pass by turns. One per event loop."""

    __slots__ = ("_turns",)

    def __init__(self, *, at_once: int, each: int) -> None:
        self._turns: Turns[K, asyncio.Future[None]] = Turns(at_once=at_once, each=each)

    @contextlib.asynccontextmanager
    async def turn(self, owner: K) -> AsyncIterator[None]:
        """Wait until it is this owner's turn, which lasts as long as the block."""
        begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns.enter(owner, begun)
        self._begin()
        try:
            await begun
            yield
        finally:
            if not begun.cancelled():
                self._turns.done(owner)
                self._begin()

    def _begin(self) -> None:
        while (turn := self._turns.take()) is not None:
            owner, begun = turn
            if begun.cancelled():
                self._turns.done(owner)  # it waits no more
            else:
                begun.set_result(None)

    def __repr__(self) -> str:
        return f"<Gate: {self._turns!r}>"
