"""Several parts as child processes: started in order, their logs prefixed, restarted when they die, stopped in reverse.

A part that dies too often has failed for good; then all of them are stopped.
"""

import asyncio
import ctypes
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sallyport.net.tasks import TaskSet

# Importing a part takes a second; a machine at its limits takes ten times that.
START_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.05
# Longer than parts drain (DRAIN_SECONDS of up.py); whoever waits here is a person.
STOP_SECONDS: Final = 10.0
# A part that ends this often within the span is not going to recover by being started once more.
MAX_ENDS: Final = 5
ENDS_SPAN_SECONDS: Final = 60.0
FIRST_PAUSE_SECONDS: Final = 0.2
LONGEST_PAUSE_SECONDS: Final = 5.0
# A line of a log; a longer one is shown in pieces.
MAX_LINE_BYTES: Final = 64 * 1024

# linux/prctl.h
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A process to keep running. is_ready is asked, in a thread, until it says so; it may block for a second."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    is_ready: Callable[[], bool]

    def __repr__(self) -> str:
        return f"<Part {self.name}>"


class PartFailed(Exception):
    """A part could not be started, or died too often; str() says which."""


class Supervisor:
    """The parts that run. `show` gets each line of their logs with the part's name.

    `ended` is done when end() was called, or raises what ended it: PartFailed, or what the spawned work raised.
    """

    def __init__(self, show: Callable[[str, str], None]) -> None:
        self._show = show
        self._running: dict[str, _Running] = {}
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._work = TaskSet(self._failed)
        # Apart, because a part that is being stopped still has something to say.
        self._logs = TaskSet(self._failed)

    def spawn(self, work: Coroutine[object, object, None], *, name: str) -> None:
        """Do something beside the parts, such as starting them; if it raises, everything ends with that."""
        self._work.spawn(work, name=name)

    async def start(self, part: Part) -> None:
        """Start a part and wait until it is ready; raises PartFailed. From then on it is kept running."""
        running = _Running(part, self._show, self._logs)
        self._running[part.name] = running
        await running.start()
        self._work.spawn(running.keep(), name=f"keep {part.name}")

    def end(self) -> None:
        """Let `ended` be done."""
        if not self.ended.done():
            self.ended.set_result(None)

    async def stop(self) -> None:
        """Stop all parts, the last one first."""
        await self._work.close()
        for running in reversed(self._running.values()):
            await running.stop()
        await self._logs.close()

    def processes(self) -> dict[str, int]:
        """Return the process ids by name of part."""
        return {name: running.process.pid for name, running in self._running.items() if running.process is not None}

    def _failed(self, _: str, error: BaseException) -> None:
        if not self.ended.done():
            self.ended.set_exception(error)


class _Running:
    """One part and the process it is now."""

    def __init__(self, part: Part, show: Callable[[str, str], None], logs: TaskSet) -> None:
        self._part = part
        self._show = show
        self._logs = logs
        self._ends: list[float] = []
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the part for the first time; raises PartFailed unless it becomes ready."""
        await self._wait_ready(await self._spawn())

    async def _spawn(self) -> asyncio.subprocess.Process:
        process = self.process = await asyncio.create_subprocess_exec(
            *self._part.command,
            env=dict(self._part.environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C is for the command that supervises; it stops them in order
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            limit=MAX_LINE_BYTES,
        )
        self._logs.spawn(self._copy_log(process), name=f"log of {self._part.name}")
        return process

    async def keep(self) -> None:
        """Start the part again whenever it ends; raises PartFailed once that happens too often."""
        while True:
            assert self.process is not None, "keep() follows start()"
            status = await self.process.wait()
            await self._pause_after_end(status)
            await self._spawn()

    async def stop(self) -> None:
        """End the process and wait for that."""
        if self.process is None or self.process.returncode is not None:
            return
        self.process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self.process.wait()
        except TimeoutError:
            self._show(self._part.name, f"did not end within {STOP_SECONDS:g} s and is killed")
            self.process.kill()
            await self.process.wait()

    async def _pause_after_end(self, status: int) -> None:
        now = asyncio.get_running_loop().time()
        self._ends = [*(end for end in self._ends if now - end < ENDS_SPAN_SECONDS), now]
        if len(self._ends) >= MAX_ENDS:
            raise PartFailed(f"{self._part.name} ended {MAX_ENDS} times within {ENDS_SPAN_SECONDS:g} s")
        pause = min(FIRST_PAUSE_SECONDS * 2 ** (len(self._ends) - 1), LONGEST_PAUSE_SECONDS)
        self._show(self._part.name, f"ended with status {status}; started again in {pause:g} s")
        await asyncio.sleep(pause)

    async def _wait_ready(self, process: asyncio.subprocess.Process) -> None:
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await asyncio.to_thread(self._part.is_ready):
                    if process.returncode is not None:
                        raise PartFailed(
                            f"{self._part.name} ended with status {process.returncode} before it was ready"
                        )
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise PartFailed(f"{self._part.name} was not ready after {START_SECONDS:g} s") from None

    async def _copy_log(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None, "its output is a pipe"
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # a line over the limit; what was read of it is dropped by asyncio
                self._show(self._part.name, "(a line too long to show)")
                continue
            if not line:
                return
            self._show(self._part.name, line.decode("utf-8", "replace").rstrip("\n"))


def _end_with_parent() -> None:
    """Run in the child before it becomes the part: ask for a SIGTERM when this command is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
