"""CPU time is read per session, whatever the command is called."""

import os
from pathlib import Path

import pytest

from benchmarks.accounting import core_busy_seconds, parse_stat, resident_mib, session_cpu_seconds


def _stat(
    pid: int,
    command: str,
    session: int,
    utime: int,
    stime: int,
    cutime: int = 0,
    cstime: int = 0,
    pages: int = 0,
    parent: int = 1,
) -> bytes:
    before = f"{pid} ({command}) S {parent} {pid} {session} 0 -1 4194304 100 0 0 0"
    return f"{before} {utime} {stime} {cutime} {cstime} 20 0 4 0 1000 0 {pages}".encode()


def test_ticks_are_those_of_a_process_with_its_reaped_children() -> None:
    stat = parse_stat(_stat(7, "nginx", 5, 10, 20, 3, 4, parent=2))
    assert (stat.session, stat.parent, stat.ticks) == (5, 2, 37)


def test_a_command_with_spaces_and_parentheses_does_not_shift_the_fields() -> None:
    assert parse_stat(_stat(7, "a) S 1 (b", 5, 1, 2)).ticks == 3


def test_a_worker_in_a_session_of_its_own_is_its_parents(tmp_path: Path) -> None:
    for pid, session, parent in ((10, 10, 1), (11, 11, 10), (12, 12, 11), (13, 13, 1)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_bytes(_stat(pid, "worker", session, 1, 0, parent=parent))
    assert session_cpu_seconds(10, tmp_path) == 3 * session_cpu_seconds(13, tmp_path)


def test_every_process_of_the_session_is_found_and_other_entries_are_ignored(tmp_path: Path) -> None:
    for pid, session in ((10, 10), (11, 10), (12, 12)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_bytes(_stat(pid, "worker", session, 100, 0))
    (tmp_path / "13").mkdir()  # ended between listing and reading
    (tmp_path / "self").mkdir()
    one = session_cpu_seconds(12, tmp_path)
    assert one > 0
    assert session_cpu_seconds(10, tmp_path) == 2 * one


def test_memory_is_that_of_the_session(tmp_path: Path) -> None:
    for pid, session in ((10, 10), (11, 10), (12, 12)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_bytes(_stat(pid, "worker", session, 1, 1, pages=512))
    assert resident_mib(10, tmp_path) == 2 * 512 * os.sysconf("SC_PAGE_SIZE") / 2**20
    assert resident_mib(13, tmp_path) == 0


def test_a_core_is_busy_with_everything_but_idling_and_waiting(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text(
        "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 4 1000 1000 8 16 32 64 64\ncpu1 0 0 0 5 0 0 0 0 0 0\n"
    )
    assert core_busy_seconds(0, tmp_path) == pytest.approx(63 / os.sysconf("SC_CLK_TCK"))
    assert core_busy_seconds(1, tmp_path) == 0
    with pytest.raises(ValueError, match="no core 2"):
        core_busy_seconds(2, tmp_path)
