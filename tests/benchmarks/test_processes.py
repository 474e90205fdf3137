"""Runs exclude each other, and nothing they started outlives them."""

import os
import sys
from pathlib import Path

import pytest

from benchmarks.processes import BenchmarkError, Cores, Processes, only_run
from benchmarks.subject import ROOT, Launch, free_port


def test_a_second_run_at_once_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "any file"
    lock.touch()
    with only_run(lock), pytest.raises(BenchmarkError, match="another run is under way"), only_run(lock):
        pass
    with only_run(lock):
        pass


def test_a_subject_that_ends_at_once_is_told_with_its_last_words_and_without_our_paths(tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0))
    script = f"import sys; sys.exit('cannot read {ROOT}/x.yaml')"
    launch = Launch(command=(sys.executable, "-c", script), port=free_port())
    with Processes(tmp_path) as processes, pytest.raises(BenchmarkError) as raised:
        processes.start_subject("gateway", launch, (core,))
    assert "status 1" in str(raised.value)
    assert "cannot read x.yaml" in str(raised.value)


def test_what_was_started_ends_with_the_run(tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0))
    port = free_port()
    script = f"import socket; s = socket.create_server(('127.0.0.1', {port})); s.accept(); s.accept()"
    with Processes(tmp_path) as processes:
        session = processes.start_subject("server", Launch(command=(sys.executable, "-c", script), port=port), (core,))
        assert os.getsid(session) == session
        assert os.sched_getaffinity(session) == {core}
    with pytest.raises(ProcessLookupError):
        os.getsid(session)


def test_one_subject_can_end_before_the_others(tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0))
    port = free_port()
    script = f"import socket; s = socket.create_server(('127.0.0.1', {port})); s.accept(); s.accept()"
    with Processes(tmp_path) as processes:
        session = processes.start_subject("server", Launch(command=(sys.executable, "-c", script), port=port), (core,))
        processes.stop_subject(session)
        with pytest.raises(ProcessLookupError):
            os.getsid(session)


def test_two_processes_have_two_cores_where_the_machine_has_three() -> None:
    assert Cores(0, 1, 2).of(2) == (0, 2)
    assert Cores(0, 1, 2).of(1) == (0,)
    assert Cores(0, 1).of(2) == (0,)
