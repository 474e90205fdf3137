"""Put a worker together, run it, end it."""

import asyncio
import contextlib
import functools
import json
import signal
from collections import Counter
from collections.abc import Coroutine, Sequence

import structlog
import uvloop

from control_client.admissions import ask_admission
from control_client.callers import CallerCheck
from control_client.registrations import declared_servers, gateway_revisions
from control_client.service_token import ServiceToken
from control_client.session import ControlSession
from sallyport.claims import AUDIENCE_WORKER
from sallyport.net.clock import read_clock, read_wall
from sallyport.net.listener_tls import listener_context
from sallyport.net.process import harden_process
from sallyport.net.tasks import TaskSet
from sallyport.net.tls import client_context
from sallyport.plan.codec import seal
from worker.api import RollbackError, add_upkeep, build_api, serve
from worker.application import Application, ApplicationState
from worker.applications import Applications, NotPossible, TooManyApplications
from worker.apply_plan import NotYet, PlanApplication, StepFailed, StepTimes
from worker.config import WorkerConfig, inherited
from worker.declared_servers import DeclaredServers
from worker.durable.database import DatabaseUnavailable, open_engine
from worker.durable.lease import LeaseLost, WorkerLease
from worker.durable.workflows import WorkflowJournal, Workflows, new_id
from worker.far_side import HttpFarSide
from worker.integrations.api import add_integrations
from worker.integrations.assembly import open_front, open_integrations
from worker.integrations.integrations import Integrations
from worker.integrations.processes import ServerProcesses
from worker.metrics import Metrics
from worker.plan_revisions import PlanRevisions
from worker.plan_servers import PlanServers, plan_in_force
from worker.reconciliation import Reconciliation
from worker.registration import Registration, Whereabouts, running_servers
from worker.sandboxes.api import add_sandboxes
from worker.sandboxes.assembly import open_sandboxes
from worker.sandboxes.sandboxes import Sandboxes
from worker.sandboxes.token_mint import TokenMint

# A lease is renewed so often in its time: two renewals may fail.
_RENEWALS = 3
# Applications whose plans are compared with what gateways report; what was applied before that is not looked at.
_LOOKED_AT = 200

_log = structlog.get_logger(__name__)


