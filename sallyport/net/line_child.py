"""A child process that is spoken to in lines: on its standard input and output, as MCP servers are."""

import asyncio
import contextlib
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sallyport.net.child import LAST_WORDS_SECONDS, Child

# Lines that wait to be taken, or so many bytes of them; beyond them the program's output is not read, and it waits
# itself.
MAX_WAITING_LINES: Final = 64
MAX_WAITING_BYTES: Final = 1024 * 1024
# Lines that are no message. A banner is a few of them; a program that prints only this is not spoken to in lines.
MAX_GARBAGE_LINES: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class StopTimes:
    """How long a program has after its input has ended, and after SIGTERM, in seconds."""

    exit: float
    terminate: float


class LineChild(Child):
    """The process. What it prints on standard output is lines, for `next_line`; all else goes to `output`.

    `garbage` takes the lines that turn out to be no message; by default it is `output`.
    """

    def __init__(
        self,
        output: Callable[[bytes], None],
        most_line_bytes: int,
        garbage: Callable[[bytes], None] | None = None,
    ) -> None:
        super().__init__(output)
        self._log_garbage = garbage or output
        self._most_line_bytes = most_line_bytes
        self._begun = bytearray()
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._waiting_bytes = 0
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
            return  # read all the same: a program that cannot write does not come to its end
        self._begun += data
        if b"\n" in data:
            *lines, rest = self._begun.split(b"\n")
            self._begun = rest
            for line in lines:
                if line.strip():
                    self._lines.put_nowait(bytes(line))
                    self._waiting_bytes += len(line)
        if len(self._begun) > self._most_line_bytes:
            self._misbehave(f"it printed a line of more than {self._most_line_bytes} bytes")
        elif not self._is_paused and (
            self._lines.qsize() > MAX_WAITING_LINES or self._waiting_bytes > MAX_WAITING_BYTES
        ):
            self._is_paused = True
            self.output.pause_reading()

    def pipe_connection_lost(self, fd: int, error: Exception | None) -> None:
        """One of its pipes has ended."""
        if fd == 0:
            self._has_room.set()
        elif fd == 1:
            self._end_output()

    def process_exited(self) -> None:
        """The leader has ended; a descendant that holds its pipe keeps nobody waiting."""
        super().process_exited()
        asyncio.get_running_loop().call_later(LAST_WORDS_SECONDS, self._end_output)

    def pause_writing(self) -> None:
        """It reads more slowly than it is written to."""
        self._has_room.clear()

    def resume_writing(self) -> None:
        """Its input has room."""
        self._has_room.set()

    async def next_line(self) -> bytes | None:
        """Return the next line that is not blank, without its end; None when there are no more."""
        line = await self._lines.get()
        self._waiting_bytes -= 0 if line is None else len(line)
        if self._is_paused and self._lines.empty():
            self._is_paused = False
            self.output.resume_reading()
        if line is None or self._is_over:
            self._lines.put_nowait(None)  # for whoever asks once more
            return None
        return line

    def last_words(self) -> str:
        """Return what it printed last, for whoever is told how it ended; empty where that is not for them."""
        return ""

    def note_garbage(self, line: bytes) -> None:
        """Log a line that was no message; after too many nothing is heard of it any more."""
        self._log_garbage(line + b"\n")
        self._garbage += 1
        if self._garbage > MAX_GARBAGE_LINES:
            self._misbehave(f"it printed more than {MAX_GARBAGE_LINES} lines that are no messages")

    async def send_line(self, line: bytes) -> None:
        """Write a line on its standard input, when that has room; nothing happens when it has ended."""
        await self._has_room.wait()
        if not self.input.is_closing():
            self.input.write(line + b"\n")

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

    def _misbehave(self, what: str) -> None:
        """Nothing it says is read any more."""
        self.misbehaved = what
        self._begun.clear()
        self._end_output()
        self._is_over = True

    def _end_output(self) -> None:
        self._lines.put_nowait(None)
        if not self.silent.done():
            self.silent.set_result(None)
