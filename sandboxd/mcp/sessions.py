"""The stdio MCP servers of a sandbox, served by streamable HTTP: a session is a process of its own for one client.

A session begins with `initialize`, which starts the process, and ends by a DELETE, with the process, after a time in
which nobody asks, or when its server is no longer declared as it was.
"""

import asyncio
import contextlib
import secrets
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from sallyport.net.child import ChildError, start_child
from sallyport.net.line_child import LineChild
from sallyport.net.tasks import TaskSet
from sallyport.problem import Code
from sallyport.setup import McpServer, StdioMcpTransport
from sallyport.wire.http1.answers import ESTABLISHED, plain_answer
from sandboxd.core.json_rpc import Kind, Message, read_message
from sandboxd.mcp.exchange import ALIVE_SECONDS, MAX_MESSAGE_BYTES, Exchange, McpRequest, Refused
from sandboxd.mcp.session import McpSession, Replies
from sandboxd.setup.process_log import ProcessLog

# Each is a process, of a size that is its program's.
MAX_SESSIONS: Final = 32
# Contracts section 8: a server runs once its handshake is over. npx and uvx may fetch a program first.
HANDSHAKE_SECONDS: Final = 45.0
# What takes longer is answered with events, so that nobody on the way takes it for dead.
EVENTS_AFTER_SECONDS: Final = 1.0
# Nobody asks and nobody listens: a client that went away without a word.
IDLE_SECONDS: Final = 1800.0


