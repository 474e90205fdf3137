"""`python -m benchmarks`: measure, write the results, print them beside the targets."""

import argparse
import os
import signal
import sys
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.console import Console

from benchmarks.figures import compare
from benchmarks.processes import BenchmarkError, choose_cores, only_run
from benchmarks.registry import DEFAULT
from benchmarks.registry import QUICK as QUICK_SUBJECTS
from benchmarks.report import Judged, Report, describe_commit, describe_machine
from benchmarks.run import FULL, QUICK, Outcome, run
from benchmarks.targets import Judgement, judge, targets_for
from benchmarks.workloads import registry
from benchmarks.workloads.registry import WORKLOADS

_RESULTS = Path(__file__).with_name("results")


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer of both, short windows: under two minutes")
    parser.add_argument("--subjects", nargs="+", choices=DEFAULT, metavar="NAME", help=", ".join(DEFAULT))
    parser.add_argument("--workloads", nargs="+", choices=list(WORKLOADS), metavar="NAME", help=", ".join(WORKLOADS))
    parser.add_argument("--rounds", type=_positive, metavar="N", help=f"default {FULL.rounds}, quick {QUICK.rounds}")
    parser.add_argument("--results", type=Path, default=_RESULTS, metavar="DIRECTORY", help="for latest.*")
    parser.add_argument(
        "--assert", action="store_true", dest="must", help="status 1 when a target is missed or could not be judged"
    )
    return parser.parse_args(arguments)


def main() -> int:
    options = parse_arguments(sys.argv[1:])
    timing = QUICK if options.quick else FULL
    if options.rounds:
        timing = replace(timing, rounds=options.rounds)
    workloads = options.workloads or list(registry.QUICK if options.quick else WORKLOADS)
    usual = QUICK_SUBJECTS if options.quick else DEFAULT
    subjects = list(dict.fromkeys(options.subjects or usual))
    left_out = frozenset() if options.subjects else frozenset(DEFAULT) - frozenset(usual)
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGHUP, _leave)
    machine = describe_machine()
    try:
        cores = choose_cores()
        os.sched_setaffinity(0, {cores.load})
        with only_run(Path(__file__)):
            outcome = run(subjects, [WORKLOADS[name] for name in workloads], timing, cores)
    except BenchmarkError as error:
        sys.stderr.write(f"benchmarks: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("benchmarks: interrupted; nothing was written\n")
        return 130
    report = Report(
        machine=machine,
        commit=describe_commit(),
        date=datetime.now(UTC),
        command=describe_command(options),
        versions=outcome.versions,
        missing=outcome.missing,
        without=outcome.without,
        foreign_shares=outcome.foreign_shares,
        rows=outcome.rows,
        judged=judge_all(workloads, subjects, outcome, len([core for core in cores if core is not None]), left_out),
    )
    report.write(options.results)
    report.show(Console(width=None if sys.stdout.isatty() else 160))
    return 1 if options.must and is_failure(report) else 0


def describe_command(options: argparse.Namespace) -> str:
    """Return how to run the same again; where the results went is left out."""
    words = ["python -m benchmarks"]
    words += ["--quick"] if options.quick else []
    words += ["--workloads", *options.workloads] if options.workloads else []
    words += ["--subjects", *options.subjects] if options.subjects else []
    words += ["--rounds", str(options.rounds)] if options.rounds else []
    return " ".join(words)


def judge_all(
    workloads: Sequence[str],
    subjects: Sequence[str],
    outcome: Outcome,
    cores: int = 2,
    left_out: Collection[str] = frozenset(),
) -> list[Judged]:
    judged = []
    for target in targets_for(workloads, subjects, left_out):
        own = outcome.samples.get((target.workload, target.subject), [])
        peer = outcome.samples.get((target.peer_workload or target.workload, target.peer), [])
        ratio = compare(target.figure, own, peer, target.comparison)
        judged.append(Judged(target=target, ratio=ratio, judgement=judge(target, ratio, cores)))
    return judged


def is_failure(report: Report) -> bool:
    """Say whether --assert fails: a `must` missed or not measured, or a request that was not answered rightly."""
    passed = (Judgement.MET, Judgement.TOO_FEW_CORES)
    unmet = [j for j in report.judged if j.target.must is not None and j.judgement not in passed]
    return bool(unmet) or any(row.errors for row in report.rows)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)  # so that every `with` ends what it started


if __name__ == "__main__":
    sys.exit(main())
