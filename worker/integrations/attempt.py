"""One try to have an integration server run: start or connect, handshake, running, until it ends or is asked to.

Whoever runs it is the task that enters the process and its session, and leaves both.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol

import httpx2
from mcp.client.session import ClientSession
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from sallyport.net.child import ChildError
from sallyport.net.orphans import end_orphans
from worker.integrations.errors import IntegrationError
from worker.integrations.launch import MARK, Call, Launch
from worker.integrations.mcp_session import Handshake, SessionRefused, http_session, shake_hands, stdio_session
from worker.integrations.parts import Parts
from worker.integrations.server_log import ServerLog
from worker.integrations.stdio_server import StdioServer, signal_name, start_stdio_server, told_exit


class AttemptOwner(Protocol):
    """Whom a try tells how it goes."""

    def began_to_run(self, attempt: "Attempt", found: Handshake) -> None:
        """The server has said what it is, and can be asked."""

    def lost(self, attempt: "Attempt") -> None:
        """It cannot be asked any more, though it may still be cleared away. May be told twice."""

    def tools_changed(self) -> None:
        """It says that its tools are others now."""


class Attempt:
    """The try. `reason` says why it does no more; None: it was asked to stop."""

    def __init__(
        self, owner: AttemptOwner, name: str, parts: Parts, log: ServerLog, stop_asked: asyncio.Future[None]
    ) -> None:
        self._owner = owner
        self._name = name
        self._parts = parts
        self._log = log
        self._stop_asked = stop_asked
        self.started_at = asyncio.get_running_loop().time()
        self.log_from = log.written
        self.got_to_run = False
        self.running_since = 0.0
        self.pid: int | None = None
        self.session: ClientSession | None = None
        self.call: Call | None = None
        self.exit_code: int | None = None
        self.exit: dict[str, object] | None = None
        self.reason: str | None = None

    async def run(self, prepare: Callable[[], Launch | Call], mark: str) -> None:
        """Start it and stay until it ends or is to end."""
        try:
            match prepare():
                case Launch() as launch:
                    await self._run_child(launch, mark)
                case Call() as call:
                    await self._stay_connected(call)
        except (IntegrationError, ChildError, SessionRefused, MCPError) as error:
            self.reason = self.reason or str(error)
        except (httpx2.HTTPError, OSError, RuntimeError, ExceptionGroup) as error:
            self.reason = self.reason or told(error)
        finally:
            self._lose()

    def _lose(self) -> None:
        self.session = None
        self._owner.lost(self)

    # A child of this worker -----------------------------------------------------------------------------------------

    async def _run_child(self, launch: Launch, mark: str) -> None:
        parts = self._parts
        server = await start_stdio_server(
            parts.tasks, launch, self._log, lambda: StdioServer(self._log, parts.limits.message_bytes)
        )
        self.pid = server.pid
        try:
            async with stdio_session(server, self._owner.tools_changed) as session:
                await self._shake_hands(session, server.silent)
                if self.got_to_run:
                    await first_of(server.silent, self._stop_asked)
        finally:
            self._lose()
            await server.stop(parts.times.stop)
            # A descendant that left the group still carries the mark.
            await asyncio.to_thread(end_orphans, MARK, mark)
            self._note_exit(server)

    def _note_exit(self, server: StdioServer) -> None:
        code = self.exit_code = server.exited.result() if server.exited.done() else None
        self.exit = {
            "code": code if code is not None and code >= 0 else None,
            "signal": signal_name(code) if code is not None and code < 0 else None,
            "at": datetime.fromtimestamp(int(self._parts.wall()), UTC).isoformat().replace("+00:00", "Z"),
        }
        if server.misbehaved is not None:
            self.reason = server.misbehaved
        elif self.reason is None and not self._stop_asked.done():
            self.reason = "its output ended" if code is None else told_exit(code)

    # A server elsewhere ---------------------------------------------------------------------------------------------

    async def _stay_connected(self, call: Call) -> None:
        parts = self._parts
        self._log.hide(call.hidden)
        self.call = call
        async with http_session(
            call,
            trust=parts.trust,
            timeout_seconds=parts.times.handshake,
            most_message_bytes=parts.limits.message_bytes,
            on_tools_changed=self._owner.tools_changed,
        ) as session:
            await self._shake_hands(session, None)
            # Nothing announces the end of a server elsewhere.
            while self.got_to_run and not self._stop_asked.done():
                await asyncio.wait({self._stop_asked}, timeout=parts.times.ping)
                if not self._stop_asked.done():
                    async with asyncio.timeout(parts.times.handshake):
                        await session.send_ping()

    # Both -----------------------------------------------------------------------------------------------------------

    async def _shake_hands(self, session: ClientSession, silent: asyncio.Future[None] | None) -> None:
        """Have it said what it is; then it runs. Ends early when it is to stop, or says nothing any more."""

        async def shake() -> Handshake | Exception:
            try:
                return await shake_hands(session, self._parts.limits.tools)
            except (MCPError, SessionRefused, ValidationError, RuntimeError, httpx2.HTTPError) as error:
                return error

        shaking = self._parts.tasks.spawn(shake(), name=f"handshake {self._name}")
        seconds = self._parts.times.handshake
        try:
            await first_of(shaking, self._stop_asked, *(() if silent is None else (silent,)), seconds=seconds)
            if silent is not None and silent.done():
                # Its last words may have been the answer, or a refusal: it is given the moment it takes to read them.
                await first_of(shaking, seconds=0.2)
        finally:
            shaking.cancel()
            await asyncio.wait({shaking})
        if self._stop_asked.done():
            return
        has_ended = silent is not None and silent.done()
        if shaking.cancelled():
            # How it ended says more than that it did not answer.
            self.reason = None if has_ended else f"no handshake within {seconds:g} s"
            return
        found = shaking.result()
        if isinstance(found, Handshake):
            self._begin_to_run(found, session)
        elif not has_ended:
            self.reason = f"the handshake failed: {told(found)}"

    def _begin_to_run(self, found: Handshake, session: ClientSession) -> None:
        self.session = session
        self.running_since = asyncio.get_running_loop().time()
        self.got_to_run = True
        self._owner.began_to_run(self, found)

    def __repr__(self) -> str:
        return f"<Attempt {self._name} {'runs' if self.session is not None else self.reason or 'not running'}>"


async def first_of(*ends: asyncio.Future[Any], seconds: float | None = None) -> None:
    """Wait until one of them is over, or for so long."""
    await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)


def told(error: BaseException) -> str:
    """Say what happened in words; a group of one is what is in it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, ValidationError):
        return "it answers with something that is no answer"
    return str(error) or type(error).__name__