class StdioSessions:
    """All of them. `declared` says what is declared now; `environment` of what a server is started in."""

    def __init__(
        self,
        tasks: TaskSet,
        *,
        declared: Callable[[], Sequence[McpServer]],
        environment: Callable[[Mapping[str, str] | None], Mapping[str, str]],
        log: Callable[[McpServer], ProcessLog],
    ) -> None:
        self._tasks = tasks
        self._declared = declared
        self._environment = environment
        self._log = log
        self._sessions: dict[str, McpSession] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._starting = 0

    def serve(self, stream: asyncio.Transport, server: McpServer, on_end: Callable[[], None]) -> asyncio.Protocol:
        """Serve one request on a stream and return its protocol. `on_end` is called once, when it is over."""
        for session in tuple(self._sessions.values()):
            if session.server not in self._declared():
                self._end(session)
        stream.write(ESTABLISHED)
        return Exchange(stream).begin(self._tasks, lambda exchange: self._serve(exchange, server), on_end)

    async def close(self) -> None:
        """End every session, and wait until their processes are gone."""
        running = tuple(self._running.values())
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    async def _serve(self, exchange: Exchange, server: McpServer) -> None:
        request = await exchange.request()
        match request.method:
            case "POST":
                await self._post(exchange, server, request)
            case "GET":
                await self._listen(exchange, self._session(server, request))
            case "DELETE":
                self._end(self._session(server, request))
                await exchange.send(plain_answer(200, "application/json", b"", close=True))
            case _:
                raise Refused(405, "method_not_allowed", "use GET, POST, DELETE")

    # Messages ------------------------------------------------------------------------------------------------------

    async def _post(self, exchange: Exchange, server: McpServer, request: McpRequest) -> None:
        message = read_message(request.body)
        if message is None:
            raise Refused.of(Code.INVALID_REQUEST, "the body is not one JSON-RPC message")
        if request.session_id is None:
            if message.kind is not Kind.REQUEST or message.method != "initialize":
                raise Refused.of(Code.INVALID_REQUEST, "a session begins with initialize", message.id)
            await self._initialize(exchange, server, message)
            return
        session = self._session(server, request)
        if message.kind is not Kind.REQUEST:
            await session.tell(message)
            await exchange.accept()
            return
        replies = await session.ask(message)
        try:
            await _answer(exchange, replies)
        finally:
            session.forget(replies)

    async def _initialize(self, exchange: Exchange, server: McpServer, message: Message) -> None:
        """Start a server and pass on how it introduces itself; one that does not is ended."""
        session = await self._begun(server, message)
        is_up = False
        try:
            replies = await session.ask(message)
            try:
                async with asyncio.timeout(HANDSHAKE_SECONDS):
                    # What it says before its answer, such as a line for the log, is nobody's yet.
                    while (line := await replies.next()) is not None and replies.has_more:
                        pass
            except TimeoutError:
                detail = f"the server did not answer initialize within {HANDSHAKE_SECONDS:g} s"
                raise Refused.of(Code.UPSTREAM_TIMEOUT, detail, message.id) from None
            finally:
                session.forget(replies)
            if session.is_over or line is None:
                raise Refused.of(Code.UPSTREAM_UNREACHABLE, session.end(), message.id)
            is_up = not replies.is_error
            await exchange.answer(line, session.id if is_up else None)
        finally:
            if not is_up:
                self._end(session)

    async def _begun(self, server: McpServer, message: Message) -> McpSession:
        if len(self._running) + self._starting >= MAX_SESSIONS:
            raise Refused.of(Code.OVERLOADED, f"{MAX_SESSIONS} such processes run already", message.id)
        transport = server.transport
        assert isinstance(transport, StdioMcpTransport), "only such servers are served here"
        log = self._log(server)
        self._starting += 1
        try:
            child = await start_child(
                self._tasks,
                lambda: LineChild(log.write, MAX_MESSAGE_BYTES),
                (transport.command, *transport.args),
                env=self._environment(transport.env),
                cwd=None,
                stdin=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except ChildError as error:
            raise Refused.of(Code.UPSTREAM_UNREACHABLE, str(error), message.id) from None
        finally:
            self._starting -= 1
        session = McpSession(secrets.token_hex(16), server, child, log)
        self._sessions[session.id] = session
        running = self._running[session.id] = self._tasks.spawn(self._run(session), name=f"session {server.server_id}")

        def over(_: asyncio.Task[None]) -> None:
            del self._running[session.id]
            self._sessions.pop(session.id, None)
            child.abandon()

        # No part of the task: one that is cancelled before it begins does nothing.
        running.add_done_callback(over)
        return session

    async def _run(self, session: McpSession) -> None:
        idle: asyncio.TimerHandle | None = None

        def watch() -> None:
            nonlocal idle
            if idle is not None:
                idle.cancel()
            idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, end_if_idle)

        def end_if_idle() -> None:
            if session.is_idle:
                self._end(session)

        session.on_idle = watch
        try:
            await session.run()
        finally:
            if idle is not None:
                idle.cancel()

    async def _listen(self, exchange: Exchange, session: McpSession) -> None:
        replies = session.listen()
        try:
            await exchange.begin_events()
            await _events(exchange, replies)
        finally:
            session.forget(replies)

    def _session(self, server: McpServer, request: McpRequest) -> McpSession:
        session = None if request.session_id is None else self._sessions.get(request.session_id)
        if session is None or session.server != server:
            # As the protocol has it for a session that is over: its client begins a new one.
            raise Refused(404, "not_found", "Session not found")
        return session

    def _end(self, session: McpSession) -> None:
        self._sessions.pop(session.id, None)
        task = self._running.get(session.id)
        if task is not None:
            task.cancel()

    def __repr__(self) -> str:
        return f"<StdioSessions: {len(self._running)}>"


async def _answer(exchange: Exchange, replies: Replies) -> None:
    """Answer a request: with its response alone where that comes at once, or with events."""
    first: bytes | None = None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(EVENTS_AFTER_SECONDS):
            first = await replies.next()
    if first is not None and not replies.has_more:
        await exchange.answer(first)
        return
    await exchange.begin_events()
    if first is not None:
        await exchange.event(first)
    await _events(exchange, replies)


async def _events(exchange: Exchange, replies: Replies) -> None:
    while True:
        try:
            async with asyncio.timeout(ALIVE_SECONDS):
                line = await replies.next()
        except TimeoutError:
            await exchange.still_here()
            continue
        if line is None:
            await exchange.end_events()
            return
        await exchange.event(line)
