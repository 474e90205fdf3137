"""Whose work is next, where few things can be under way and one owner must not have all of them."""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator


class Turns[K, T]:
    """Owners take turns; each has at most `each` under way, all together at most `at_once`. First come, first served
    among the work of one owner.

    Always: `_waiting` has no empty queue, in the order in which owners are served; `_under_way` has no count of 0.
    """

    __slots__ = ("_at_once", "_each", "_under_way", "_waiting")

    def __init__(self, *, at_once: int, each: int) -> None:
        self._at_once = at_once
        self._each = each
        self._waiting: dict[K, deque[T]] = {}
        self._under_way: Counter[K] = Counter()

    def enter(self, owner: K, work: T) -> None:
        """Let a piece of work wait for its turn."""
        self._waiting.setdefault(owner, deque()).append(work)

    def take(self) -> tuple[K, T] | None:
        """Take what is next, which is under way until done(); None while nothing may begin."""
        if self._under_way.total() >= self._at_once:
            return None
        owner = next((owner for owner in self._waiting if self._under_way[owner] < self._each), None)
        if owner is None:
            return None
        waiting = self._waiting.pop(owner)
        work = waiting.popleft()
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
