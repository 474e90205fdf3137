"""An MCP server that is a child of this worker: its lines as messages, and how it is brought to its end."""

import asyncio
import contextlib
import json
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter
from pydantic import ValidationError

from sallyport.net.child import LAST_WORDS_SECONDS, Child, start_child
from sallyport.net.tasks import TaskSet
from worker.integrations.launch import Launch
from worker.integrations.server_log import ServerLog

# Lines that wait for the session; beyond them the server's output is not read, and it waits itself.
MAX_WAITING_LINES: Final = 64
# Lines that are no message. A banner is a few of them; a server that prints only this is no MCP server.
MAX_GARBAGE_LINES: Final = 1000

type Streams = tuple[MemoryObjectReceiveStream[SessionMessage | Exception], MemoryObjectSendStream[SessionMessage]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StopTimes:
    """How long a server has after its input has ended, and after SIGTERM."""

    exit: float
    terminate: float


class StdioServer(Child):
    """The process. What it prints on standard output are messages, a line each; all else is log."""

    def __init__(self, log: ServerLog, most_message_bytes: int) -> None:
        super().__init__(log.write)
        self._log = log
        self._most_message_bytes = most_message_bytes
        self._begun = bytearray()
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._is_paused = False
        self._is_over = False
        self._garbage = 0
        # Set when nothing more will be heard of it: its output has ended, or is read no more.
        self.silent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.misbehaved: str | None = None

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """The program wrote something."""
        if fd != 1:
            super().pipe_data_received(fd, data)
            return
        if self._is_over:
            return  # read all the same: a server that cannot write does not come to its end
        self._begun += data
        if b"\n" in data:
            *lines, rest = self._begun.split(b"\n")
            self._begun = rest
            for line in lines:
                if line.strip():
                    self._lines.put_nowait(bytes(line))
        if len(self._begun) > self._most_message_bytes:
            self._misbehave(f"it printed a line of more than {self._most_message_bytes} bytes")
        elif self._lines.qsize() > MAX_WAITING_LINES and not self._is_paused:
            self._is_paused = True
            self.output.pause_reading()

    def pipe_connection_lost(self, fd: int, error: Exception | None) -> None:
        """One of its pipes has ended."""
        if fd == 1:
            self._end_output()

    def process_exited(self) -> None:
        """The leader has ended; a descendant that holds its pipe does not keep the session waiting."""
        super().process_exited()
        asyncio.get_running_loop().call_later(LAST_WORDS_SECONDS, self._end_output)

    def pause_writing(self) -> None:
        """It reads more slowly than it is written to."""
        self._has_room.clear()

    def resume_writing(self) -> None:
        """Its input has room."""
        self._has_room.set()

    async def next_message(self) -> SessionMessage | None:
        """Return the next message; None when there are no more. What is no message is log."""
        while True:
            line = await self._lines.get()
            if self._is_paused and self._lines.empty():
                self._is_paused = False
                self.output.resume_reading()
            if line is None or self._is_over:
                self._lines.put_nowait(None)  # for whoever asks once more
                return None
            try:
                return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
            except ValidationError:
                self._log.write(line + b"\n", stream="stdout")
                self._garbage += 1
                if self._garbage > MAX_GARBAGE_LINES:
                    self._misbehave(f"it printed more than {MAX_GARBAGE_LINES} lines that are no messages")

    async def send(self, message: SessionMessage) -> None:
        """Write a message on its standard input, when that has room; nothing happens when it has ended."""
        await self._has_room.wait()
        if not self.input.is_closing():
            document = message.message.model_dump(mode="json", by_alias=True, exclude_unset=True)
            self.input.write(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")

    async def stop(self, times: StopTimes) -> None:
        """End it: its input first, then its group by SIGTERM, then by SIGKILL. Returns when the group is gone."""
        self._is_over = True
        self._end_output()
        if not self.exited.done():
            self.input.close()
            if self._is_paused:
                self.output.resume_reading()
            await asyncio.wait({self.exited}, timeout=times.exit)
        if not await self.gone(0.05):
            self.signal_group(signal.SIGTERM)
            if not await self.gone(times.terminate):
                self.signal_group(signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(times.terminate):
                await asyncio.shield(self.exited)
        await self.finish()
        self._log.end()

    def _misbehave(self, what: str) -> None:
        """Nothing it says is read any more, and the session ends."""
        self.misbehaved = what
        self._begun.clear()
        self._end_output()
        self._is_over = True

    def _end_output(self) -> None:
        self._lines.put_nowait(None)
        if not self.silent.done():
            self.silent.set_result(None)


async def start_stdio_server(
    tasks: TaskSet, launch: Launch, log: ServerLog, most_message_bytes: int, on_start: Callable[[int], None]
) -> StdioServer:
    """Start a server; raises ChildError."""
    log.hide(launch.hidden)
    server = await start_child(
        tasks,
        lambda: StdioServer(log, most_message_bytes),
        launch.args,
        env=launch.env,
        cwd=str(launch.cwd),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    on_start(server.pid)
    return server


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