class Worker:
    """A worker's parts on the running loop. Raises DatabaseConfigError, SqliteTooOld."""

    def __init__(self, config: WorkerConfig) -> None:
        timeouts = config.timeouts
        self._config = config
        self._tasks = TaskSet(_task_failed)
        self.on_ready = _log_ready
        self.on_front_ready = _log_front_ready
        self._far_side = HttpFarSide(config.control, config.gateways, timeouts.request)
        self._whereabouts = Whereabouts(
            api=config.api_url, front=config.front.url, has_front=config.front.listen is not None
        )
        # Put together while it runs; the applications that are gone on with need them.
        self._plan_servers: PlanServers
        self._reconciliation: Reconciliation
        self._times = StepTimes(
            control=timeouts.control,
            integrations=timeouts.integrations,
            gateways=timeouts.gateways,
            tunnel=timeouts.tunnel,
            setup=timeouts.setup,
        )
        self._engine = open_engine(config.database)
        self._lease = WorkerLease(self._engine, config.id, timeouts.lease)
        self._lost: LeaseLost | None = None
        self._ended: Counter[ApplicationState] = Counter()
        self._workflows = Workflows(
            self._engine,
            config.id,
            running=config.limits.running,
            apply=self._apply,
            roll_back=self._roll_back_failed if config.roll_back_failed else None,
        )
        self.applications = Applications(
            self._workflows, new_id=new_id, wall=read_wall, max_applications=config.limits.applications
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop`.

        Raises ListenError when an address is taken, ListenerTlsError, StateTaken, DatabaseUnavailable, LeaseLost.
        """
        config = self._config
        context = listener_context("tls", config.tls)
        front_context = listener_context("front.tls", config.front.tls)
        async with contextlib.AsyncExitStack() as opened:
            opened.callback(self._engine.dispose)
            opened.push_async_callback(self._tasks.close)
            session = self._session(opened)
            callers = None if context is None else self._callers(session)
            api = build_api(self.applications, self.roll_back, callers)
            integrations = open_integrations(config.integrations, inherited(), self._tasks)
            opened.push_async_callback(integrations.close)
            self._plan_servers = PlanServers(
                integrations,
                lambda sandbox_id: plan_in_force(session, sandbox_id),
                lambda: self._whereabouts.front,
                has_front=config.front.listen is not None,
            )
            sandboxes = await self._open_sandboxes(opened)
            self._reconciliation = self._reconciled(integrations, sandboxes, session)
            add_integrations(api, integrations, self._tasks)
            add_upkeep(api, self._reconciliation.to_document, self._metrics(integrations).render)
            if sandboxes is not None:
                add_sandboxes(api, sandboxes)
            front = None
            if config.front.listen is not None:
                ask = functools.partial(ask_admission, session, config.id)
                front = open_front(config, integrations, ask, self._tasks)
                opened.push_async_callback(front.close)
            await integrations.open()
            drain = config.timeouts.drain
            prepare = functools.partial(self._open, opened, stop, integrations, session)
            api_ready = functools.partial(self._api_listens, context is not None)
            listening = [serve(api, config.listen, api_ready, stop, context, prepare=prepare, drain_seconds=drain)]
            if front is not None and config.front.listen is not None:
                front_ready = functools.partial(self._front_listens, front_context is not None)
                listening.append(
                    serve(front, config.front.listen, front_ready, stop, front_context, drain_seconds=drain)
                )
            await _all(listening)
            if self._lost is not None:
                raise self._lost

    async def _open_sandboxes(self, opened: contextlib.AsyncExitStack) -> Sandboxes | None:
        """Open the sandboxes of this worker, where it runs any; raises StateTaken."""
        settings = self._config.sandboxes
        if settings.gateway_url is None:
            return None
        sandboxes = await open_sandboxes(settings, inherited(), self._tasks, TokenMint(self._far_side).mint)
        opened.push_async_callback(sandboxes.close)
        return sandboxes.sandboxes

    async def _open(
        self,
        opened: contextlib.AsyncExitStack,
        stop: asyncio.Event,
        integrations: Integrations,
        session: ControlSession,
    ) -> None:
        """Become the worker of this id and go on with its work."""
        # Nothing is served yet, so nobody but us waits for this loop. The lease first: it is what lets us act.
        if self._config.database_url is None:
            self._config.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lease.take()
        self._workflows.open()
        opened.push_async_callback(self._leave)
        await self._reconciliation.prepare()
        await self._workflows.serve()
        staying = self._tasks.spawn(self._stay(stop), name="lease")
        # First of all at the end: it asks the workflows, which are closed next.
        opened.callback(staying.cancel)
        opened.push_async_callback(_ended, self._reconciliation.begin(self._tasks))
        registration = Registration(
            session,
            self._config.id,
            epoch=self._lease.epoch,
            servers=functools.partial(running_servers, integrations),
        )
        integrations.on_changed = registration.changed
        # What is declared may have changed while nobody could be asked.
        registration.on_taken = functools.partial(self._reconciliation.wake, DeclaredServers.name)
        registering = self._tasks.spawn(registration.run(self._whereabouts, stop), name="registration")

        async def withdrawn() -> None:
            stop.set()
            await asyncio.wait({registering})

        opened.push_async_callback(withdrawn)

    async def _leave(self) -> None:
        await self._workflows.close()
        with contextlib.suppress(DatabaseUnavailable):
            self._lease.give_up()

    async def _stay(self, stop: asyncio.Event) -> None:
        """Renew the lease, take over from the dead, forget what ended long ago; end the worker if it is replaced."""
        while True:
            await asyncio.sleep(self._config.timeouts.lease / _RENEWALS)
            try:
                await asyncio.to_thread(self._lease.renew)
                for worker_id in await asyncio.to_thread(self._lease.dead):
                    await self._workflows.take_over(worker_id)
                    await asyncio.to_thread(self._lease.bury, worker_id)
                await self._workflows.forget(self._config.limits.applications)
            except DatabaseUnavailable as error:
                _log.warning("database_unavailable", detail=str(error))
            except LeaseLost as error:
                self._lost = error
                stop.set()
                return

    def _api_listens(self, is_tls: bool, host: str, port: int) -> None:
        self._whereabouts.api_listens(host, port, is_tls=is_tls)
        self.on_ready(host, port)

    def _front_listens(self, is_tls: bool, host: str, port: int) -> None:
        self._whereabouts.front_listens(host, port, is_tls=is_tls)
        self.on_front_ready(host, port)

    def _reconciled(
        self, integrations: Integrations, sandboxes: Sandboxes | None, session: ControlSession
    ) -> Reconciliation:
        config = self._config
        return Reconciliation(
            [
                ServerProcesses(integrations),
                DeclaredServers(integrations, functools.partial(declared_servers, session, config.id)),
                self._plan_servers,
                PlanRevisions(
                    functools.partial(self._workflows.newest_applied, _LOOKED_AT),
                    functools.partial(gateway_revisions, session),
                    self._far_side.put_in_force,
                ),
                *([] if sandboxes is None else [sandboxes]),
            ],
            every_seconds=config.timeouts.reconcile,
            wall=read_wall,
        )

    def _metrics(self, integrations: Integrations) -> Metrics:
        return Metrics(
            servers=lambda: [integration.status for integration in integrations.list()],
            applications=lambda: self._ended,
            running=lambda: self._workflows.running_here,
            rounds=lambda: self._reconciliation.rounds,
        )

    def _session(self, opened: contextlib.AsyncExitStack) -> ControlSession:
        control = self._config.control
        trust = client_context(None if control.ca_file is None else str(control.ca_file))
        session = ControlSession(
            control.url,
            ServiceToken(control.token_file),
            trust=trust,
            request_seconds=self._config.timeouts.request,
        )
        opened.push_async_callback(session.close)
        return session

    def _callers(self, session: ControlSession) -> CallerCheck:
        callers = CallerCheck(
            session, audience=AUDIENCE_WORKER, issuer=self._config.tokens.issuer, wall=read_wall, clock=read_clock
        )
        # So that the first caller does not wait; one that comes before finds out by itself.
        self._tasks.spawn(callers.prepare(), name="keys of callers")
        return callers

    async def _apply(self, application: Application, journal: WorkflowJournal) -> ApplicationState:
        steps = PlanApplication(application, journal, self._far_side, self._plan_servers, self._times, wall=read_wall)
        state = await steps.run()
        self._ended[state] += 1
        # Servers that only the plan before this one named can go now.
        self._reconciliation.wake(PlanServers.name)
        return state

    async def roll_back(self, application: Application, application_id: str | None = None) -> Application:
        """Put the last good plan in force once more, as a revision of its own, and apply that.

        Gateways refuse an older revision; so what was good gets a newer number. Raises NotPossible, RollbackError.
        """
        good = await self.applications.last_good(application)
        try:
            plan = json.loads(await self._far_side.stored_plan(application.sandbox_id, good))
            plan["revision"] = application.revision + 1
            await self._far_side.store_plan(application.sandbox_id, seal(plan))
        except (NotYet, StepFailed) as error:
            raise RollbackError(str(error)) from None
        return await self.applications.begin(application.sandbox_id, application.revision + 1, application_id)

    async def _roll_back_failed(self, application: Application) -> None:
        """Follow a failed application by one of the last good plan. The same again begins no second one."""
        try:
            await self.roll_back(application, f"{application.application_id}_back")
        except (NotPossible, RollbackError, TooManyApplications) as error:
            _log.warning("plan_not_rolled_back", application=application.application_id, detail=str(error))


def run_worker(config: WorkerConfig) -> None:
    """Run a worker until SIGTERM or SIGINT.

    Raises ListenError when an address is taken, ListenerTlsError, StateTaken, DatabaseConfigError, SqliteTooOld,
    DatabaseUnavailable, LeaseLost.
    """
    harden_process()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(config))


async def _run(config: WorkerConfig) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await Worker(config).run(stop)


async def _ended(tasks: "Sequence[asyncio.Task[None]]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def _all(listening: Sequence[Coroutine[object, object, None]]) -> None:
    """Run them together; the first fault ends all and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for each in listening:
                group.create_task(each)
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None


def _log_ready(host: str, port: int) -> None:
    _log.info("ready", api=f"{host}:{port}")


def _log_front_ready(host: str, port: int) -> None:
    _log.info("front_ready", front=f"{host}:{port}")


def _task_failed(name: str, error: BaseException) -> None:
    _log.error("task_failed", task=name, exc_info=error)
