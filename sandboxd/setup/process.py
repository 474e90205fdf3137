"""One declared process: started, watched, started again as its policy says, stopped as a whole group."""

import asyncio
import enum
import random
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sallyport.net.child import Child, ChildError, end_group, start_child
from sallyport.setup import Process
from sandboxd.setup.parts import SetupParts
from sandboxd.setup.process_log import ProcessLog
from sandboxd.setup.steps import StepFailed


class ProcessState(enum.Enum):
    """Where a process stands. The last three are ends: it does not run again by itself."""

    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting to be started again"
    EXITED = "exited"
    CRASH_LOOP = "in a crash loop"
    STOPPED = "stopped"


_ENDS = (ProcessState.EXITED, ProcessState.CRASH_LOOP, ProcessState.STOPPED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What is started. Equal launches are the same process: nothing else about one needs a new start."""

    args: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str | None


class SupervisedProcess:
    """A process of a runtime client. `declared` may be replaced while it runs: its policies hold from then on.

    Always: `_child` is set exactly while a process group of ours may live.
    """

    def __init__(
        self, parts: SetupParts, name: str, launch: Launch, declared: Process, on_end: Callable[[str], None]
    ) -> None:
        self.name = name
        self.launch = launch
        self.declared = declared
        self.state = ProcessState.STARTING
        self.exit_code: int | None = None
        self.log = ProcessLog(parts.logs / "processes" / f"{name}.log")
        self._limits = parts.restart_limits
        self._tasks = parts.tasks
        self._on_end = on_end
        self._child: Child | None = None
        self._failures = 0
        self._could_not_start: str | None = None
        self._stop_asked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tried = asyncio.Event()  # the first start has worked, or has not
        self._running = parts.tasks.spawn(self._run(), name=f"process {name}")

    async def started(self) -> None:
        """Wait for the first start; raises StepFailed when it did not work, even where it will be tried again."""
        await self._tried.wait()
        if self._could_not_start is not None:
            raise StepFailed(self._could_not_start)

    def is_up(self) -> bool:
        """Say whether it runs now; raises StepFailed when it has failed for good."""
        issue = self.issue
        if issue is not None:
            raise StepFailed(issue)
        return self.state is ProcessState.RUNNING

    @property
    def is_over(self) -> bool:
        """Whether it will not run again by itself."""
        return self.state in _ENDS or self._stop_asked.done()

    @property
    def has_ended_well(self) -> bool:
        """Whether it has done its work and is not to be started again."""
        return self.state is ProcessState.EXITED and self.exit_code == 0

    @property
    def issue(self) -> str | None:
        """Why it failed for good; None while it runs or may, and when it ended well."""
        if self.has_ended_well or self.state not in (ProcessState.EXITED, ProcessState.CRASH_LOOP):
            return None
        reason = self._could_not_start or self._last_exit()
        if self.state is ProcessState.CRASH_LOOP:
            reason = f"crash loop after {self._failures} failures: {reason}"
        return reason

    async def stop(self) -> None:
        """Ask it to end as declared, insist, kill; returns when the group is gone. Goes on if this is cancelled."""
        if not self._stop_asked.done():
            self._stop_asked.set_result(None)
        await asyncio.wait({self._running})

    def kill(self) -> None:
        """End its group at once; for when there is no time for `stop`."""
        if self._child is not None:
            self._child.signal_group(signal.SIGKILL)

    async def _run(self) -> None:
        try:
            while not self._stop_asked.done():
                ran_seconds = await self._run_once()
                if self._stop_asked.done() or not self._runs_again(ran_seconds):
                    break
                self.state = ProcessState.WAITING
                await asyncio.wait({self._stop_asked}, timeout=self._pause_seconds())
        finally:
            self._tried.set()
            if self._child is not None:
                # Cancelled with the whole daemon: nobody is left to ask politely.
                self._child.abandon()
            self.log.close()
        if self._stop_asked.done():
            self.state = ProcessState.STOPPED
        elif self.issue is not None:
            self._on_end(self.name)

    async def _run_once(self) -> float:
        """Start it and wait for its end, or bring that about when it is asked to stop; return how long it ran."""
        started_at = asyncio.get_running_loop().time()
        launch = self.launch
        self._could_not_start = None
        try:
            child = await start_child(
                self._tasks, lambda: Child(self.log.write), launch.args, env=launch.env, cwd=launch.cwd
            )
        except ChildError as error:
            self._could_not_start = str(error)
            self.exit_code = None
            self.log.note(self._could_not_start)
            self._tried.set()
            return 0.0
        self._child = child
        self.state = ProcessState.RUNNING
        self._tried.set()
        ends: set[asyncio.Future[Any]] = {child.exited, self._stop_asked}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if self._stop_asked.done():
            await self._end(child)
        else:
            await child.finish()
        self.exit_code = child.exited.result() if child.exited.done() else None
        self._child = None
        self.log.note(self._last_exit())
        return asyncio.get_running_loop().time() - started_at

    async def _end(self, child: Child) -> None:
        stop = self.declared.stop
        await end_group(
            child,
            first=signal.Signals[stop.signal],
            timeout_seconds=stop.timeout_ms / 1000,
            grace_seconds=(stop.grace_period_ms or 0) / 1000,
        )

    def _runs_again(self, ran_seconds: float) -> bool:
        policy = self.declared.restart
        if policy == "never" or (policy == "on-failure" and self.exit_code == 0):
            self.state = ProcessState.EXITED
            return False
        self._failures = 1 if ran_seconds >= self._limits.stable_seconds else self._failures + 1
        if self._failures >= self._limits.most_failures:
            self.state = ProcessState.CRASH_LOOP
            self.log.note("not started again: crash loop")
            return False
        return True

    def _pause_seconds(self) -> float:
        limits = self._limits
        delay = min(limits.first_delay_seconds * 2.0 ** (self._failures - 1), limits.most_delay_seconds)
        # Jitter: what one cause has ended does not all come back in one moment.
        return delay * random.uniform(0.75, 1.25)

    def _last_exit(self) -> str:
        code = self.exit_code
        if code is None:
            return "it did not run"
        how = f"exited with code {code}" if code >= 0 else f"ended by {_signal_name(-code)}"
        line = self.log.last_line()
        return f"{how}: {line}" if line else how

    def __repr__(self) -> str:
        return f"<SupervisedProcess {self.name} {self.state.value}>"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
