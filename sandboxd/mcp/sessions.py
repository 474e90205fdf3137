"""The stdio MCP servers that a sandbox declares, each served by sessions that are processes of their own.

A session also ends when its server is no longer declared as it was.
"""

import asyncio
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from sallyport.mcp.sessions import McpSessions, Owner, SessionLimits
from sallyport.net.child import start_child
from sallyport.net.line_child import LineChild, StopTimes
from sallyport.net.tasks import TaskSet
from sallyport.setup import McpServer, StdioMcpTransport
from sallyport.wire.http1.answers import ESTABLISHED
from sandboxd.mcp.exchange import MAX_MESSAGE_BYTES, StreamExchange
from sandboxd.setup.process_log import ProcessLog

LIMITS: Final = SessionLimits(
    # Each is a process, of a size that is its program's.
    sessions=32,
    sessions_of_one=32,
    sessions_of_caller=32,
    # Each waits on a stream of its own, of which `local_streams` has as many.
    requests=256,
    # Contracts section 8: a server runs once its handshake is over. npx and uvx may fetch a program first.
    handshake_seconds=45.0,
    idle_seconds=1800.0,
    answer_seconds=None,  # the gateway's and the client's own decide
    stop=StopTimes(exit=2.0, terminate=2.0),
)


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
        self._sessions = McpSessions(tasks, LIMITS)

    def serve(self, stream: asyncio.Transport, server: McpServer, on_end: Callable[[], None]) -> asyncio.Protocol:
        """Serve one request on a stream and return its protocol. `on_end` is called once, when it is over."""
        declared = self._declared()
        self._sessions.end(lambda owner: owner.server not in declared)
        stream.write(ESTABLISHED)
        return StreamExchange(stream).begin(self._tasks, lambda exchange: self._serve(exchange, server), on_end)

    async def close(self) -> None:
        """End every session, and wait until their processes are gone."""
        await self._sessions.ended(lambda owner: True)

    async def _serve(self, exchange: StreamExchange, server: McpServer) -> None:
        request = await exchange.request()
        await self._sessions.serve(exchange, request, Owner(server), lambda: self._start(server))

    async def _start(self, server: McpServer) -> LineChild:
        transport = server.transport
        assert isinstance(transport, StdioMcpTransport), "only such servers are served here"
        log = self._log(server)
        return await start_child(
            self._tasks,
            lambda: _LoggedChild(log),
            (transport.command, *transport.args),
            env=self._environment(transport.env),
            cwd=None,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def __repr__(self) -> str:
        return f"<StdioSessions: {len(self._sessions)}>"


class _LoggedChild(LineChild):
    """A server's process. Whoever calls a server of a sandbox is told what that said last."""

    def __init__(self, log: ProcessLog) -> None:
        super().__init__(log.write, MAX_MESSAGE_BYTES)
        self._log = log

    def last_words(self) -> str:
        """Return the last line of its log."""
        return self._log.last_line()

    async def stop(self, times: StopTimes) -> None:
        """End it, and close its log."""
        try:
            await super().stop(times)
        finally:
            self._log.close()
