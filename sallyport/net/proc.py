"""What /proc says of other processes (proc(5))."""

import contextlib
import os
from collections.abc import Iterator
from typing import Final, NamedTuple

_PROC: Final = "/proc"
# More than most processes are started with; longer ones are read once more.
_ENVIRONMENT_BYTES: Final = 32 * 1024


class ProcessStat(NamedTuple):
    """A process's state letter, its parent and its process group."""

    state: str
    parent: int
    group: int


def pids() -> Iterator[int]:
    """Yield the ids of all processes, some of which may be gone already."""
    return (int(name) for name in os.listdir(_PROC) if name.isdecimal())


def stat_of(pid: int) -> ProcessStat | None:
    """Read one process; None when it is gone."""
    try:
        with open(f"{_PROC}/{pid}/stat", encoding="latin-1") as file:
            # The second field is a name in brackets that may hold anything, brackets too.
            state, parent, group, *_ = file.read().rpartition(")")[2].split()
        return ProcessStat(state, int(parent), int(group))
    except (OSError, ValueError):
        return None


def environment_has(pid: int, variable: bytes) -> bool:
    """Say whether a process was started with a variable, given as name=value; False for another user's."""
    with _lent_environment(pid) as found:
        return b"\0%b\0" % variable in found


def environment_value(pid: int, name: str) -> str | None:
    """Return a variable that a process was started with; None for another user's, and where it has none."""
    begin = f"\0{name}=".encode()
    with _lent_environment(pid) as found:
        at = found.find(begin)
        if at < 0:
            return None
        at += len(begin)
        return found[at : found.index(b"\0", at)].decode(errors="replace")


@contextlib.contextmanager
def _lent_environment(pid: int) -> Iterator[bytearray]:
    """Lend what a process was started with, each variable between zeros; nothing for another user's.

    It is wiped behind the block: other processes of the machine have secrets there, which are not to stay in ours.
    """
    found = _environment(pid)
    try:
        yield found
    finally:
        _wipe(found)


def _environment(pid: int) -> bytearray:
    found = bytearray(_ENVIRONMENT_BYTES)
    try:
        while not _read_environment(pid, found):
            # Read anew and not made longer: what is made longer leaves a copy of itself behind.
            _wipe(found)
            found = bytearray(4 * len(found))
    except OSError:
        _wipe(found)
        return bytearray()
    return found


def _read_environment(pid: int, found: bytearray) -> bool:
    """Read into what lies between the first zero and the last; False where it is too short. Raises OSError."""
    with memoryview(found) as view, open(f"{_PROC}/{pid}/environ", "rb", buffering=0) as file:
        at = 1
        while at < len(view) - 1:
            count = file.readinto(view[at:-1])
            if not count:
                return True
            at += count
    return False


def _wipe(found: bytearray) -> None:
    found[:] = bytes(len(found))


def is_group_alive(group: int) -> bool:
    """Say whether any process of a group runs. One that has ended and that nobody waited for does not.

    Asking the kernel by a signal would count those, and where the container's init waits for nobody they stay.
    """
    members = (stat for stat in map(stat_of, pids()) if stat is not None and stat.group == group)
    return any(stat.state not in "ZX" for stat in members)
