"""One child process, the leader of a session and process group of its own, which end together."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Final, cast

from sallyport.net.proc import is_group_alive
from sallyport.net.tasks import TaskSet

# How long to wait for what SIGKILL has been sent to; only a process stuck in the kernel outlives it.
KILL_SECONDS: Final = 5.0
# What is left in the pipe when a process has ended, its last words; longer only where a descendant holds the pipe.
LAST_WORDS_SECONDS: Final = 0.25
# How often to look whether a group is empty; nothing announces that. Only while one is being ended.
_FIRST_LOOK_SECONDS: Final = 0.01
_MOST_LOOK_SECONDS: Final = 0.2


class ChildError(Exception):
    """A program could not be started; says why in words for a status."""


class Child(asyncio.SubprocessProtocol):
    """A running program. `exited` becomes its exit code; a negative one is the signal that ended it."""

    def __init__(self, output: Callable[[bytes], None]) -> None:
        loop = asyncio.get_running_loop()
        self._output = output
        self.exited: asyncio.Future[int] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.transport: asyncio.SubprocessTransport
        self.pid = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The program has been started."""
        self.transport = cast(asyncio.SubprocessTransport, transport)
        self.pid = self.transport.get_pid()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """The program wrote something."""
        self._output(data)

    def process_exited(self) -> None:
        """The leader has ended; others of its group may live."""
        code = self.transport.get_returncode()
        if not self.exited.done():
            self.exited.set_result(-signal.SIGKILL if code is None else code)

    def connection_lost(self, error: Exception | None) -> None:
        """The leader has ended and its pipes are read to the end."""
        if not self.closed.done():
            self.closed.set_result(None)

    def signal_group(self, number: int) -> None:
        """Send a signal to every process of the group; nothing happens when none is left."""
        # Not permitted: a program of the group that has become somebody else.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    async def gone(self, seconds: float) -> bool:
        """Wait for the end of the whole group; False when it lives on after so long."""
        try:
            async with asyncio.timeout(seconds):
                await asyncio.shield(self.exited)
                pause = _FIRST_LOOK_SECONDS
                while self._is_group_alive():
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, _MOST_LOOK_SECONDS)
        except TimeoutError:
            return False
        return True

    async def finish(self) -> None:
        """After `exited`: end what is left of the group, read its last words and close its pipes."""
        self.signal_group(signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                await asyncio.shield(self.closed)
        self.transport.close()

    def abandon(self) -> None:
        """Kill the group and listen no more, without waiting for either."""
        self.signal_group(signal.SIGKILL)
        self.transport.close()

    def _is_group_alive(self) -> bool:
        # Where this daemon is the init of its container, the orphans of a group become its children, which nobody else
        # waits for. The leader is the loop's to wait for, and has been by now.
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-self.pid, os.WNOHANG)[0]:
                pass
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass  # one of them has become somebody else; it is alive or not all the same
        return is_group_alive(self.pid)

    @property
    def input(self) -> asyncio.WriteTransport:
        """Its standard input, where it was started with a pipe."""
        return cast(asyncio.WriteTransport, self.transport.get_pipe_transport(0))

    @property
    def output(self) -> asyncio.ReadTransport:
        """What it prints, where that is a pipe."""
        return cast(asyncio.ReadTransport, self.transport.get_pipe_transport(1))

    def __repr__(self) -> str:
        return f"<Child {self.pid} {'ended' if self.exited.done() else 'running'}>"


async def start_child[C: Child](
    tasks: TaskSet,
    make: Callable[[], C],
    args: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: str | None,
    stdin: int = subprocess.DEVNULL,
    stderr: int = subprocess.STDOUT,
    pass_fds: Sequence[int] = (),
) -> C:
    """Start a program in a session of its own, without a shell; raises ChildError.

    It inherits the descriptors of pass_fds, under the same numbers.
    """

    async def start() -> C | ChildError:
        loop = asyncio.get_running_loop()
        try:
            _, child = await loop.subprocess_exec(
                make,
                *args,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=env,
                cwd=cwd,
                start_new_session=True,
                pass_fds=tuple(pass_fds),
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            return ChildError(_reason(error, args[0], cwd))
        return child

    # A task of its own: a start that is cancelled half way ends the leader, and what that has started by then lives on.
    starting = tasks.spawn(start(), name=f"start {args[0]}")
    try:
        started = await asyncio.shield(starting)
    except asyncio.CancelledError:
        starting.add_done_callback(_abandon)
        # Whoever counts processes counts this one until it is gone. Who is cancelled once more does not wait for that.
        await asyncio.wait({starting})
        if not starting.cancelled() and isinstance(child := starting.result(), Child):
            await child.gone(KILL_SECONDS)
        raise
    if isinstance(started, ChildError):
        raise started
    return started


def _abandon[C: Child](starting: asyncio.Task[C | ChildError]) -> None:
    """Kill what has been started although nobody wants it any more."""
    child = None if starting.cancelled() else starting.result()
    if isinstance(child, Child):
        child.abandon()


def _reason(error: Exception, program: str, cwd: str | None) -> str:
    # One errno stands for a missing program and for a missing directory.
    if cwd is not None and not os.path.isdir(cwd):
        return f"the working directory {cwd} does not exist"
    if isinstance(error, FileNotFoundError):
        return f"there is no program {program}"
    return f"{program} cannot be started: {getattr(error, 'strerror', None) or 'refused by the system'}"


async def end_group(child: Child, *, first: int, timeout_seconds: float, grace_seconds: float) -> None:
    """Ask a group to end, insist after the timeout, kill after the grace; returns when it is gone."""
    child.signal_group(first)
    if not await child.gone(timeout_seconds) and grace_seconds:
        child.signal_group(signal.SIGTERM)
        await child.gone(grace_seconds)
    child.signal_group(signal.SIGKILL)
    await child.gone(KILL_SECONDS)
    child.transport.close()
