"""End what a daemon that was killed has left running: it would hold the ports of what is started now.

Found by the mark in their environment, so also what has left its process group, and never by a number alone, which
may be another process's by now.
"""

import contextlib
import os
import signal

from sallyport.net.proc import environment_has, pids, stat_of


def end_orphans(variable: str, mark: str) -> int:
    """Kill every process with that variable, save ourselves and whoever started us; return how many."""
    wanted = f"{variable}={mark}".encode()
    spared = _ancestors(os.getpid())
    found = [pid for pid in pids() if pid not in spared and environment_has(pid, wanted)]
    for pid in found:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return len(found)


def _ancestors(pid: int) -> set[int]:
    found = set()
    while pid > 0 and pid not in found:
        found.add(pid)
        stat = stat_of(pid)
        pid = 0 if stat is None else stat.parent
    return found
