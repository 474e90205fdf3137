"""The control plane at second hand: what is missing is wanted of the parent, and waited for no longer than allowed."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.plan_holder import PlanHolder
from gateway.processes.followed import FollowedControl
from gateway.processes.reports import Reports
from sallyport.net.clock import Clock
from sallyport.net.tasks import TaskSet
from tests.support.control_sessions import control_session
from tests.support.gateway_plans import plan
from tests.support.in_process import in_process_gateway
from tests.support.until import until


class Followed:
    """One, and what it works with."""

    def __init__(self, control: FollowedControl, plans: PlanHolder, reports: Reports) -> None:
        self.control = control
        self.plans = plans
        self.reports = reports


# Longer than a test waits: whatever ends a wait for a plan, it was not its time.
WITHOUT_TIME = pytest.mark.parametrize("followed", [600.0], indirect=True)


@pytest.fixture
async def followed(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Followed]:
    wait_seconds = getattr(request, "param", 0.2)
    async with control_session(tmp_path) as (_, session, _), in_process_gateway(tmp_path) as gateway:
        clock, tasks = Clock(asyncio.get_running_loop()), TaskSet(lambda *_: None)
        plans, reports = PlanHolder(max_sandboxes=2, max_plan_bytes=2**20), Reports()
        control = FollowedControl(session, reports, plans=plans, clock=clock, tasks=tasks, wait_seconds=wait_seconds)
        control.start(gateway.parts, invalidate=lambda *_: 0, revoke=lambda *_: 0, admin_url="http://127.0.0.1:9900")
        yield Followed(control, plans, reports)
        await control.close()
        await tasks.close()
        clock.close()


@WITHOUT_TIME
async def test_a_plan_that_comes_ends_the_wait(followed: Followed) -> None:
    wanted = followed.plans.want("sbx_one")
    assert wanted is not None
    await until(lambda: repr(followed.reports) == "<Reports: 1 plans wanted>")
    assert repr(followed.control) == "<FollowedControl: 1 plans awaited>"
    followed.plans.apply(plan([]))
    await wanted
    await until(lambda: repr(followed.control) == "<FollowedControl: 0 plans awaited>")


@WITHOUT_TIME
async def test_word_that_none_will_come_ends_it_too(followed: Followed) -> None:
    wanted = followed.plans.want("sbx_two")
    assert wanted is not None
    await until(lambda: repr(followed.control) == "<FollowedControl: 1 plans awaited>")
    followed.control.settled("sbx_two")
    followed.control.settled("sbx_none")
    async with asyncio.timeout(30):
        await wanted


async def test_nobody_waits_for_ever(followed: Followed) -> None:
    wanted = followed.plans.want("sbx_two")
    assert wanted is not None
    async with asyncio.timeout(30):
        await wanted
    await until(lambda: repr(followed.control) == "<FollowedControl: 0 plans awaited>")


async def test_the_parent_answers_for_it(followed: Followed) -> None:
    followed.control.want_keys()
    assert (followed.control.obstacles(), followed.control.notes()) == ([], [])
