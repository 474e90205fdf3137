"""Applications as workflows of DBOS: kept in the database, gone on with after a crash, each by one worker at a time.

Who owns a workflow is written in its row when a worker takes it from the queue, and taken away when it is cancelled or
given to another worker. Every write of a workflow is refused to who is not its owner: that is the epoch by which an
application is fenced (`worker/apply_plan.py` writes before it acts). DBOS is one per process, and its functions are
registered by name, so there is one `Workflows` at a time.
"""

import asyncio
import contextlib
import contextvars
import hashlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, cast

import structlog
from dbos import (
    DBOS,
    DBOSPortableJSONSerializer,
    SetEnqueueOptions,
    SetWorkflowAttributes,
    SetWorkflowID,
    StepOptions,
    WorkflowStatus,
)
from dbos import error as dbos_errors
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from worker.application import Application, ApplicationState
from worker.apply_plan import JsonObject
from worker.durable.database import DatabaseUnavailable

# The order of steps (STEPS in worker/application.py). Workers of another order leave each other's applications alone.
STEPS_VERSION: Final = "1"
_APPLY: Final = "plan_application"
_ROLL_BACK: Final = "plan_rollback"
_QUEUE: Final = "plan_applications"
# How long an application waits to be taken by a worker that is free; each look is one small query.
_POLL_SECONDS: Final = 0.2
_STEPS_EVENT: Final = "steps"
_SUPERSEDED: Final = "superseded"
_WAITING: Final = ("ENQUEUED", "DELAYED")
_RUNNING: Final = ("PENDING", *_WAITING)
_OVER: Final = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
# What is deleted at once; more wait for the next time.
_DELETED_AT_ONCE: Final = 500

_log = structlog.get_logger(__name__)


class WorkflowJournal:
    """The journal of the application whose workflow is running here."""

    async def once(self, name: str, step: Callable[[], Awaitable[JsonObject]]) -> JsonObject:
        """Run a step to its end, or return what it returned when it ended before."""

        async def run() -> JsonObject:
            return await step()

        return await DBOS.run_step_async(StepOptions(name=name), run)

    async def read(self) -> Sequence[JsonObject]:
        """Return the steps as they were written last; only within a step."""
        assert DBOS.workflow_id is not None
        return await _kept_steps(DBOS.workflow_id)

    async def write(self, steps: Sequence[JsonObject]) -> None:
        """Keep the steps as they are now; only within a step. Raises where the application is no longer ours."""
        await DBOS.set_event_async(_STEPS_EVENT, steps)


