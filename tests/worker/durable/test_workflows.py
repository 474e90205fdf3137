"""Applications in the database: one per sandbox, each end told apart, gone on with after a restart, never by two.

DBOS is one per process and takes its time to start, so these tests share one and tell themselves apart by sandbox.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from dbos import DBOS
from sqlalchemy import Engine
from structlog.testing import capture_logs

from tests.support.until import until
from worker.application import Application, ApplicationState, StepState
from worker.apply_plan import JsonObject
from worker.durable.database import open_engine
from worker.durable.workflows import WorkflowJournal, Workflows, new_id

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Stand:
    """Workflows whose applications have one step, in which each waits until it is released."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.entered: list[str] = []
        self.acted: list[str] = []
        self.cancelled: list[str] = []
        self.rolled_back: list[str] = []
        self.released: dict[str, asyncio.Event] = {}
        self.failing: set[str] = set()
        self.broken: set[str] = set()
        self.workflows = self._made()

    def _made(self) -> Workflows:
        return Workflows(self.engine, "wrk_1", running=50, apply=self._apply, roll_back=self._roll_back)

    async def restart(self) -> None:
        await self.workflows.close()
        self.workflows = self._made()
        await self.open()

    async def open(self) -> None:
        self.workflows.open()
        await self.workflows.serve()

    async def begun(self, sandbox_id: str, revision: int = 1) -> Application:
        application = Application(
            application_id=new_id(sandbox_id, revision, "0"), sandbox_id=sandbox_id, revision=revision
        )
        assert await self.workflows.begin(application) == application.application_id
        return application

    async def running(self, sandbox_id: str, revision: int = 1) -> Application:
        application = await self.begun(sandbox_id, revision)
        await until(lambda: application.application_id in self.entered)
        return application

    async def ended(self, application: Application) -> Application:
        self.event(application.application_id).set()
        async with asyncio.timeout(10):
            while True:
                found = await self.workflows.find(application.application_id)
                assert found is not None
                if found.has_ended:
                    return found
                await asyncio.sleep(0.01)

    def event(self, application_id: str) -> asyncio.Event:
        return self.released.setdefault(application_id, asyncio.Event())

    async def _apply(self, application: Application, journal: WorkflowJournal) -> ApplicationState:
        name = application.application_id

        async def step() -> JsonObject:
            application.restore(await journal.read())
            application.begin("read_plan", 1)
            await journal.write(application.step_documents())
            self.entered.append(name)
            if name in self.broken:
                raise RuntimeError("a defect")
            try:
                await self.event(name).wait()
            except asyncio.CancelledError:
                self.cancelled.append(name)
                raise
            application.begin("read_plan", 1)
            await journal.write(application.step_documents())
            self.acted.append(name)
            application.end("read_plan", 2, StepState.DONE)
            await journal.write(application.step_documents())
            return {"digest": "sha256:0"}

        await journal.once("read_plan", step)
        return ApplicationState.FAILED if application.sandbox_id in self.failing else ApplicationState.APPLIED

    async def _roll_back(self, application: Application) -> None:
        assert application.state is ApplicationState.FAILED
        self.rolled_back.append(application.application_id)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stand(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stand]:
    folder: Path = tmp_path_factory.mktemp("worker")
    stand = Stand(open_engine(f"sqlite:///{folder / 'worker.db'}"))
    await stand.open()
    yield stand
    await stand.workflows.close()
    stand.engine.dispose()


async def test_it_is_carried_out_and_its_steps_are_kept(stand: Stand) -> None:
    application = await stand.running("sbx_kept", 3)
    during = await stand.workflows.find(application.application_id)
    assert during is not None
    assert (during.state, during.steps["read_plan"].state) == (ApplicationState.RUNNING, StepState.RUNNING)
    after = await stand.ended(application)
    assert (after.state, after.sandbox_id, after.revision) == (ApplicationState.APPLIED, "sbx_kept", 3)
    assert (after.steps["read_plan"].state, after.steps["read_plan"].attempt) == (StepState.DONE, 2)


async def test_what_is_not_there_is_not_found(stand: Stand) -> None:
    assert await stand.workflows.find("app_nothing") is None


async def test_a_sandbox_has_one_until_it_has_ended(stand: Stand) -> None:
    first = await stand.running("sbx_one", 1)
    second = Application(application_id=new_id("sbx_one", 2, "0"), sandbox_id="sbx_one", revision=2)
    assert await stand.workflows.begin(second) == first.application_id
    await stand.ended(first)
    assert await stand.workflows.begin(second) == second.application_id
    assert await stand.workflows.begin(second) == second.application_id
    await stand.ended(second)


