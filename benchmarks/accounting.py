"""CPU time of a subject, from the kernel's accounting of its processes (proc_pid_stat(5)).

A subject runs in a session of its own, so all of its processes and threads are found by the session's id, however
many workers it starts. The kernel's resolution here is a tick (usually 10 ms): windows must be much longer.
"""

import os
from pathlib import Path

_PROC = Path("/proc")
_TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


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


def core_busy_seconds(core: int, proc: Path = _PROC) -> float:
    """Return how long `core` has not been idle since the system started, in seconds; stolen time counts as busy."""
    name = b"cpu%d " % core
    for line in (proc / "stat").read_bytes().splitlines():
        if line.startswith(name):
            user, nice, system, _idle, _iowait, irq, softirq, steal = (int(field) for field in line.split()[1:9])
            return (user + nice + system + irq + softirq + steal) * _TICK_SECONDS
    raise ValueError(f"no core {core} in /proc/stat")


def resident_mib(session: int, proc: Path = _PROC) -> float:
    """Return what the processes of `session` have in memory, in MiB; pages that two of them share count twice."""
    pages = 0
    for entry in proc.iterdir():
        if entry.name.isdigit():
            try:
                fields = _fields((entry / "stat").read_bytes())
            except OSError:  # it ended while we looked
                continue
            if int(fields[3]) == session:
                pages += int(fields[21])
    return pages * _PAGE_BYTES / 2**20


def stat_ticks(stat: bytes, session: int) -> int:
    """Return utime + stime + cutime + cstime of one `/proc/<pid>/stat`, or 0 when it is of another session."""
    fields = _fields(stat)
    if int(fields[3]) != session:
        return 0
    return sum(int(field) for field in fields[11:15])


def _fields(stat: bytes) -> list[bytes]:
    # The command may hold spaces and parentheses; after the last ')' the fields are numbered from 3.
    return stat[stat.rfind(b")") + 2 :].split()
