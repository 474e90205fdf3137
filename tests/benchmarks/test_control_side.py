"""A gateway that does not forget its credential ends the row; that one does is in test_sandbox_side.py."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.control_side import ControlSide
from benchmarks.processes import BenchmarkError, HelperProgram, Processes
from benchmarks.subject import free_port


@pytest.fixture
def program(tmp_path: Path) -> Iterator[HelperProgram]:
    with Processes(tmp_path) as processes:
        yield processes.start_helper("benchmarks.control_end", min(os.sched_getaffinity(0)))


def test_nobody_at_the_admin_listener_is_told(program: HelperProgram) -> None:
    told = {"plan": "{}", "jwk": {}, "credential": "c", "service_token": "t"}
    port = program.ask(told)["port"]
    assert port > 0
    assert ControlSide(program=program, admin_port=free_port()).count() == 0
    with pytest.raises(BenchmarkError, match="does not answer"):
        ControlSide(program=program, admin_port=free_port()).make_cold()
    # The stand-in knows no such path, as a gateway of another version might not.
    with pytest.raises(BenchmarkError, match="does not forget its credential: 404"):
        ControlSide(program=program, admin_port=port).make_cold()
