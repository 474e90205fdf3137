import asyncio

import structlog

from control_plane.rounds import work_in_rounds
from control_plane.store.database import DatabaseUnavailable
from tests.support.until import until


async def test_it_works_when_woken_now_and_then_and_through_an_outage() -> None:
    woken, rounds = asyncio.Event(), 0

    async def work() -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            woken.set()  # something was written while it looked
        if rounds == 2:
            raise DatabaseUnavailable

    async def run(seconds: float, until_round: int) -> None:
        task = asyncio.get_running_loop().create_task(work_in_rounds(work, woken, seconds, "work_database_unavailable"))
        await until(lambda: rounds >= until_round)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    with structlog.testing.capture_logs() as told:
        await run(60.0, 2)
    assert [each["event"] for each in told] == ["work_database_unavailable"]
    await run(0.001, 5)
