"""What /proc says of other processes (proc(5))."""

import os
from collections.abc import Iterator
from typing import Final, NamedTuple

_PROC: Final = "/proc"


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
    try:
        with open(f"{_PROC}/{pid}/environ", "rb") as file:
            return variable in file.read().split(b"\0")
    except OSError:
        return False


def environment_value(pid: int, name: str) -> str | None:
    """Return a variable that a process was started with; None for another user's, and where it has none."""
    try:
        with open(f"{_PROC}/{pid}/environ", "rb") as file:
            wanted = f"{name}=".encode()
            found = [each for each in file.read().split(b"\0") if each.startswith(wanted)]
    except OSError:
        return None
    return found[0][len(wanted) :].decode(errors="replace") if found else None


def is_group_alive(group: int) -> bool:
    """Say whether any process of a group runs. One that has ended and that nobody waited for does not.

    Asking the kernel by a signal would count those, and where the container's init waits for nobody they stay.
    """
    members = (stat for stat in map(stat_of, pids()) if stat is not None and stat.group == group)
    return any(stat.state not in "ZX" for stat in members)
