"""The life of one integration server, in time order: start, handshake, running, end, and again after a crash.

One task makes one try after the other (`attempt.py`). Requests of others only ask it: by `_stop_asked`, and by the
session's own requests. Callers of a program have sessions of their own, each with a process of its own;
these begin while it runs, live on while it is started again, and end with its life.
"""

import asyncio
import contextlib
import enum
import random
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog
from mcp.client.session import ClientSession
from mcp.shared.dispatcher import ProgressFnT
from mcp.shared.exceptions import MCPError
from mcp_types import CONNECTION_CLOSED, INTERNAL_ERROR, Request
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel, ConfigDict, ValidationError

from sallyport.mcp.exchange import Exchange, McpRequest, Refused
from sallyport.mcp.sessions import Owner
from sallyport.net.child import ChildError
from sallyport.net.line_child import LineChild
from sallyport.problem import Code
from worker.integrations.attempt import Attempt, first_of, told
from worker.integrations.errors import Category, IntegrationError, provider_error
from worker.integrations.launch import Call, Launch, prepare, session_mark
from worker.integrations.mcp_session import (
    Handshake,
    SessionRefused,
    list_tools,
)
from worker.integrations.parts import Parts
from worker.integrations.passage import Passage
from worker.integrations.server_log import ServerLog
from worker.integrations.sessionless import answer_alone
from worker.integrations.stdio_server import (
    SessionServer,
    start_stdio_server,
)
from worker.integrations.store import Stored, with_desired

# Lines of its errors that a failed start is answered with.
TOLD_LINES: Final = 20

_log = structlog.get_logger(__name__)


class _Answer(BaseModel):
    """Any result, as it came: what it means is for whoever asked."""

    model_config = ConfigDict(extra="allow")


