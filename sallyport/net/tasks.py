"""The one place that spawns tasks. Every task has an owner, a name, and is awaited at close."""

import asyncio
from collections.abc import Callable, Coroutine


class TaskSet:
    """The tasks of one owner. on_failure(name, error) hears of a task that failed; nobody else would."""

    def __init__(self, on_failure: Callable[[str, BaseException], None]) -> None:
        self._on_failure = on_failure
        self._tasks: set[asyncio.Task[object]] = set()

    def spawn[T](self, coroutine: Coroutine[object, object, T], *, name: str) -> asyncio.Task[T]:
        """Start coroutine as a task of this set."""
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    async def close(self) -> None:
        """Cancel what still runs and wait for its end."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            # Not one `await task` after the other: who cancels close() would cancel the task instead, and not be heard.
            await asyncio.wait(tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def _finished(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._on_failure(task.get_name(), error)
