"""End what a daemon that was killed has left running: it would hold the ports of what is started now.

Found by the mark in their environment, so also what has left its process group, and never by a number alone, which
may be another process's by now.
"""

import contextlib
import os
import signal
from collections.abc import Mapping, Sequence

from sallyport.net.proc import environment_has, environment_value, pids, stat_of


def end_orphans(variable: str, mark: str) -> int:
    """Kill every process with that variable, save ourselves and whoever started us; return how many."""
    return end_marked(variable, mark, find_marked(variable, mark).get(mark, ()))


def find_marked(variable: str, prefix: str) -> Mapping[str, Sequence[int]]:
    """Return the processes whose mark begins so, by mark, save ourselves and whoever started us."""
    spared = _ancestors(os.getpid())
    found: dict[str, list[int]] = {}
    for pid in pids():
        mark = None if pid in spared else environment_value(pid, variable)
        if mark is not None and mark.startswith(prefix):
            found.setdefault(mark, []).append(pid)
    return found


def end_marked(variable: str, mark: str, found: Sequence[int]) -> int:
    """Kill those of these processes that have the mark still; return how many. What was started since is left alone."""
    wanted = f"{variable}={mark}".encode()
    left = [pid for pid in found if environment_has(pid, wanted)]
    for pid in left:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return len(left)


def _ancestors(pid: int) -> set[int]:
    found = set()
    while pid > 0 and pid not in found:
        found.add(pid)
        stat = stat_of(pid)
        pid = 0 if stat is None else stat.parent
    return found
