"""Tasks have an owner: failures are told, and close waits for the end."""

import asyncio

import pytest

from sallyport.net.tasks import TaskSet


class Failures:
    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def __call__(self, name: str, error: BaseException) -> None:
        self.told.append((name, str(error)))


@pytest.fixture
def failures() -> Failures:
    return Failures()


@pytest.fixture
def tasks(failures: Failures) -> TaskSet:
    return TaskSet(failures)


async def fails(message: str) -> None:
    raise ValueError(message)


async def returns(value: int) -> int:
    return value


async def until_cancelled(events: list[str], *, hold: asyncio.Event | None = None) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        events.append("ending")
        if hold is not None:
            await hold.wait()
        events.append("ended")


async def turns(number: int = 3) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def test_a_task_has_a_name_and_a_result(tasks: TaskSet) -> None:
    task = tasks.spawn(returns(7), name="seven")
    assert (task.get_name(), len(tasks)) == ("seven", 1)
    assert await task == 7
    await turns()
    assert len(tasks) == 0


async def test_a_failure_is_told_once(tasks: TaskSet, failures: Failures) -> None:
    tasks.spawn(fails("broken"), name="one")
    await turns()
    assert failures.told == [("one", "broken")]
    assert len(tasks) == 0


async def test_a_cancelled_task_is_no_failure(tasks: TaskSet, failures: Failures) -> None:
    task = tasks.spawn(until_cancelled([]), name="one")
    await turns()
    task.cancel()
    await turns()
    assert failures.told == []
    assert len(tasks) == 0


async def test_close_cancels_and_waits_for_the_end(tasks: TaskSet) -> None:
    events: list[str] = []
    tasks.spawn(until_cancelled(events), name="one")
    tasks.spawn(until_cancelled(events), name="two")
    tasks.spawn(returns(1), name="done already")
    await turns()
    await tasks.close()
    assert sorted(events) == ["ended", "ended", "ending", "ending"]
    assert len(tasks) == 0


async def test_close_waits_for_a_task_that_has_to_clean_up(tasks: TaskSet) -> None:
    events: list[str] = []
    hold = asyncio.Event()
    tasks.spawn(until_cancelled(events, hold=hold), name="slow")
    await turns()
    async with asyncio.TaskGroup() as group:
        closing = group.create_task(tasks.close())
        await turns()
        assert not closing.done()
        hold.set()
    assert events == ["ending", "ended"]


async def test_a_failure_while_closing_is_told_and_does_not_stop_the_rest(tasks: TaskSet, failures: Failures) -> None:
    async def fails_at_the_end() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("at the end")

    events: list[str] = []
    tasks.spawn(fails_at_the_end(), name="one")
    tasks.spawn(until_cancelled(events), name="two")
    await turns()
    await tasks.close()
    assert failures.told == [("one", "at the end")]
    assert events == ["ending", "ended"]


async def test_close_of_nothing(tasks: TaskSet) -> None:
    await tasks.close()
    await tasks.close()


async def test_close_can_be_cancelled_itself(tasks: TaskSet) -> None:
    hold = asyncio.Event()
    tasks.spawn(until_cancelled([], hold=hold), name="slow")
    await turns()
    outcome: list[str] = []

    async def close() -> None:
        try:
            await tasks.close()
            outcome.append("closed")
        except asyncio.CancelledError:
            outcome.append("cancelled")
            raise

    async with asyncio.TaskGroup() as group:
        closing = group.create_task(close())
        await turns()
        closing.cancel()
        await turns()
        hold.set()
    assert outcome == ["cancelled"]
