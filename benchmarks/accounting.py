"""CPU time and memory of a subject, from the kernel's accounting of its processes (proc_pid_stat(5)).

A subject runs in a session of its own, so its processes and threads are found by the session's id, however many
workers it starts; a worker that has gone into a session of its own is found as their child. The kernel's resolution
here is a tick (usually 10 ms): windows must be much longer.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")
_TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Stat(NamedTuple):
    """What counts here of one `/proc/<pid>/stat`; `ticks` are utime + stime + cutime + cstime."""

    parent: int
    session: int
    ticks: int
    pages: int


def session_cpu_seconds(session: int, proc: Path = _PROC) -> float:
    """Return user plus system time, in seconds, of every process of a subject and of its reaped children."""
    return sum(each.ticks for each in _subject(session, proc)) * _TICK_SECONDS


def core_busy_seconds(core: int, proc: Path = _PROC) -> float:
    """Return how long `core` has not been idle since the system started, in seconds; stolen time counts as busy."""
    name = b"cpu%d " % core
    for line in (proc / "stat").read_bytes().splitlines():
        if line.startswith(name):
            user, nice, system, _idle, _iowait, irq, softirq, steal = (int(field) for field in line.split()[1:9])
            return (user + nice + system + irq + softirq + steal) * _TICK_SECONDS
    raise ValueError(f"no core {core} in /proc/stat")


def resident_mib(session: int, proc: Path = _PROC) -> float:
    """Return what the processes of a subject have in memory, in MiB; pages that two of them share count twice."""
    return sum(each.pages for each in _subject(session, proc)) * _PAGE_BYTES / 2**20


def parse_stat(stat: bytes) -> Stat:
    # The command may hold spaces and parentheses; after the last ')' the fields are numbered from 3.
    fields = stat[stat.rfind(b")") + 2 :].split()
    return Stat(int(fields[1]), int(fields[3]), sum(map(int, fields[11:15])), int(fields[21]))


def _subject(session: int, proc: Path) -> Iterator[Stat]:
    """Yield the processes of `session`, and those below them."""
    stats: dict[int, Stat] = {}
    for entry in proc.iterdir():
        if entry.name.isdigit():
            try:
                stats[int(entry.name)] = parse_stat((entry / "stat").read_bytes())
            except OSError:  # it ended while we looked
                continue
    found = {pid for pid, stat in stats.items() if stat.session == session}
    while below := {pid for pid, stat in stats.items() if stat.parent in found and pid not in found}:
        found |= below
    return (stats[pid] for pid in found)
