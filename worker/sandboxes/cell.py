"""The first process of a sandbox: a program of its own, started by `local`, which is root until the sandbox begins.

    python -m worker.sandboxes.cell CELL NETWORK

CELL is a file with a Cell as JSON, NETWORK the descriptor of the network to enter. It enters that network, makes the
other namespaces, and starts one process in them that shuts itself in, starts the sandbox's command and waits for
whatever is left without a parent. When that process ends, the kernel ends all others with it. Exit status 125 and a
line on standard error say that it did not come to the command; otherwise it ends as the command did.
"""

import ctypes
import json
import os
import signal
import sys
from collections.abc import Sequence
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
_NEW_NAMESPACES: Final = os.CLONE_NEWNS | os.CLONE_NEWPID | os.CLONE_NEWIPC | os.CLONE_NEWUTS | os.CLONE_NEWCGROUP


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


def main(arguments: Sequence[str]) -> int:
    """Carry a cell out and return its exit status."""
    path, network = arguments
    cell = read_cell(Path(path).read_text(encoding="utf-8"))
    try:
        end_with_parent(signal.SIGKILL)
        os.setns(int(network), os.CLONE_NEWNET)
        os.close(int(network))
        os.unshare(_NEW_NAMESPACES)
        first = os.fork()
        if first == 0:
            _be_first(cell)
        # What its group is told, the sandbox is told; this one ends by itself when the first process has.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        return os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])
    except (ConfinementError, OSError) as error:
        return _not_begun(error)


def _be_first(cell: Cell) -> None:
    """Shut in, start the command, wait for whoever has no other parent; ends as the command does."""
    status = EXIT_NOT_BEGUN
    try:
        end_with_parent(signal.SIGKILL)
        os.umask(0o022)
        ctypes.CDLL(None).sethostname(cell.name.encode(), len(cell.name))
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
        command = os.fork()
        if command == 0:
            _become_command(cell)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, _pass_on)
        status = _wait_for(command)
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


def _wait_for(command: int) -> int:
    while True:
        ended, status = os.wait()
        if ended == command:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _pass_on(number: int, _frame: object) -> None:
    try:
        os.kill(-1, number)
    except ProcessLookupError:
        pass  # nobody else is left


def _not_begun(error: Exception) -> int:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    name = getattr(error, "filename", None)
    sys.stderr.write(f"the sandbox cannot begin: {reason}{f': {name}' if name else ''}\n")
    sys.stderr.flush()
    return EXIT_NOT_BEGUN


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
