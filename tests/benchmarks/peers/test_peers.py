"""Every peer's configuration is written whole; those that are installed answer rightly by each of their ways."""

import os
import tempfile
from pathlib import Path

import pytest

from benchmarks.processes import Cores, Processes
from benchmarks.registry import SUBJECTS
from benchmarks.run import Run, Timing
from benchmarks.subject import Subject
from benchmarks.workloads.registry import WORKLOADS
from tests.support.bench_site import site_in

PEERS = [subject for name, subject in SUBJECTS.items() if not name.startswith("sallyport")]
_MOMENT = Timing(rounds=1, warm_seconds=0.1, closed_seconds=0.2, open_seconds=0.1)
# One of each way.
_WORKLOADS = ("small_get", "post_10k", "get_1m", "tls_tls", "cold_intercept", "passthrough_bulk")
_EACH = pytest.mark.parametrize("peer", PEERS, ids=[peer.name for peer in PEERS])
_BUILT_FIRST = ("go-std", "goproxy")


@pytest.mark.parametrize(
    "peer", [peer for peer in PEERS if peer.name not in _BUILT_FIRST], ids=lambda peer: str(peer.name)
)
def test_its_configuration_needs_nothing_installed(peer: Subject, tmp_path: Path) -> None:
    launch = peer.prepare(site_in(tmp_path))
    assert launch.port > 0
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert b"sk-of-the-origin" in written, "the credential is in the configuration, where it has to come from"
    assert b"@{" not in written


@_EACH
def test_a_missing_one_says_what_would_install_it(
    peer: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.peers.environment.ENVIRONMENT", tmp_path)
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    monkeypatch.setattr("benchmarks.peers.go._GOPROXY_SOURCES", tmp_path / "nowhere")
    assert "`make bench-deps`" in (peer.missing() or "")


@pytest.mark.full
@_EACH
def test_it_answers_rightly_by_each_of_its_ways(peer: Subject) -> None:
    if reason := peer.missing():
        pytest.skip(reason)
    core = min(os.sched_getaffinity(0))
    said: list[str] = []
    # Not below pytest's folder, which squid, that goes on as another user, cannot enter.
    with tempfile.TemporaryDirectory(prefix="sallyport-bench-") as kept, Processes(Path(kept)) as processes:
        run = Run(processes, Cores(core, core), Path(kept), said.append, [WORKLOADS[name] for name in _WORKLOADS])
        started = run.start([peer.name])
        assert not run.outcome.missing, said
        for name in _WORKLOADS:
            if not started[0].has(WORKLOADS[name]):
                continue
            tally = run._measure_one(started[0], WORKLOADS[name], _MOMENT, 4)
            assert (tally.errors, tally.first_error) == (0, "")
