"""Fetches under way: one at a time for each key, however many wait, and nobody waits longer than told."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator

from sallyport.net.tasks import TaskSet


class Fetches:
    """Start what is fetched, and let others join in. A fetch tells its result by what it changes, not by a value."""

    def __init__(self, tasks: TaskSet, name: str) -> None:
        self._tasks = tasks
        self._name = name
        self._running: dict[str, asyncio.Task[None]] = {}

    def join(
        self, key: str, fetch: Callable[[], Coroutine[object, object, None]], *, wait_seconds: float
    ) -> Awaitable[None]:
        """Begin to fetch key unless that is under way; what is returned may be awaited or dropped, and never raises."""
        task = self._running.get(key)
        if task is None or task.done():  # what is over has seen nothing of what has happened since
            task = self._running[key] = self._tasks.spawn(fetch(), name=f"{self._name} {key}")
            # By callback, not in the coroutine: a task cancelled before its first step never runs its finally.
            task.add_done_callback(lambda ended: self._ended(key, ended))
        return _BoundedWait(task, wait_seconds)

    def _ended(self, key: str, task: asyncio.Task[None]) -> None:
        if self._running.get(key) is task:
            del self._running[key]

    def __contains__(self, key: str) -> bool:
        return key in self._running

    def __repr__(self) -> str:
        return f"<Fetches of {self._name}: {len(self._running)} under way>"


class _BoundedWait:
    """Waits for a task when it is awaited; a coroutine would have to be."""

    __slots__ = ("_seconds", "_task")

    def __init__(self, task: asyncio.Task[None], seconds: float) -> None:
        self._task = task
        self._seconds = seconds

    def __await__(self) -> Generator[object]:
        return self._wait().__await__()

    async def _wait(self) -> None:
        # Leaves the task to the others, whatever becomes of this waiter; its failure is its owner's to hear of.
        await asyncio.wait({self._task}, timeout=self._seconds)