class Status(enum.Enum):
    """Where a server stands."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    RESTARTING = "restarting"  # it crashed, and waits to be started again
    CRASH_LOOP = "crash_loop"
    REMOVING = "removing"


class Integration:
    """One installed server. Always: `_life` runs exactly while the server runs, is being started, or will be again."""

    def __init__(
        self, parts: Parts, stored: Stored, on_ended: Callable[[str], None], on_changed: Callable[[], None]
    ) -> None:
        """on_ended hears its id when it does not run and will not by itself.

        on_changed hears that its status, or what is kept of it, is another now.
        """
        self._parts = parts
        self._on_ended = on_ended
        self._on_changed = on_changed
        self._stored = stored
        self._status = Status.STOPPED
        self.log = ServerLog(most_lines=parts.limits.log_lines, most_line_bytes=parts.limits.log_line_bytes)
        self.restart_count = 0
        self._last_exit: dict[str, object] | None = None
        self._last_error: str | None = None
        self._attempt: Attempt | None = None
        self._life: asyncio.Task[None] | None = None
        self._stop_asked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # What becomes of the try that goes on, or of the next one.
        self._outcome: asyncio.Future[IntegrationError | None] = asyncio.get_running_loop().create_future()
        self._start_now = asyncio.Event()
        self._is_leaving = False
        self._calls = 0
        self._sessions_begun = 0
        self._tools_task: asyncio.Task[None] | None = None

    @property
    def id(self) -> str:
        """Its id."""
        return self._stored.manifest.id

    @property
    def status(self) -> Status:
        """Where it stands."""
        return self._status

    @property
    def stored(self) -> Stored:
        """What is kept of it."""
        return self._stored

    @property
    def call(self) -> Call | None:
        """How it is called, of a server at a URL that runs; None else."""
        return None if self._attempt is None or self._attempt.session is None else self._attempt.call

    def passage(self, call: Call, most_sessions: int) -> Passage:
        """Return a way to it for others."""
        parts = self._parts
        return Passage(
            call,
            parts.trust,
            connect_seconds=parts.times.handshake,
            answer_seconds=parts.times.call,
            most_body_bytes=parts.limits.message_bytes,
            most_sessions=most_sessions,
            most_calls=parts.limits.calls,
        )

    # What is asked of it ----------------------------------------------------------------------------

    async def start(self) -> None:
        """Have it run; returns when it does. Raises IntegrationError."""
        if self._is_leaving or self.status is Status.STOPPING:
            raise self._conflict("start")
        if self.status is Status.RESTARTING:
            self._prepare(self._mark)
            self._start_now.set()
        elif self._life is None:
            self._begin()
        # Somebody may have been first; all hear of the same start.
        await self._tried()

    async def stop(self) -> None:
        """Have it not run; returns when it does not. Raises IntegrationError while it is being removed."""
        if self._is_leaving:
            raise self._conflict("stop")
        self._keep(with_desired(self._stored, "stopped"))
        if self.status in (Status.STOPPED, Status.CRASH_LOOP):
            self._become(Status.STOPPED)
            return
        await self._end_life()

    async def restart(self) -> None:
        """Stop it and start it. Raises IntegrationError."""
        if self._is_leaving or self.status in (Status.STARTING, Status.STOPPING):
            raise self._conflict("restart")
        await self._end_life()
        await self.start()

    async def end(self) -> None:
        """End what runs and leave the wish for it as it is: the worker ends."""
        await self._end_life()

    async def leave(self) -> None:
        """End what runs, for good; nothing can be asked of it any more. Raises IntegrationError."""
        if self.status in (Status.STARTING, Status.STOPPING, Status.REMOVING):
            raise self._conflict("remove")
        self._is_leaving = True
        await self._end_life()
        self._become(Status.REMOVING)

    def resume(self) -> None:
        """Begin to start it if it is meant to run and nobody is at it; tried again as after a crash."""
        if self._stored.desired == "running" and self.is_at_rest and self.status is Status.STOPPED:
            self._spawn(insists=True)

    @property
    def is_at_rest(self) -> bool:
        """Whether no process of it can be there by its own doing."""
        return self._life is None

    def want(self, who: str, revision: int) -> None:
        """Note who wants it, from which revision on; an older one changes nothing."""
        if self._stored.wanted_by.get(who, 0) < revision:
            self._keep(self._stored.model_copy(update={"wanted_by": {**self._stored.wanted_by, who: revision}}))

    def unwant(self, who: str) -> None:
        """Note that it is wanted by one less."""
        left = {name: revision for name, revision in self._stored.wanted_by.items() if name != who}
        self._keep(self._stored.model_copy(update={"wanted_by": left}))

    async def serve(self, exchange: Exchange, request: McpRequest, caller: str) -> None:
        """Answer a request to a program, in a session that is the caller's alone; raises Refused."""
        if self._stored.protocol_version in MODERN_PROTOCOL_VERSIONS:
            # It knows no sessions, and so has none that a process could be for.
            await answer_alone(exchange, request, self.ask)
        else:
            await self._parts.sessions.serve(exchange, request, Owner(self.id, caller), self._start_session)

    async def _start_session(self) -> LineChild:
        """Start a process for a session; raises Refused. While the server restarts, a new session waits for it."""
        await self._is_settled()
        if self.status is not Status.RUNNING:
            raise Refused(503, "not_running", f"the server {self.id} is {self.status.value}")
        self._sessions_begun += 1
        number, limits = self._sessions_begun, self._parts.limits
        # Its own beginnings of lines; whole ones are kept with those of the server.
        log = ServerLog(
            most_lines=1,
            most_line_bytes=limits.log_line_bytes,
            on_line=lambda line: self.log.add(f"[session {number}] {line}"),
        )
        mark = session_mark(self._mark, number)
        try:
            launch = self._prepare(mark)
            assert isinstance(launch, Launch), "a server elsewhere has sessions of its own"
            return await start_stdio_server(
                self._parts.tasks, launch, log, lambda: SessionServer(log, limits.message_bytes, mark)
            )
        except (IntegrationError, ChildError) as error:
            log.note(str(error))
            raise Refused.of(Code.UPSTREAM_UNREACHABLE, f"the server {self.id} cannot be started") from None

    async def _end_sessions(self) -> None:
        await self._parts.sessions.ended(self._owns)

    def _owns(self, owner: Owner) -> bool:
        return owner.server == self.id

    async def ask(
        self, method: str, params: Mapping[str, object] | None, on_progress: ProgressFnT | None
    ) -> dict[str, Any]:
        """Pass a request on to the running server and return its result; raises MCPError."""
        if self._calls >= self._parts.limits.calls:
            raise MCPError(INTERNAL_ERROR, f"the server {self.id} has {self._calls} calls to answer; try again")
        self._calls += 1
        try:
            session = await self._running_session()
            request = Request[dict[str, Any] | None, str](
                method=method, params=None if params is None else dict(params)
            )
            answer = await session.send_request(request, _Answer, self._parts.times.call, progress_callback=on_progress)
            return answer.model_dump(mode="json")
        except ValidationError:
            raise MCPError(INTERNAL_ERROR, f"the server {self.id} answered {method} with no such answer") from None
        finally:
            self._calls -= 1

    async def _running_session(self) -> ClientSession:
        """Return the session. A call that comes between a crash and the new start waits for that, and is not lost."""
        await self._is_settled()
        if self._attempt is None or self._attempt.session is None:
            raise MCPError(CONNECTION_CLOSED, f"the server {self.id} is {self.status.value}")
        return self._attempt.session

    async def _is_settled(self) -> None:
        """Wait while it is being started, or will be again, but no longer than a handshake may take."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._parts.times.handshake):
                while self.status in (Status.STARTING, Status.RESTARTING):
                    await asyncio.shield(self._outcome)

    # What is told of it -----------------------------------------------------------------------------

    def row(self) -> dict[str, object]:
        """Return its entry in the list."""
        return {"id": self.id, "status": self.status.value, "tools_count": len(self._stored.tools)}

    @property
    def pid(self) -> int | None:
        """Its process, while there is one."""
        return None if self._attempt is None else self._attempt.pid

    def to_document(self) -> dict[str, object]:
        """Return its status."""
        attempt = self._attempt
        runs = self.status is Status.RUNNING and attempt is not None
        uptime = asyncio.get_running_loop().time() - attempt.running_since if runs and attempt is not None else 0
        return self.row() | {
            "pid": self.pid,
            "uptime_secs": int(uptime),
            "restart_count": self.restart_count,
            "last_exit": self._last_exit,
            "last_error": self._last_error,
            "protocol_version": self._stored.protocol_version,
            "server_info": self._stored.server_info,
        }

    # Its life ---------------------------------------------------------------------------------------

    def _begin(self) -> None:
        # Before anything is changed: what is missing is told without an attempt.
        self._prepare(self._mark)
        self.restart_count = 0
        self._keep(with_desired(self._stored, "running"))
        self._spawn(insists=False)

    async def _tried(self) -> None:
        error = await asyncio.shield(self._outcome)
        if error is not None:
            raise error

    def _spawn(self, *, insists: bool) -> None:
        loop = asyncio.get_running_loop()
        self._become(Status.STARTING)
        self._stop_asked = loop.create_future()
        self._outcome = loop.create_future()
        self._life = self._parts.tasks.spawn(self._live(insists), name=f"integration {self.id}")

    async def _end_life(self) -> None:
        if self._life is None:
            return
        if not self._stop_asked.done():
            self._stop_asked.set_result(None)
            self._become(Status.STOPPING)
            self._parts.sessions.end(self._owns)
        # Not `await self._life`: who is cancelled here must not cancel it.
        await asyncio.wait({self._life})

    async def _live(self, insists: bool) -> None:
        failures = 0
        attempt: Attempt | None = None
        try:
            while True:
                attempt = self._attempt = Attempt(self, self.id, self._parts, self.log, self._stop_asked)
                self._start_now.clear()
                await attempt.run(lambda: self._prepare(self._mark), self._mark)
                self._attempt = None
                self._last_exit = attempt.exit or self._last_exit
                if self._stop_asked.done():
                    return
                self._note_end(attempt)
                if not attempt.got_to_run and not insists:
                    self._keep(with_desired(self._stored, "stopped"))
                    return
                insists = True
                ran = asyncio.get_running_loop().time() - attempt.started_at
                failures = 1 if attempt.got_to_run and ran >= self._parts.times.stable else failures + 1
                self._tell_outcome(attempt)
                if failures >= self._parts.limits.crashes:
                    await self._end_sessions()
                    self._become(Status.CRASH_LOOP)
                    self.log.note(f"not started again: {failures} failures")
                    return
                self._become(Status.RESTARTING)
                if await self._has_waited(failures):
                    failures = 0
                if self._stop_asked.done():
                    return
                self.restart_count += 1
                self._become(Status.STARTING)
        finally:
            self._attempt = None
            await self._end_sessions()
            self._life = None
            if self.status is not Status.CRASH_LOOP:
                self._become(Status.STOPPED)
            if not self._outcome.done():
                self._outcome.set_result(self._failed_start(attempt))
            self._on_ended(self.id)

    def _tell_outcome(self, attempt: Attempt) -> None:
        """Tell who waits for this try that it has failed, and have others wait for the next."""
        if not attempt.got_to_run and not self._outcome.done():
            self._outcome.set_result(self._failed_start(attempt))
        self._await_next()

    def _await_next(self) -> None:
        if self._outcome.done():
            self._outcome = asyncio.get_running_loop().create_future()

    async def _has_waited(self, failures: int) -> bool:
        """Wait before the next try; True when it was asked for meanwhile."""
        asked = self._parts.tasks.spawn(self._start_now.wait(), name=f"next try of {self.id}")
        await first_of(self._stop_asked, asked, seconds=self._pause(failures))
        asked.cancel()
        return self._start_now.is_set()

    def _pause(self, failures: int) -> float:
        times = self._parts.times
        # Jitter: what one cause has ended does not all come back in one moment.
        return min(times.first_restart * 2.0 ** (failures - 1), times.longest_restart) * random.uniform(0.75, 1.25)

    def _prepare(self, mark: str) -> Launch | Call:
        parts = self._parts
        folder = parts.store.folder(self.id)
        return prepare(self._stored.manifest, folder, self._stored.program, mark, parts.around)

    @property
    def _mark(self) -> str:
        return f"{self._parts.store.mark}.{self.id}"

    # What a try tells -------------------------------------------------------------------------------

    def began_to_run(self, attempt: Attempt, found: Handshake) -> None:
        """It runs, and this is what it says of itself."""
        self._keep(
            self._stored.model_copy(
                update={
                    "tools": found.tools,
                    "protocol_version": found.protocol_version,
                    "server_info": found.server_info,
                }
            )
        )
        self._become(Status.RUNNING)
        self._last_error = None
        _log.info("integration_running", integration=self.id, tools=len(found.tools), pid=attempt.pid)
        if not self._outcome.done():
            self._outcome.set_result(None)

    def lost(self, attempt: Attempt) -> None:
        """The session is over. From now on calls wait for the next, also while the server is being cleared away."""
        if attempt.got_to_run and not self._stop_asked.done():
            self._await_next()
            self._become(Status.RESTARTING)

    def tools_changed(self) -> None:
        """It says that its tools are others now. One look at a time; what changes meanwhile is told again."""
        if self._tools_task is None or self._tools_task.done():
            self._tools_task = self._parts.tasks.spawn(self._look_at_tools(), name=f"tools of {self.id}")

    async def _look_at_tools(self) -> None:
        session = None if self._attempt is None else self._attempt.session
        if session is None:
            return
        try:
            async with asyncio.timeout(self._parts.times.handshake):
                tools = await list_tools(session, self._parts.limits.tools)
        except (MCPError, SessionRefused, ValidationError, TimeoutError) as error:
            self.log.note(f"its tools could not be read again: {told(error)}")
            return
        self._keep(self._stored.model_copy(update={"tools": tools}))

    def _note_end(self, attempt: Attempt) -> None:
        reason = self.log.without_secrets(attempt.reason or "it ended")
        self._last_error = reason
        self.log.note(reason)
        _log.warning("integration_ended", integration=self.id, reason=reason)

    def _failed_start(self, attempt: Attempt | None) -> IntegrationError:
        if self._stop_asked.done():
            return IntegrationError(Category.INVALID_STATE, f"{self.id} was stopped while it was being started")
        lines = [] if attempt is None else self.log.tail(self.log.written - attempt.log_from)
        own = [line for line in lines if not line.startswith("[worker]")]
        code = None if attempt is None or attempt.exit_code is None or attempt.exit_code < 0 else attempt.exit_code
        details = {"exitCode": code, "stderr": own[-TOLD_LINES:]}
        return provider_error(f"{self.id} does not run: {self._last_error}", details)

    def _conflict(self, wish: str) -> IntegrationError:
        message = f"{self.id} is {self.status.value}; {wish} it when that is over"
        return IntegrationError(Category.INVALID_STATE, message, {"status": self.status.value})

    def _become(self, status: Status) -> None:
        if status is not self._status:
            self._status = status
            self._on_changed()

    def _keep(self, stored: Stored) -> None:
        if stored != self._stored:
            self._stored = stored
            self._on_changed()
            try:
                self._parts.store.save(stored)
            except OSError as error:
                _log.error("integration_not_kept", integration=self.id, reason=error.strerror)

    def __repr__(self) -> str:
        return f"<Integration {self.id} {self.status.value}>"
