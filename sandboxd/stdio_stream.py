"""One stream to one process: what the gateway sends is its standard input, what it prints is the stream.

The bytes are newline-delimited JSON-RPC (contracts section 2) and are not looked at. The process lives as long as its
stream, and its whole group goes with it.
"""

import asyncio
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from sallyport.net.child import Child, ChildError, end_group, start_child
from sallyport.net.tasks import TaskSet
from sallyport.problem import Code, Problem
from sallyport.wire.http1.answers import ESTABLISHED, problem_answer
from sandboxd.setup.process_log import ProcessLog

# A server whose input has ended answers what it was asked and ends; one that does not is told to.
INPUT_ENDED_SECONDS: Final = 5.0
# Between telling it and killing it.
END_SECONDS: Final = 2.0
# What a process has printed before its end is passed on for as long as a slow gateway takes it, up to this.
OUTPUT_SECONDS: Final = 30.0


class _Server(Child):
    """The process. Its output goes to the stream, its errors to the log; its full input pauses the stream."""

    def __init__(self, stream: asyncio.Transport, log: ProcessLog, on_start: Callable[["_Server"], None]) -> None:
        super().__init__(log.write)
        self._stream = stream
        self._on_start = on_start

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # Now and not when the start has been waited for: by then the process may have printed something.
        self._on_start(self)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd != 1:
            super().pipe_data_received(fd, data)
        elif not self._stream.is_closing():
            self._stream.write(data)

    def pause_writing(self) -> None:
        """Its input is full: it reads more slowly than the gateway writes."""
        self._stream.pause_reading()

    def resume_writing(self) -> None:
        """Its input has room."""
        self._stream.resume_reading()


class StdioStream(asyncio.Protocol):
    """The protocol of such a stream. `on_end` is called once, when stream and process are both gone."""

    def __init__(
        self,
        stream: asyncio.Transport,
        args: Sequence[str],
        *,
        env: Mapping[str, str],
        log: ProcessLog,
        tasks: TaskSet,
        on_end: Callable[[], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self._stream = stream
        self._args = args
        self._env = env
        self._log = log
        self._tasks = tasks
        self._on_end = on_end
        self._early = b""
        self._server: _Server | None = None
        self._input_ended: asyncio.Future[None] = loop.create_future()
        self._lost: asyncio.Future[None] = loop.create_future()
        stream.pause_reading()
        self._task = tasks.spawn(self._run(), name=f"stdio stream of {args[0]}")

    # The stream ----------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Bytes of the gateway."""
        if self._server is None:
            self._early += data  # what came together with the head: reading is paused
        elif not self._server.input.is_closing():
            self._server.input.write(data)

    def eof_received(self) -> bool:
        """The gateway has nothing more to say; answers are still on their way."""
        self._end_input()
        return True

    def pause_writing(self) -> None:
        """The gateway reads more slowly than the process prints."""
        if self._server is not None:
            self._server.output.pause_reading()

    def resume_writing(self) -> None:
        """The gateway reads again."""
        if self._server is not None:
            self._server.output.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        """The stream is gone, and the process goes after it."""
        self._end_input()
        self._lost.set_result(None)

    def _end_input(self) -> None:
        if not self._input_ended.done():
            self._input_ended.set_result(None)
            if self._server is not None:
                self._server.input.close()

    # The process ---------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            server = await self._start()
            if server is not None:
                await self._live(server)
            # Not aborted: what the process has printed is still to go out.
            self._stream.close()
            await self._wait(self._lost)
        finally:
            self._log.close()
            if self._server is not None:
                self._server.abandon()
            if not self._lost.done():
                self._stream.abort()  # the daemon ends
            self._on_end()

    async def _start(self) -> _Server | None:
        """Start the process and answer; None when it could not be, or nobody is there any more."""
        try:
            return await start_child(
                self._tasks,
                lambda: _Server(self._stream, self._log, self._started),
                self._args,
                env=self._env,
                cwd=None,
                stdin=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except ChildError as error:
            problem = Problem(code=Code.UPSTREAM_UNREACHABLE, detail=str(error))
            self._stream.write(problem_answer(problem, method="CONNECT", close=True))
            return None

    def _started(self, server: _Server) -> None:
        self._server = server
        self._stream.write(ESTABLISHED)
        self._stream.resume_reading()
        if self._early:
            server.input.write(self._early)
        if self._input_ended.done():
            server.input.close()

    async def _live(self, server: _Server) -> None:
        """Wait for the end of either side, and bring the other one's about."""
        await self._wait(server.exited, self._input_ended)
        if not server.exited.done():
            await self._wait(server.exited, self._lost, seconds=INPUT_ENDED_SECONDS)
        if not server.exited.done():
            await end_group(server, first=signal.SIGTERM, timeout_seconds=END_SECONDS, grace_seconds=0)
            return
        server.signal_group(signal.SIGKILL)
        server.input.close()
        await self._wait(server.closed, self._lost, seconds=OUTPUT_SECONDS)

    async def _wait(self, *ends: asyncio.Future[Any], seconds: float | None = None) -> None:
        await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)

    def __repr__(self) -> str:
        return f"<StdioStream {self._args[0]} {self._server or 'not started'}>"
