"""The loads of the rows with a tunnel, against a real gateway, a real sandboxd and two real relays."""

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from benchmarks.load import Tally
from benchmarks.processes import Cores, Processes
from benchmarks.run import Run, Running, Timing
from benchmarks.workloads.registry import WORKLOADS

_MOMENT = Timing(rounds=1, warm_seconds=0.02, closed_seconds=0.05, open_seconds=0.05)
_TUNNELLED = ("tunnel_64", "sandboxd_intercepted", "chain_400")
_BY_DOOR = ("tls_tls", "cold_intercept", "passthrough_bulk")
_NAMES = (*_TUNNELLED, *_BY_DOOR, "routes_1000", "plan_swap", "slow_reader", "sse_beside_bulk", "cold_credential")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Run, dict[str, Running]]]:
    directory = tmp_path_factory.mktemp("run")
    core = min(os.sched_getaffinity(0))
    said: list[str] = []
    with Processes(directory) as processes:
        run = Run(processes, Cores(core, core), directory, said.append, [WORKLOADS[name] for name in _NAMES])
        running = {each.name: each for each in run.start(["sallyport-pure", "direct", "two-relays"])}
        assert not run.outcome.missing, said
        yield run, running


def _measure(run: Run, subject: Running, workload: str, links: int) -> Tally:
    """Measure for a moment, and for longer where no answer came within it, as on a machine that is busy."""
    tally = run._measure_one(subject, WORKLOADS[workload], _MOMENT, links)
    if tally.answered or tally.errors:
        return tally
    return run._measure_one(subject, WORKLOADS[workload], replace(_MOMENT, closed_seconds=10.0), links)


@pytest.mark.parametrize(
    ("workload", "subject", "links"),
    [
        ("tunnel_64", "sallyport-pure", 40),  # more than are opened at once
        ("sandboxd_intercepted", "sallyport-pure", 2),
        ("chain_400", "sallyport-pure", 2),
        ("chain_400", "direct", 2),
        ("chain_400", "two-relays", 2),
        ("tls_tls", "sallyport-pure", 2),
        ("tls_tls", "direct", 2),
        ("cold_intercept", "sallyport-pure", 2),
        ("cold_intercept", "direct", 2),
        ("passthrough_bulk", "sallyport-pure", 2),
        ("passthrough_bulk", "direct", 2),
        ("routes_1000", "sallyport-pure", 2),
        ("plan_swap", "sallyport-pure", 2),
        ("slow_reader", "sallyport-pure", 2),
        ("sse_beside_bulk", "sallyport-pure", 1),
    ],
)
def test_every_row_is_answered_rightly(
    run: tuple[Run, dict[str, Running]], workload: str, subject: str, links: int
) -> None:
    tally = _measure(run[0], run[1][subject], workload, links)
    assert (tally.errors, tally.first_error) == (0, "")
    assert tally.answered > 0
    assert tally.latencies_us
    assert (tally.cpu_seconds is None) is (subject == "direct")
    assert tally.resident_mib is None or tally.resident_mib > 1


def test_who_has_no_tunnel_is_not_in_its_rows(run: tuple[Run, dict[str, Running]]) -> None:
    has = {name: [each for each in _NAMES if subject.has(WORKLOADS[each])] for name, subject in run[1].items()}
    assert has == {
        "sallyport-pure": list(_NAMES),
        "direct": ["chain_400", *_BY_DOOR],
        "two-relays": ["chain_400"],
    }
    assert not run[1]["two-relays"].has(WORKLOADS["small_get"])


def test_a_cold_credential_is_asked_for_once_each_time(run: tuple[Run, dict[str, Running]]) -> None:
    for _ in range(2):
        tally = _measure(run[0], run[1]["sallyport-pure"], "cold_credential", 20)
        assert (tally.errors, tally.first_error, tally.answered) == (0, "", 20)
        assert tally.resolutions == 1


def test_an_answer_without_the_credential_is_an_error_of_the_row(run: tuple[Run, dict[str, Running]]) -> None:
    this_run, running = run
    workload = WORKLOADS["chain_400"]
    direct = running["direct"]
    stranger = Running(name="stranger", port=0, session=1, proxy_token="", spot=direct.spot)  # sends the placeholder
    tally = this_run._measure_one(stranger, workload, _MOMENT, 1)
    assert tally.errors == 1
    assert "401 Unauthorized" in tally.first_error
