"""Idle tunnels, at a real gateway, with TLS and without: memory is looked at before and after each was used."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.answers import LoadError
from benchmarks.idle_load import carry_out
from benchmarks.processes import Cores, Processes
from benchmarks.run import Run, Running, Timing
from benchmarks.workloads.registry import WORKLOADS

_NAMES = ("idle_ws", "idle_wss")
_MOMENT = Timing(rounds=1, warm_seconds=0.0, closed_seconds=0.1, open_seconds=0.0)


@pytest.fixture(scope="module")
def run() -> Iterator[tuple[Run, Running]]:
    core = min(os.sched_getaffinity(0))
    said: list[str] = []
    with tempfile.TemporaryDirectory(prefix="sallyport-bench-") as kept, Processes(Path(kept)) as processes:
        run = Run(processes, Cores(core, core), Path(kept), said.append, [WORKLOADS[name] for name in _NAMES])
        (running,) = run.start(["sallyport-pure"])
        assert not run.outcome.missing, said
        yield run, running


@pytest.mark.full
@pytest.mark.parametrize("name", _NAMES)
def test_each_tunnel_is_used_once_and_costs_something(run: tuple[Run, Running], name: str) -> None:
    this_run, running = run
    tally = this_run._measure_one(running, WORKLOADS[name], _MOMENT, 40)
    assert (tally.errors, tally.first_error) == (0, "")
    assert (tally.answered, len(tally.latencies_us)) == (24, 40), "the first 16 are not counted"
    assert tally.kib_unused is not None
    assert tally.kib_after_burst is not None
    assert tally.kib_after_burst >= tally.kib_unused


def test_too_few_tunnels_say_nothing() -> None:
    document: dict[str, object] = {
        "port": 1,
        "host": "api.bench.test",
        "ca_file": "",
        "tokens": ["t"] * 16,
        "authority": "api.bench.test:80",
        "declared": "",
        "request": "",
        "answer_bytes": 0,
        "session": 1,
        "core": 0,
    }
    with pytest.raises(LoadError, match="more than 16 tunnels"):
        carry_out(document)
