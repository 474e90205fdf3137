"""One fetch for all who wait, and nobody waits longer than told."""

import asyncio

import pytest

from gateway.fetches import Fetches
from sallyport.net.tasks import TaskSet
from tests.support.until import until


class Fetching:
    """A fetch that ends when it is told to."""

    def __init__(self) -> None:
        self.begun = 0
        self.failures: list[str] = []
        self.tasks = TaskSet(lambda name, error: self.failures.append(f"{name}: {error}"))
        self.fetches = Fetches(self.tasks, "thing")
        self.let_go = asyncio.Event()
        self.error: Exception | None = None

    async def fetch(self) -> None:
        self.begun += 1
        await self.let_go.wait()
        if self.error is not None:
            raise self.error


async def test_many_wait_for_one() -> None:
    stage = Fetching()
    waits = [stage.fetches.join("a", stage.fetch, wait_seconds=5) for _ in range(3)]
    assert "a" in stage.fetches
    stage.let_go.set()
    for wait in waits:
        await wait
    assert stage.begun == 1
    assert repr(stage.fetches) == "<Fetches of thing: 0 under way>"
    await stage.fetches.join("a", stage.fetch, wait_seconds=5)
    assert stage.begun == 2


async def test_a_wait_is_bounded_and_the_fetch_goes_on() -> None:
    stage = Fetching()
    await stage.fetches.join("a", stage.fetch, wait_seconds=0.01)
    assert "a" in stage.fetches
    stage.let_go.set()
    await until(lambda: "a" not in stage.fetches)


async def test_a_wait_may_be_dropped_or_cancelled() -> None:
    stage = Fetching()
    stage.fetches.join("a", stage.fetch, wait_seconds=5)

    async def wait() -> None:
        await stage.fetches.join("a", stage.fetch, wait_seconds=5)

    waiting = stage.tasks.spawn(wait(), name="waiter")
    await until(lambda: stage.begun == 1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert "a" in stage.fetches
    await stage.tasks.close()


async def test_a_failure_is_its_owners_and_not_the_waiters() -> None:
    stage = Fetching()
    stage.error = ValueError("why")
    wait = stage.fetches.join("a", stage.fetch, wait_seconds=5)
    stage.let_go.set()
    await wait
    await until(lambda: stage.failures == ["thing a: why"])


async def test_what_is_asked_for_as_a_fetch_ends_is_fetched_anew() -> None:
    stage = Fetching()
    stage.let_go.set()

    async def fetch_and_join() -> None:
        await stage.fetch()
        # Runs after the fetch has ended, and before anybody has been told.
        asyncio.get_running_loop().call_soon(lambda: stage.fetches.join("a", stage.fetch, wait_seconds=5))

    await stage.fetches.join("a", fetch_and_join, wait_seconds=5)
    await until(lambda: stage.begun == 2 and "a" not in stage.fetches)


async def test_keys_are_fetched_apart() -> None:
    stage = Fetching()
    stage.let_go.set()
    await stage.fetches.join("a", stage.fetch, wait_seconds=5)
    await stage.fetches.join("b", stage.fetch, wait_seconds=5)
    assert stage.begun == 2
