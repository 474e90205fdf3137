"""The first process of a sandbox: a program of its own, started by `local`, which is root until the sandbox begins.

    python -m sallyport_cli.cell CELL NETWORK

CELL is a file with a Cell as JSON, NETWORK the descriptor of the network to enter. It enters that network, makes the
other namespaces, and starts one process in them that shuts itself in, starts the sandbox's deputy and its command, and
waits for whatever is left without a parent. When that process ends, the kernel ends all others with it. Exit status 125
and a line on standard error say that it did not come to the command; otherwise it ends as the command did.

The deputy is a copy of that process: its code was read before the root was changed, so the sandbox needs no Python of
ours, and no file in it can change what the deputy is. It has the sandbox's rights, and of the descriptors none.
"""

import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from worker.sandboxes.confinement import (
    HOME,
    ConfinementError,
    end_with_parent,
    enter_root,
    filter_calls,
    give_up_rights,
)

EXIT_NOT_BEGUN: Final = 125
# Between the end of a deputy and the next one.
DEPUTY_PAUSE_SECONDS: Final = 1.0
_PASSED_ON: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_NEW_NAMESPACES: Final = os.CLONE_NEWNS | os.CLONE_NEWPID | os.CLONE_NEWIPC | os.CLONE_NEWUTS | os.CLONE_NEWCGROUP


# What a deputy does, with the sandbox's variables; returns its exit status.
type RunDeputy = Callable[[Mapping[str, str]], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What a sandbox is made of. All paths but `cwd` are this machine's."""

    name: str
    root: str
    home: str
    scratch: str
    trust: str
    shared: tuple[str, ...]
    uid: int
    gid: int
    command: tuple[str, ...]
    environment: dict[str, str]
    most_processes: int
    most_files: int
    cwd: str = HOME

    def to_json(self) -> str:
        """Write it, for read_cell."""
        return json.dumps(asdict(self))


def read_cell(text: str) -> Cell:
    """Read what `to_json` has written."""
    members = json.loads(text)
    return Cell(**{**members, "shared": tuple(members["shared"]), "command": tuple(members["command"])})


def main(arguments: Sequence[str], load_deputy: Callable[[], RunDeputy]) -> int:
    """Carry a cell out and return its exit status. `load_deputy` reads all code that a deputy will ever need."""
    path, network = arguments
    cell = read_cell(Path(path).read_text(encoding="utf-8"))
    try:
        end_with_parent(signal.SIGKILL)
        os.setns(int(network), os.CLONE_NEWNET)
        os.close(int(network))
        os.unshare(_NEW_NAMESPACES)
        first = os.fork()
        if first == 0:
            _be_first(cell, load_deputy)
        # What its group is told, the sandbox is told; this one ends by itself when the first process has.
        for number in _PASSED_ON:
            signal.signal(number, signal.SIG_IGN)
        return os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])
    except (ConfinementError, OSError) as error:
        return _not_begun(error)


def _be_first(cell: Cell, load_deputy: Callable[[], RunDeputy]) -> None:
    """Shut in, start the command, wait for whoever has no other parent; ends as the command does."""
    status = EXIT_NOT_BEGUN
    try:
        end_with_parent(signal.SIGKILL)
        os.umask(0o022)
        ctypes.CDLL(None).sethostname(cell.name.encode(), len(cell.name))
        run_deputy = load_deputy()
        enter_root(
            Path(cell.root),
            shared=[Path(path) for path in cell.shared],
            home=Path(cell.home),
            scratch=Path(cell.scratch),
            trust=Path(cell.trust),
        )
        give_up_rights(cell.uid, cell.gid, most_processes=cell.most_processes, most_files=cell.most_files)
        # It was reset with the user: the kernel sends it only to whom the parent may signal.
        end_with_parent(signal.SIGKILL)
        filter_calls()
        # Before the command, so that nobody else is at sandboxd's door.
        deputy = _Deputy(run_deputy, cell)
        deputy.start()
        command = os.fork()
        if command == 0:
            _become_command(cell)
        for number in _PASSED_ON:
            signal.signal(number, deputy.pass_on)
        status = _wait_for(command, deputy)
    except (ConfinementError, OSError) as error:
        status = _not_begun(error)
    finally:
        os._exit(status)


def _become_command(cell: Cell) -> None:
    try:
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        os.chdir(cell.cwd)
        os.execvpe(cell.command[0], cell.command, cell.environment)
    except OSError as error:
        os._exit(_not_begun(error))


def _wait_for(command: int, deputy: "_Deputy") -> int:
    while True:
        ended, status = os.wait()
        if ended == command:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        deputy.ended(ended)


class _Deputy:
    """The deputy of this sandbox: started again for as long as the sandbox is not told to end."""

    def __init__(self, run: RunDeputy, cell: Cell) -> None:
        self._run = run
        self._cell = cell
        self._pid = 0
        self._is_over = False
        # By a timer, because the process that starts it must go on waiting for all others.
        signal.signal(signal.SIGALRM, lambda _number, _frame: self.start())

    def start(self) -> None:
        """Start it, unless it runs; where there is no room for a process, later."""
        if self._pid or self._is_over:
            return
        # What is told in between waits until the copy has forgotten whom to pass it on to.
        signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
        try:
            self._pid = os.fork()
            if self._pid == 0:
                self._become()
        except OSError:
            signal.setitimer(signal.ITIMER_REAL, DEPUTY_PAUSE_SECONDS)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)

    def ended(self, pid: int) -> None:
        """Note the end of a process, which may have been the deputy."""
        if pid == self._pid:
            self._pid = 0
            signal.setitimer(signal.ITIMER_REAL, DEPUTY_PAUSE_SECONDS)

    def pass_on(self, number: int, _frame: object) -> None:
        """Tell everybody in the sandbox what this process was told."""
        self._is_over = True
        try:
            os.kill(-1, number)
        except ProcessLookupError:
            pass  # nobody else is left

    def _become(self) -> None:
        """Be the deputy: nothing of the first process but its code."""
        status = EXIT_NOT_BEGUN
        try:
            for number in (signal.SIGALRM, *_PASSED_ON):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
            os.setsid()
            nothing = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(nothing, descriptor)
            os.closerange(3, os.sysconf("SC_OPEN_MAX"))
            os.chdir(self._cell.cwd)
            # Of ours it has none, and programs are looked for by the sandbox's PATH.
            ctypes.CDLL(None).clearenv()
            for name, value in self._cell.environment.items():
                os.putenv(name, value)
            # Whatever was not read by now is not ours any more.
            sys.path.clear()
            status = self._run(self._cell.environment)
        finally:
            os._exit(status)


def _not_begun(error: Exception) -> int:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    name = getattr(error, "filename", None)
    sys.stderr.write(f"the sandbox cannot begin: {reason}{f': {name}' if name else ''}\n")
    sys.stderr.flush()
    return EXIT_NOT_BEGUN
