"""The parent of several serving processes: one gateway to whoever operates it and to the control plane.

It binds what the others accept on and keeps it, so that what waits there survives a process; it owns the admin listener
and the watch stream. No byte of a sandbox passes through it. In time order: _Parent.run, then its drain.
"""

import asyncio
import contextlib
import functools
import itertools
import shutil
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog

from gateway.admin.denials import denials_routes
from gateway.admin.forwards import forward_routes
from gateway.admin.surface import AdminParts, build_admin, start_admin
from gateway.app import run_process
from gateway.audit import AuditLog
from gateway.config import GatewayConfig
from gateway.control import ControlSide
from gateway.denials import Denials
from gateway.keys import KeyRing
from gateway.metrics import Metrics
from gateway.processes.fleet import Fleet, SharedPlans
from gateway.processes.place import Place
from gateway.processes.serving_process import END_SECONDS, ServingFailed, ServingProcess
from gateway.service_auth import ServiceAuth
from gateway.starting import (
    StartError,
    control_session,
    failed_tasks,
    key_ring,
    start_errors,
    token_verifier,
    trust_of,
    watch_expiries,
)
from sallyport.net.clock import Clock, read_wall
from sallyport.net.listener_tls import listener_context
from sallyport.net.process import settle_memory
from sallyport.net.setting_kinds import HostPort
from sallyport.net.tasks import TaskSet
from sallyport.net.transports import BoundSocket, bind_shared
from sallyport.net.unix_stream import MAX_PATH_BYTES

SETTINGS: Final = "settings.yaml"

_log = structlog.get_logger(__name__)


def run_parent(config: GatewayConfig, settings: Path, command: Sequence[str]) -> int:
    """Run a gateway of several processes until SIGTERM or SIGINT has drained it; raises StartError.

    command is `sallyport gateway` without its options. Returns the exit status: that of a process that could not start
    and has said why, else 0.
    """
    return run_process(config, lambda: _run(config, settings, command))


async def _run(config: GatewayConfig, settings: Path, command: Sequence[str]) -> int:
    async with contextlib.AsyncExitStack() as opened:
        parent = _Parent(config, settings, command, opened)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, parent.begin_drain)
        loop.add_signal_handler(signal.SIGHUP, parent.hang_up)
        return await parent.run()


