"""Put a worker together, run it, end it."""

import asyncio
import contextlib
import json
import signal
from collections.abc import Coroutine, Sequence

import structlog
import uvloop

from control_client.callers import CallerCheck
from control_client.service_token import ServiceToken
from control_client.session import ControlSession
from sallyport.claims import AUDIENCE_WORKER
from sallyport.net.clock import read_clock, read_wall
from sallyport.net.listener_tls import listener_context
from sallyport.net.process import harden_process
from sallyport.net.tasks import TaskSet
from sallyport.net.tls import client_context
from sallyport.plan.codec import seal
from worker.api import RollbackError, build_api, serve
from worker.application import Application
from worker.applications import Applications
from worker.apply_plan import NotYet, PlanApplication, StepFailed, StepTimes
from worker.config import WorkerConfig, inherited
from worker.far_side import HttpFarSide
from worker.integrations.api import add_integrations
from worker.integrations.assembly import open_front, open_integrations

_log = structlog.get_logger(__name__)


class Worker:
    """A worker's parts on the running loop."""

    def __init__(self, config: WorkerConfig) -> None:
        timeouts = config.timeouts
        self._config = config
        self._tasks = TaskSet(_task_failed)
        self.on_ready = _log_ready
        self.on_front_ready = _log_front_ready
        self._far_side = HttpFarSide(config.control, config.gateways, timeouts.request)
        self._times = StepTimes(
            control=timeouts.control, gateways=timeouts.gateways, tunnel=timeouts.tunnel, setup=timeouts.setup
        )
        self.applications = Applications(
            lambda application: PlanApplication(application, self._far_side, self._times).run(),
            self._tasks,
            wall=read_wall,
            max_applications=config.limits.applications,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop`; raises ListenError when an address is taken, ListenerTlsError, StateTaken."""
        config = self._config
        context = listener_context("tls", config.tls)
        front_context = listener_context("front.tls", config.front.tls)
        async with contextlib.AsyncExitStack() as opened:
            opened.push_async_callback(self._tasks.close)
            callers = None if context is None else self._callers(opened)
            api = build_api(self.applications, self.roll_back, callers)
            integrations = open_integrations(config.integrations, inherited(), self._tasks)
            opened.push_async_callback(integrations.close)
            add_integrations(api, integrations, self._tasks)
            front = None
            if config.front.listen is not None:
                front = open_front(config.front, config.integrations, integrations, self._tasks)
                opened.push_async_callback(front.close)
            await integrations.open()
            drain = config.timeouts.drain
            listening = [serve(api, config.listen, self.on_ready, stop, context, drain_seconds=drain)]
            if front is not None and config.front.listen is not None:
                listening.append(
                    serve(front, config.front.listen, self.on_front_ready, stop, front_context, drain_seconds=drain)
                )
            await _all(listening)

    def _callers(self, opened: contextlib.AsyncExitStack) -> CallerCheck:
        config = self._config
        trust = client_context(None if config.control.ca_file is None else str(config.control.ca_file))
        session = ControlSession(config.control.url, ServiceToken(config.control.token_file), trust=trust)
        opened.push_async_callback(session.close)
        callers = CallerCheck(
            session, audience=AUDIENCE_WORKER, issuer=config.tokens.issuer, wall=read_wall, clock=read_clock
        )
        # So that the first caller does not wait; one that comes before finds out by itself.
        self._tasks.spawn(callers.prepare(), name="keys of callers")
        return callers

    async def roll_back(self, application: Application) -> Application:
        """Put the last good plan in force once more, as a revision of its own, and apply that.

        Gateways refuse an older revision; so what was good gets a newer number. Raises NotPossible, RollbackError.
        """
        good = self.applications.last_good(application.application_id)
        try:
            plan = json.loads(await self._far_side.stored_plan(application.sandbox_id, good))
            plan["revision"] = application.revision + 1
            await self._far_side.store_plan(application.sandbox_id, seal(plan))
        except (NotYet, StepFailed) as error:
            raise RollbackError(str(error)) from None
        return self.applications.begin(application.sandbox_id, application.revision + 1)


def run_worker(config: WorkerConfig) -> None:
    """Run a worker until SIGTERM or SIGINT; raises ListenError when its address is taken, ListenerTlsError."""
    harden_process()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(config))


async def _run(config: WorkerConfig) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await Worker(config).run(stop)


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