class Workflows:
    """Every application there is. `apply` carries one out, `roll_back` undoes one that failed."""

    def __init__(
        self,
        engine: Engine,
        worker_id: str,
        *,
        running: int,
        apply: Callable[[Application, WorkflowJournal], Awaitable[ApplicationState]],
        roll_back: Callable[[Application], Coroutine[Any, Any, None]] | None,
    ) -> None:
        self._engine = engine
        self._worker_id = worker_id
        self._most_running = running
        self._apply = apply
        self._roll_back = roll_back
        # What `open` registers: DBOS takes a method for one of a class that it has to know, so these are functions.
        self._plan_application: Callable[[str, int], Coroutine[Any, Any, JsonObject]]
        self._plan_rollback: Callable[[str], Coroutine[Any, Any, JsonObject]]
        # What runs here, with the workflow's id. Of two of one id the older one has lost it, and will find out.
        self._tasks: dict[asyncio.Task[Any], str] = {}

    # Start and end ---------------------------------------------------------------------------------

    def open(self) -> None:
        """Prepare the tables and go on with what this worker was at. Workflows run on the loop that runs now.

        Waits for the database: call it before anything is served. Raises DatabaseUnavailable.
        """
        _keep_to_our_log()
        DBOS(
            config={
                "name": "sallyport-worker",
                "system_database_engine": self._engine,
                "executor_id": self._worker_id,
                "application_version": STEPS_VERSION,
                "serializer": DBOSPortableJSONSerializer(),
                "enable_otlp": False,
                "log_level": "WARNING",
            }
        )
        self._register()
        with contextlib.ExitStack() as failing, _database_errors():
            failing.callback(DBOS.destroy, destroy_registry=True)
            DBOS.launch()
            failing.pop_all()

    async def serve(self) -> None:
        """Take applications from the queue, from now on."""
        await DBOS.register_queue_async(
            _QUEUE, worker_concurrency=self._most_running, polling_interval_sec=_POLL_SECONDS
        )

    async def close(self) -> None:
        """Stop where things are; whoever comes next goes on from there."""
        await self._stop_tasks()
        # In a thread: DBOS waits for its own, and those may be waiting for this loop.
        await asyncio.to_thread(DBOS.destroy, destroy_registry=True)
        # DBOS had made its own the loop's, and has shut it down.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())
        # What was taken from the queue meanwhile.
        await self._stop_tasks()

    async def _stop_tasks(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def take_over(self, worker_id: str) -> None:
        """Put back into the queue what a dead worker was at; raises DatabaseUnavailable."""
        with _database_errors():
            handles = await asyncio.to_thread(DBOS._recover_pending_workflows, [worker_id])
        _log.warning("worker_taken_over", worker=worker_id, applications=len(handles))

    # Applications ----------------------------------------------------------------------------------

    async def begin(self, application: Application) -> str:
        """Begin an application, unless one of its sandbox has not ended; return the id of that which holds it now."""
        with (
            SetWorkflowID(application.application_id),
            SetEnqueueOptions(deduplication_id=application.sandbox_id, duplication_policy="return-existing"),
            SetWorkflowAttributes({"sandboxId": application.sandbox_id, "revision": application.revision}),
        ):
            handle = await DBOS.enqueue_workflow_async(
                _QUEUE, self._plan_application, application.sandbox_id, application.revision
            )
        return handle.get_workflow_id()

    async def find(self, application_id: str) -> Application | None:
        """Return an application as it stands, None where there is none."""
        # Its status first: steps that are read after an end are its last ones.
        status = await DBOS.get_workflow_status_async(application_id)
        if status is None or status.name != _APPLY:
            return None
        application = _application(status)
        application.restore(await _kept_steps(application_id))
        return application

    async def end(self, application: Application, state: ApplicationState) -> bool:
        """End an application as cancelled or superseded; False where it came to an end of its own before."""
        if state is ApplicationState.SUPERSEDED:
            await DBOS.update_workflow_attributes_async(application.application_id, {_SUPERSEDED: True}, merge=True)
        await DBOS.cancel_workflow_async(application.application_id)
        # Elsewhere it stops at the next thing it writes.
        for task, workflow_id in self._tasks.items():
            if workflow_id == application.application_id:
                task.cancel()
        status = await DBOS.get_workflow_status_async(application.application_id)
        return status is None or status.status == "CANCELLED"

    async def applied(self, sandbox_id: str) -> Sequence[int]:
        """Return the revisions of a sandbox that were applied, the newest application first."""
        found = await DBOS.list_workflows_async(
            name=_APPLY, workflow_id_prefix=_id_prefix(sandbox_id), status="SUCCESS", sort_desc=True
        )
        applications = (_application(status) for status in found)
        return [
            each.revision
            for each in applications
            if each.sandbox_id == sandbox_id and each.state is ApplicationState.APPLIED
        ]

    async def newest_applied(self, most: int) -> Mapping[str, int]:
        """Return, by sandbox, the revision that was applied last, among so many applications that succeeded last.

        Raises DatabaseUnavailable.
        """
        with _database_errors():
            found = await DBOS.list_workflows_async(name=_APPLY, status="SUCCESS", sort_desc=True, limit=most)
        newest: dict[str, int] = {}
        for each in (_application(status) for status in found):
            if each.state is ApplicationState.APPLIED:
                newest.setdefault(each.sandbox_id, each.revision)
        return newest

    async def is_full(self, most: int) -> bool:
        """Say whether so many have not ended."""
        found = await DBOS.list_workflows_async(
            status=list(_RUNNING), offset=most - 1, limit=1, load_input=False, load_output=False
        )
        return bool(found)

    async def forget(self, kept: int) -> None:
        """Delete those that ended, save the newest; raises DatabaseUnavailable."""
        with _database_errors():
            found = await DBOS.list_workflows_async(
                sort_desc=True, offset=kept, limit=_DELETED_AT_ONCE, load_input=False, load_output=False
            )
            ended = [status.workflow_id for status in found if status.status in _OVER]
            if ended:
                await DBOS.delete_workflows_async(ended)

    # The workflows ---------------------------------------------------------------------------------

    def _register(self) -> None:
        @DBOS.workflow(name=_APPLY)
        async def plan_application(sandbox_id: str, revision: int) -> JsonObject:
            return await self._run_application(sandbox_id, revision)

        @DBOS.workflow(name=_ROLL_BACK)
        async def plan_rollback(application_id: str) -> JsonObject:
            return await self._run_rollback(application_id)

        self._plan_application, self._plan_rollback = plan_application, plan_rollback

    async def _run_application(self, sandbox_id: str, revision: int) -> JsonObject:
        task, application_id = self._enter()
        try:
            application = Application(application_id=application_id, sandbox_id=sandbox_id, revision=revision)
            state = await self._apply(application, WorkflowJournal())
            if state is ApplicationState.FAILED and self._roll_back is not None:
                with SetWorkflowID(f"{application_id}_rollback"):
                    await DBOS.enqueue_workflow_async(_QUEUE, self._plan_rollback, application_id)
            return {"state": state.value}
        finally:
            del self._tasks[task]

    async def _run_rollback(self, application_id: str) -> JsonObject:
        """Wait for the failed application's end, then undo it; it is done once more after a crash, to the same end."""
        task, _ = self._enter()
        roll_back = self._roll_back

        async def undo() -> JsonObject:
            while True:
                application = await self.find(application_id)
                if application is None or roll_back is None:
                    return {}
                if application.has_ended:
                    # Within a step DBOS begins no workflow, and that is what this does.
                    async with asyncio.TaskGroup() as outside:
                        outside.create_task(roll_back(application), name="rollback", context=contextvars.Context())
                    return {}
                await asyncio.sleep(_POLL_SECONDS)

        try:
            return await DBOS.run_step_async(StepOptions(name="roll_back"), undo)
        finally:
            del self._tasks[task]

    def _enter(self) -> tuple[asyncio.Task[Any], str]:
        """Note what runs here, so that it can be stopped; return it and the workflow's id."""
        workflow_id, task = DBOS.workflow_id, asyncio.current_task()
        assert workflow_id is not None
        assert task is not None
        self._tasks[task] = workflow_id
        return task, workflow_id

    @property
    def running_here(self) -> int:
        """How many applications this worker carries out now."""
        return len(self._tasks)

    def __repr__(self) -> str:
        return f"<Workflows of {self._worker_id}: {len(self._tasks)} run here>"


@contextlib.contextmanager
def _database_errors() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        raise DatabaseUnavailable(error.orig) from error


def new_id(sandbox_id: str, millis: int, random: str) -> str:
    """Return an id for an application; those of one sandbox sort by time."""
    return f"{_id_prefix(sandbox_id)}{millis:012x}{random}"


def _id_prefix(sandbox_id: str) -> str:
    return f"app_{hashlib.sha256(sandbox_id.encode()).hexdigest()[:16]}_"


async def _kept_steps(workflow_id: str) -> Sequence[JsonObject]:
    events = await DBOS.get_all_events_async(workflow_id)
    return cast(Sequence[JsonObject], events.get(_STEPS_EVENT, ()))


def _application(status: WorkflowStatus) -> Application:
    assert status.input is not None
    sandbox_id, revision = status.input["args"]
    return Application(
        application_id=status.workflow_id, sandbox_id=sandbox_id, revision=revision, state=_state(status)
    )


def _state(status: WorkflowStatus) -> ApplicationState:
    match status.status:
        case "ENQUEUED" | "DELAYED":
            return ApplicationState.QUEUED
        case "PENDING":
            return ApplicationState.RUNNING
        case "SUCCESS":
            return ApplicationState((status.output or {}).get("state", ApplicationState.FAILED.value))
        case "CANCELLED":
            is_superseded = (status.attributes or {}).get(_SUPERSEDED) is True
            return ApplicationState.SUPERSEDED if is_superseded else ApplicationState.CANCELLED
        case _:
            # A defect of ours, which is in the log; or it took worker after worker down with it.
            return ApplicationState.FAILED


class _LogHandler(logging.Handler):
    """Says what DBOS has to say in our log."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        # One that was cancelled by another worker ends so, as it is meant to.
        if not isinstance(error, dbos_errors.DBOSAwaitedWorkflowCancelledError):
            level = "error" if record.levelno >= logging.ERROR else "warning"
            getattr(_log, level)("workflows", detail=record.getMessage(), exc_info=error)


def _keep_to_our_log() -> None:
    """Before DBOS makes a handler of its own, which it does where there is none."""
    logger = logging.getLogger("dbos")
    logger.propagate = False
    logger.handlers = [_LogHandler()]
