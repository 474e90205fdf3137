"""An MCP server that is a child of this worker: its lines as messages."""

import asyncio
import contextlib
import functools
import json
import signal
import subprocess
from collections.abc import AsyncIterator, Callable

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter
from pydantic import ValidationError

from sallyport.net.child import start_child
from sallyport.net.line_child import LineChild, StopTimes
from sallyport.net.orphans import end_orphans
from sallyport.net.tasks import TaskSet
from worker.integrations.launch import MARK, Launch
from worker.integrations.server_log import ServerLog

type Streams = tuple[MemoryObjectReceiveStream[SessionMessage | Exception], MemoryObjectSendStream[SessionMessage]]


class StdioServer(LineChild):
    """The process. What it prints on standard output are messages, a line each; all else is log."""

    def __init__(self, log: ServerLog, most_message_bytes: int) -> None:
        super().__init__(log.write, most_message_bytes, functools.partial(log.write, stream="stdout"))
        self._log = log

    async def next_message(self) -> SessionMessage | None:
        """Return the next message; None when there are no more. What is no message is log."""
        while (line := await self.next_line()) is not None:
            try:
                return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
            except ValidationError:
                self.note_garbage(line)
        return None

    async def send(self, message: SessionMessage) -> None:
        """Write a message on its standard input, when that has room; nothing happens when it has ended."""
        document = message.message.model_dump(mode="json", by_alias=True, exclude_unset=True)
        # By escapes: a caller's half of a surrogate pair has no UTF-8, and would end the session that all share.
        await self.send_line(json.dumps(document, separators=(",", ":")).encode("ascii"))

    async def stop(self, times: StopTimes) -> None:
        """End it: its input first, then its group by SIGTERM, then by SIGKILL. Returns when the group is gone."""
        await super().stop(times)
        self._log.end()


class SessionServer(StdioServer):
    """The process of one session, which is spoken to in lines and not in messages."""

    def __init__(self, log: ServerLog, most_message_bytes: int, mark: str) -> None:
        super().__init__(log, most_message_bytes)
        self._mark = mark

    async def stop(self, times: StopTimes) -> None:
        """End it, and what has left its group; whether it had ended by itself is told in its log."""
        if self.misbehaved is not None:
            self._log.note(self.misbehaved)
        elif self.exited.done() and self.exited.result() != 0:
            self._log.note(told_exit(self.exited.result()))
        await super().stop(times)
        # A descendant that left the group still carries the mark.
        await asyncio.to_thread(end_orphans, MARK, self._mark)


async def start_stdio_server[S: StdioServer](
    tasks: TaskSet, launch: Launch, log: ServerLog, make: Callable[[], S]
) -> S:
    """Start a server; raises ChildError."""
    log.hide(launch.hidden)
    return await start_child(
        tasks,
        make,
        launch.args,
        env=launch.env,
        cwd=str(launch.cwd),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def told_exit(code: int) -> str:
    """Say in words how a process ended."""
    return f"it exited with code {code}" if code >= 0 else f"it was ended by {signal_name(code)}"


def signal_name(code: int) -> str:
    """Return the name of the signal that a negative exit code stands for."""
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


@contextlib.asynccontextmanager
async def stdio_streams(server: StdioServer) -> AsyncIterator[Streams]:
    """Yield the streams of a session with a server. They end when the server does; the server is not ended here."""
    to_session, from_server = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    to_server, from_session = anyio.create_memory_object_stream[SessionMessage](0)

    async def read() -> None:
        async with to_session:
            with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                while (message := await server.next_message()) is not None:
                    await to_session.send(message)

    async def write() -> None:
        async with from_session:
            async for message in from_session:
                await server.send(message)

    async with to_session, from_server, to_server, from_session, anyio.create_task_group() as group:
        group.start_soon(read)
        group.start_soon(write)
        try:
            yield from_server, to_server
        finally:
            group.cancel_scope.cancel()
