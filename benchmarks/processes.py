"""Starting what a run needs, each on its core, and ending all of it however the run ends."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

from benchmarks.subject import ROOT, Launch

_READY_SECONDS = 30.0
_STOP_SECONDS = 5.0
_POLL_SECONDS = 0.05


class BenchmarkError(Exception):
    """Something the reader of the terminal can act on; its text says what and how."""


class Cores(NamedTuple):
    """The subject has `proxy` to itself; load and origin share `load`. One of two processes has `second` beside it.

    Where the machine has two cores alone, `second` is None, and two processes share `proxy`.
    """

    proxy: int
    load: int
    second: int | None = None

    def of(self, processes: int) -> tuple[int, ...]:
        """Return the cores of a subject of so many processes."""
        return (self.proxy,) if processes == 1 or self.second is None else (self.proxy, self.second)


def choose_cores() -> Cores:
    """Return the first two or three cores this process may use, or raise BenchmarkError."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise BenchmarkError("two cores are needed, one for the proxy and one for load and origin; this machine has 1")
    return Cores(*allowed[:3])


@contextmanager
def only_run(lock: Path) -> Iterator[None]:
    """Keep other runs with the same `lock` (any file) out, or raise BenchmarkError: two would measure each other."""
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BenchmarkError("another run is under way, and two would measure each other; wait for it") from None
        yield


class Processes:
    """Every process of a run. Each is a session of its own, ended when the context is left or when this one dies."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _end(self._started)

    def start_subject(self, name: str, launch: Launch, cores: tuple[int, ...]) -> int:
        """Start a subject, wait until it listens, return its session's id; BenchmarkError with its last words."""
        log = self._directory / f"{name}.log"
        with log.open("w") as output:
            process = self._start(launch.command, cores, output)
        deadline = time.perf_counter() + _READY_SECONDS
        while not _listens(launch.port):
            if process.poll() is not None:
                raise BenchmarkError(f"ended at once with status {process.returncode}: {_tail(log)}")
            if time.perf_counter() > deadline:
                raise BenchmarkError(f"did not listen within {_READY_SECONDS:.0f} s: {_tail(log)}")
            time.sleep(_POLL_SECONDS)
        return process.pid

    def stop_subject(self, session: int) -> None:
        """End one subject before the others."""
        process = next(each for each in self._started if each.pid == session)
        self._started.remove(process)
        _end([process])

    def start_helper(self, module: str, core: int) -> "HelperProgram":
        """Start one of our own programs that is told by lines of JSON what to do."""
        return HelperProgram(self._start((sys.executable, "-m", module), (core,), None))

    def _start(self, command: tuple[str, ...], cores: tuple[int, ...], output: IO[str] | None) -> subprocess.Popen[str]:
        # setpriv: the kernel ends the child when this process is killed and can run no clean-up of its own.
        wrapped = ("setpriv", "--pdeathsig", "TERM", "taskset", "-c", ",".join(map(str, cores)), *command)
        pipes = (subprocess.PIPE, subprocess.PIPE, None) if output is None else (subprocess.DEVNULL, output, output)
        process = subprocess.Popen(
            wrapped, stdin=pipes[0], stdout=pipes[1], stderr=pipes[2], text=True, cwd=ROOT, start_new_session=True
        )
        self._started.append(process)
        return process


class HelperProgram:
    """The origin or the load: one line of JSON in, one line out."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout

    def ask(self, document: Mapping[str, object]) -> dict[str, Any]:
        """Return the answer to `document`; raises BenchmarkError when the program has ended."""
        try:
            self._stdin.write(json.dumps(document) + "\n")
            self._stdin.flush()
        except BrokenPipeError:
            pass  # the empty line below says the same
        line = self._stdout.readline()
        if not line:
            raise BenchmarkError("a program of the benchmark itself ended early; its message stands above")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _end(processes: Sequence[subprocess.Popen[str]]) -> None:
    for process in processes:
        _signal(process, signal.SIGTERM)
    for process in processes:
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        _signal(process, signal.SIGKILL)  # also what a process left behind in its session
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _signal(process: subprocess.Popen[str], number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass


def _tail(log: Path) -> str:
    # Results are published; where this tree and its temporary files stand on this machine is nobody's business.
    text = log.read_text(errors="replace").replace(f"{ROOT}/", "").replace(f"{log.parent}/", "")
    return " / ".join(line.strip() for line in text.strip().splitlines()[-3:]) or "it said nothing"