@pytest.mark.parametrize("state", [ApplicationState.CANCELLED, ApplicationState.SUPERSEDED])
async def test_it_stops_where_it_is_and_why_is_kept(stand: Stand, state: ApplicationState) -> None:
    application = await stand.running(f"sbx_{state.value}")
    assert await stand.workflows.end(application, state)
    await until(lambda: application.application_id in stand.cancelled)
    after = await stand.ended(application)
    assert (after.state, after.steps["read_plan"].state) == (state, StepState.RUNNING)
    assert application.application_id not in stand.acted


async def test_what_has_ended_is_not_ended_again(stand: Stand) -> None:
    application = await stand.running("sbx_over")
    await stand.ended(application)
    assert not await stand.workflows.end(application, ApplicationState.CANCELLED)
    after = await stand.workflows.find(application.application_id)
    assert after is not None
    assert after.state is ApplicationState.APPLIED


async def test_who_lost_it_to_another_worker_does_nothing_more(stand: Stand) -> None:
    application = await stand.running("sbx_lost")
    # As another worker does it, which cannot stop what runs here.
    await DBOS.cancel_workflow_async(application.application_id)
    assert (await stand.ended(application)).state is ApplicationState.CANCELLED
    await until(lambda: application.application_id not in stand.workflows._tasks.values())
    assert application.application_id not in stand.acted


async def test_what_a_dead_worker_was_at_is_begun_anew_and_the_dead_one_acts_no_more(stand: Stand) -> None:
    application = await stand.running("sbx_taken_over")
    # The dead one is ourselves, and not dead at all: it runs on beside the one that took over.
    await stand.workflows.take_over("wrk_1")
    await until(lambda: stand.entered.count(application.application_id) == 2)
    after = await stand.ended(application)
    assert (after.state, after.steps["read_plan"].attempt) == (ApplicationState.APPLIED, 3)
    assert stand.acted.count(application.application_id) == 1


async def test_a_defect_fails_it_and_is_in_our_log(stand: Stand) -> None:
    stand.broken.add(new_id("sbx_broken", 1, "0"))
    with capture_logs() as logs:
        application = await stand.begun("sbx_broken")
        assert (await stand.ended(application)).state is ApplicationState.FAILED
        # It is told once it is written down.
        await until(lambda: any(each["log_level"] == "error" for each in logs))
    # A warning may be among them: of a worker that another test has had taken over, told so when it writes next.
    errors = [each for each in logs if each["log_level"] == "error"]
    assert {(each["event"], str(each["exc_info"])) for each in errors} == {("workflows", "a defect")}


async def test_one_that_failed_is_rolled_back_once(stand: Stand) -> None:
    stand.failing.add("sbx_failing")
    application = await stand.running("sbx_failing")
    assert (await stand.ended(application)).state is ApplicationState.FAILED
    await until(lambda: application.application_id in stand.rolled_back)
    assert stand.rolled_back == [application.application_id]


async def test_the_revisions_that_were_applied_are_those_of_one_sandbox(stand: Stand) -> None:
    for sandbox_id, revision in (("sbx_good", 1), ("sbx_good", 4), ("sbx_good2", 9)):
        await stand.ended(await stand.running(sandbox_id, revision))
    stand.failing.add("sbx_good")
    failed = await stand.ended(await stand.running("sbx_good", 5))
    # What it leaves to be done is not to run into other tests: they count what runs.
    await until(lambda: failed.application_id in stand.rolled_back)
    assert await stand.workflows.applied("sbx_good") == [4, 1]
    newest = await stand.workflows.newest_applied(100)
    assert {name: newest[name] for name in ("sbx_good", "sbx_good2")} == {"sbx_good": 4, "sbx_good2": 9}


async def test_it_goes_on_after_a_restart(stand: Stand) -> None:
    application = await stand.running("sbx_restart")
    await stand.restart()
    await until(lambda: stand.entered.count(application.application_id) == 2)
    after = await stand.ended(application)
    assert (after.state, after.steps["read_plan"].attempt) == (ApplicationState.APPLIED, 3)
    assert stand.acted.count(application.application_id) == 1


async def test_those_that_ended_are_forgotten_save_the_newest_and_those_that_run_never(stand: Stand) -> None:
    running = await stand.running("sbx_running")
    assert stand.workflows.running_here == 1
    last = await stand.running("sbx_last")
    await stand.ended(last)
    assert await stand.workflows.is_full(1)
    assert not await stand.workflows.is_full(2)
    await stand.workflows.forget(1)
    assert await stand.workflows.find(last.application_id) is not None
    assert await stand.workflows.find(running.application_id) is not None
    assert await stand.workflows.applied("sbx_good") == []
    await stand.ended(running)


async def test_ids_of_one_sandbox_sort_by_time() -> None:
    ids = [new_id("sbx_1", millis, "ff") for millis in (9, 10, 1_700_000_000_000)]
    assert ids == sorted(ids)
    assert {each[:21] for each in ids} == {new_id("sbx_1", 1, "")[:21]}
