"""CPU time of a subject, from the kernel's accounting of its processes (proc_pid_stat(5)).

A subject runs in a session of its own, so all of its processes and threads are found by the session's id, however
many workers it starts. The kernel's resolution here is a tick (usually 10 ms): windows must be much longer.
"""

import os
from pathlib import Path

_PROC = Path("/proc")
_TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")


def session_cpu_seconds(session: int, proc: Path = _PROC) -> float:
    """Return user plus system time, in seconds, of every process of `session` and of its reaped children."""
    ticks = 0
    for entry in proc.iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_bytes()
            except OSError:  # it ended while we looked
                continue
            ticks += stat_ticks(stat, session)
    return ticks * _TICK_SECONDS


def stat_ticks(stat: bytes, session: int) -> int:
    """Return utime + stime + cutime + cstime of one `/proc/<pid>/stat`, or 0 when it is of another session."""
    # The command may hold spaces and parentheses; after the last ')' the fields are numbered from 3.
    fields = stat[stat.rfind(b")") + 2 :].split()
    if int(fields[3]) != session:
        return 0
    return sum(int(field) for field in fields[11:15])
