"""A command in the place of this one: its signals passed on, its exit status ours."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

from sallyport_cli.failure import ExitStatus, Failure

FORWARDED = (
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
    signal.SIGCONT,
)
# What the terminal sends to every process of the foreground, the command among them.
FROM_KEYBOARD = (signal.SIGINT, signal.SIGQUIT, signal.SIGWINCH)


def run_child(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command to its end and return its status as a shell would give it: 128+n when signal n ended it.

    Raises Failure when it cannot be started.
    """
    with _forwarding() as forward_to:
        try:
            child = subprocess.Popen(list(command), env=dict(environment))
        except FileNotFoundError:
            raise Failure(ExitStatus.NOT_FOUND, f"{command[0]}: there is no such command") from None
        except OSError as error:
            raise Failure(ExitStatus.NOT_EXECUTABLE, f"{command[0]} cannot be run: {error.strerror}") from None
        forward_to(child)
        status = child.wait()
    return status if status >= 0 else 128 - status


def leave_on_signals() -> None:
    """Let a signal that ends this process do so by way of every `finally`, until a child takes them."""

    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, leave)


@contextmanager
def _forwarding() -> "Iterator[Callable[[subprocess.Popen[bytes]], None]]":
    """Take signals for the child, also those that arrive while it is being started."""
    child: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def forward(number: int, _: FrameType | None) -> None:
        if number in FROM_KEYBOARD and _in_foreground():
            return
        if child is None:
            early.append(number)
        else:
            child.send_signal(number)

    def begin(started: "subprocess.Popen[bytes]") -> None:
        nonlocal child
        child = started
        for number in early:
            started.send_signal(number)

    before = {number: signal.signal(number, forward) for number in FORWARDED}
    try:
        yield begin
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _in_foreground() -> bool:
    """Say whether a terminal sends its signals to our process group."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
