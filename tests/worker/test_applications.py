"""Which applications run: one per sandbox, a newer one supersedes, memory is bounded."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from sallyport.net.tasks import TaskSet
from tests.support.until import until
from worker.application import Application, ApplicationState
from worker.applications import Applications, NoSuchApplication, NotPossible, TooManyApplications


class Work:
    """Applications whose work waits until it is told how to end."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.tasks = TaskSet(lambda name, error: self.failures.append(f"{name}: {error}"))
        self.released: dict[str, asyncio.Event] = {}

    async def run(self, application: Application) -> None:
        application.move(ApplicationState.RUNNING)
        await self.released.setdefault(application.application_id, asyncio.Event()).wait()
        application.move(ApplicationState.APPLIED)

    def applications(self, most: int = 100) -> Applications:
        return Applications(self.run, self.tasks, wall=lambda: 0.0, max_applications=most)

    async def finish(self, application: Application) -> None:
        self.released.setdefault(application.application_id, asyncio.Event()).set()
        async with asyncio.timeout(5):
            while not application.has_ended:
                await application.changed_since(application.version)
        await asyncio.sleep(0)


@pytest.fixture
async def work() -> AsyncIterator[Work]:
    work = Work()
    yield work
    await work.tasks.close()
    assert work.failures == []


async def test_the_same_revision_again_is_the_one_that_runs(work: Work) -> None:
    applications = work.applications()
    assert applications.begin("sbx_1", 2) is applications.begin("sbx_1", 2)


async def test_a_newer_revision_supersedes_and_an_older_one_is_refused(work: Work) -> None:
    applications = work.applications()
    old = applications.begin("sbx_1", 2)
    new = applications.begin("sbx_1", 3)
    assert old.state is ApplicationState.SUPERSEDED
    with pytest.raises(NotPossible, match="revision 3 is being applied already"):
        applications.begin("sbx_1", 2)
    await work.finish(new)
    assert new.state is ApplicationState.APPLIED


async def test_sandboxes_do_not_wait_for_each_other(work: Work) -> None:
    applications = work.applications()
    one, other = applications.begin("sbx_1", 1), applications.begin("sbx_2", 9)
    await work.finish(other)
    assert (one.has_ended, other.state) == (False, ApplicationState.APPLIED)


async def test_cancelling_ends_it_once(work: Work) -> None:
    applications = work.applications()
    one = applications.begin("sbx_1", 1)
    await asyncio.sleep(0)
    assert applications.cancel(one.application_id).state is ApplicationState.CANCELLED
    with pytest.raises(NotPossible, match="has ended: cancelled"):
        applications.cancel(one.application_id)
    await until(lambda: len(work.tasks) == 0)


async def test_what_is_not_known_is_told(work: Work) -> None:
    with pytest.raises(NoSuchApplication, match="app_nothing"):
        work.applications().find("app_nothing")


async def test_the_last_good_revision_is_the_newest_applied_before(work: Work) -> None:
    applications = work.applications()
    for revision in (1, 2):
        await work.finish(applications.begin("sbx_1", revision))
    await work.finish(applications.begin("sbx_2", 7))
    bad = applications.begin("sbx_1", 8)
    assert applications.last_good(bad.application_id) == 2


async def test_without_an_earlier_one_there_is_nothing_to_go_back_to(work: Work) -> None:
    applications = work.applications()
    only = applications.begin("sbx_1", 1)
    await work.finish(only)
    with pytest.raises(NotPossible, match="no earlier revision"):
        applications.last_good(only.application_id)


async def test_the_oldest_that_ended_makes_room_and_running_ones_never_do(work: Work) -> None:
    applications = work.applications(most=2)
    first = applications.begin("sbx_1", 1)
    await work.finish(first)
    applications.begin("sbx_2", 1)
    applications.begin("sbx_3", 1)
    with pytest.raises(NoSuchApplication):
        applications.find(first.application_id)
    with pytest.raises(TooManyApplications):
        applications.begin("sbx_4", 1)


async def test_one_whose_work_breaks_is_failed_not_left_running() -> None:
    failures: list[str] = []

    async def broken(application: Application) -> None:
        raise RuntimeError("a defect")

    tasks = TaskSet(lambda name, error: failures.append(str(error)))
    applications = Applications(broken, tasks, wall=lambda: 0.0)
    one = applications.begin("sbx_1", 1)
    async with asyncio.timeout(5):
        await one.changed_since(one.version)
    assert (one.state, failures) == (ApplicationState.FAILED, ["a defect"])
    assert applications.begin("sbx_1", 1) is not one
    await tasks.close()