class _Parent:
    """One run of a gateway of several processes; what was opened is on the stack."""

    def __init__(
        self, config: GatewayConfig, settings: Path, command: Sequence[str], opened: contextlib.AsyncExitStack
    ) -> None:
        self._config = config
        self._settings = settings
        self._command = command
        self._opened = opened
        self._metrics = Metrics()
        self._count_failed = failed_tasks(self._metrics)
        with start_errors():
            self._session = control_session(config, self._metrics)
        if self._session is not None:
            opened.push_async_callback(self._session.close)  # after the tasks that use it
        self._clock = Clock(asyncio.get_running_loop())
        opened.callback(self._clock.close)
        self._tasks = TaskSet(self._task_failed)
        opened.push_async_callback(self._tasks.close)
        limits = config.limits
        self._plans = SharedPlans(max_sandboxes=limits.sandboxes, max_plan_bytes=limits.plan_bytes)
        self._denials = Denials(most_each=limits.denials_per_sandbox, most=limits.denials)
        self._fleet = Fleet(
            self._plans,
            self._tasks,
            denials=self._denials,
            max_credential_revocations=limits.credential_cache_entries,
            now=lambda: self._clock.wall,
        )
        self._control: ControlSide | None = None
        self._sockets: list[BoundSocket] = []
        self._names: list[str] = []  # of proxy and tunnel
        self.admin: Sequence[tuple[str, int]] = ()
        self._has_started = False
        self._is_draining = False
        self._drain_begun = asyncio.Event()
        self._drained = asyncio.Event()
        self._running: list[asyncio.Task[None]] = []
        self._failure: ServingFailed | None = None

    async def run(self) -> int:
        """Start everything, and return once all of it has ended."""
        with start_errors():
            await self._start()
        await self._serve()
        if self._failure is None:
            return 0
        if self._failure.status is None or self._failure.status <= 0:
            raise StartError(str(self._failure), "the log says what it met with")
        return self._failure.status  # it has told its own reason

    # Starting ---------------------------------------------------------------------------------------

    async def _start(self) -> None:
        """Open everything but the processes."""
        config = self._config
        for _ in self._plans.load_files(config.plans):
            self._metrics.plan_applied("applied")
        self._check_files()
        self._metrics.watch("plans_active", self._plans.__len__)
        self._metrics.watch("ready", lambda: int(not self._not_ready()))
        watch_expiries(config, self._session, self._metrics)
        self._metrics.watch("serving_process_deaths", lambda: sum(each.deaths for each in self._fleet.processes))
        keys = key_ring(config)
        self._make_control(keys)
        places = self._bind()
        self.admin = await self._serve_admin(keys)
        self._make_processes(places)
        if self._control is not None:
            scheme = "https" if config.admin.tls.is_given else "http"
            self._control.start(
                self._fleet,
                invalidate=self._fleet.invalidate,
                revoke=self._fleet.revoke,
                admin_url=f"{scheme}://{HostPort(*self.admin[0])}",
            )

    def _check_files(self) -> None:
        """Look at what every process will open, so that a fault is told once and before any is started."""
        config = self._config
        trust_of("upstream.ca_file", config.upstream.ca_file)
        listener_context("tunnel.tls", config.tunnel.tls)
        audit = AuditLog(config.audit.path, config.limits.audit_records)
        audit.start()
        audit.close()

    def _make_control(self, keys: KeyRing) -> None:
        if self._session is None:
            return
        self._control = ControlSide(
            self._config,
            self._session,
            plans=self._plans,
            keys=keys,
            clock=self._clock,
            tasks=self._tasks,
            metrics=self._metrics,
            on_keys=self._fleet.keys,
        )
        self._opened.push_async_callback(self._control.close)
        self._fleet.on_want_keys = self._control.want_keys

    def _bind(self) -> Sequence[tuple[Sequence[BoundSocket], Sequence[BoundSocket]]]:
        """Return the sockets of each process, for proxy and tunnel."""
        listening = self._config.listen
        proxy = self._bind_one(listening.proxy)
        tunnel = [()] * len(proxy) if listening.tunnel is None else self._bind_one(listening.tunnel)
        self._names = [str(HostPort(*rows[0][0].getsockname()[:2])) for rows in (proxy, tunnel) if rows[0]]
        return list(zip(proxy, tunnel, strict=True))

    def _bind_one(self, address: HostPort) -> Sequence[Sequence[BoundSocket]]:
        rows = bind_shared(address.host, address.port, self._config.workers)
        for bound in itertools.chain(*rows):
            self._sockets.append(bound)
            self._opened.callback(bound.close)
        return rows

    async def _serve_admin(self, keys: KeyRing) -> Sequence[tuple[str, int]]:
        config = self._config
        context = listener_context("admin.tls", config.admin.tls)
        verifiers = functools.partial(token_verifier, config, keys, self._fleet.revocations, self._control)
        admin = build_admin(
            AdminParts(
                plans=self._plans,
                metrics=self._metrics,
                not_ready=self._not_ready,
                notes=lambda: [] if self._control is None else self._control.notes(),
                is_controlled=self._control is not None,
                auth=None if context is None else ServiceAuth(verifiers, read_wall),
                invalidate=self._fleet.invalidate_everywhere,
                revoke=self._fleet.revoke_everywhere,
                drain=self.begin_drain,
                drain_seconds=config.timeouts.drain,
                max_plan_bytes=config.limits.plan_bytes,
                applied=self._fleet.settled,
                scrape=lambda: self._fleet.scrape(self._metrics.render()),
            )
        )
        admin.add_routes(forward_routes(self._fleet, self._tasks))
        admin.add_routes(denials_routes(self._denials))
        runner = await start_admin(admin, config.listen.admin.host, config.listen.admin.port, context)
        self._opened.push_async_callback(runner.cleanup)
        self._opened.callback(self._denials.close)  # it waits for its answers, and these have no end
        return [(str(name[0]), int(name[1])) for name in runner.addresses]

    def _make_processes(self, sockets: Sequence[tuple[Sequence[BoundSocket], Sequence[BoundSocket]]]) -> None:
        folder = self._private_folder()

        def command(number: int, path: Path) -> tuple[Sequence[str], Place]:
            proxy, tunnel = sockets[number - 1]
            place = Place(
                number=number,
                proxy=tuple(bound.fileno() for bound in proxy),
                tunnel=tuple(bound.fileno() for bound in tunnel),
                admin_socket=path,
                audit_lock=folder / "audit.lock",
                settings_folder=self._settings.absolute().parent,
                parent_addresses=tuple(self.admin),
            )
            settings = str(folder / SETTINGS)
            return (*self._command, "--config", settings, "--serving-process", place.to_text()), place

        self._fleet.processes = [
            ServingProcess(number, functools.partial(command, number), folder, self._fleet, self._tasks)
            for number in range(1, self._config.workers + 1)
        ]

    def _private_folder(self) -> Path:
        """Make the folder of the admin sockets. The settings in it are a copy, so that all processes read the same."""
        folder = Path(tempfile.mkdtemp(prefix="sallyport-"))  # 0700
        self._opened.callback(shutil.rmtree, folder, ignore_errors=True)
        if len(str(folder)) + len("/64-999999.sock") > MAX_PATH_BYTES:
            raise StartError(f"TMPDIR: {folder} is too long for a socket", "name a folder with a shorter path")
        shutil.copyfile(self._settings, folder / SETTINGS)
        return folder

    # Serving ----------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        await self._start_processes(self._fleet.processes)
        if not self._is_draining:
            self._has_started = True
            settle_memory()
            self._log_ready()
        await self._drained.wait()

    async def _start_processes(self, processes: Sequence[ServingProcess]) -> None:
        """Start processes and wait until they accept, or the whole ends."""
        if self._is_draining:
            return
        for process in processes:
            self._running.append(self._tasks.spawn(process.run(), name=f"serving process {process.number}"))
        serve = self._tasks.spawn(_until_serving(processes), name="start of serving processes")
        ends = self._tasks.spawn(self._drain_begun.wait(), name="an end before the start")
        await asyncio.wait({serve, ends}, return_when=asyncio.FIRST_COMPLETED)
        for each in (serve, ends):
            each.cancel()

    def _log_ready(self) -> None:
        proxy, tunnel = (*self._names, "off")[:2]
        _log.info(
            "ready",
            proxy=proxy,
            tunnel=tunnel,
            admin=f"{self._config.listen.admin.host}:{self.admin[0][1]}",
            plans=len(self._config.plans),
            processes=len(self._fleet.processes),
        )

    def _not_ready(self) -> list[str]:
        reasons = [] if self._control is None else self._control.obstacles()
        if self._is_draining:
            return ["draining", *reasons]
        return reasons if self._has_started and self._fleet.is_serving else ["starting", *reasons]

    def hang_up(self) -> None:
        """Have every process open its audit file anew."""
        for process in self._fleet.processes:
            process.hang_up()

    def _task_failed(self, name: str, error: BaseException) -> None:
        if isinstance(error, ServingFailed):
            self._failure = self._failure or error
            self.begin_drain()
        else:
            self._count_failed(name, error)

    # The end ----------------------------------------------------------------------------------------

    def begin_drain(self) -> None:
        """Let every process drain, once."""
        if not self._is_draining:
            self._is_draining = True
            self._drain_begun.set()
            self._tasks.spawn(self._drain(), name="drain")

    async def _drain(self) -> None:
        """Accept no more, let every process end, end what is left at the deadline."""
        _log.info("draining", processes=len(self._fleet.processes), seconds=self._config.timeouts.drain)
        # Ours first: while it is open, what comes would wait for a successor that does not come.
        for bound in self._sockets:
            bound.close()
        for process in self._fleet.processes:
            process.end()
        try:
            if self._running:
                _, left = await asyncio.wait(self._running, timeout=self._config.timeouts.drain + END_SECONDS)
                for process in self._fleet.processes if left else ():
                    _log.error("serving_process_stuck", number=process.number, pid=process.process_id)
                    process.kill()
                if left:
                    await asyncio.wait(left)
        finally:
            # A process that was asked to end does so, whatever went wrong here.
            _log.info("drained")
            self._drained.set()


async def _until_serving(processes: Sequence[ServingProcess]) -> None:
    for process in processes:
        await process.first_serves.wait()
