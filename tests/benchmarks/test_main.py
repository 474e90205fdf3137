"""The command line, and when --assert fails."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from benchmarks.__main__ import describe_command, is_failure, judge_all, parse_arguments
from benchmarks.figures import Row, Sample, summarize
from benchmarks.registry import DEFAULT, QUICK
from benchmarks.report import Report
from benchmarks.run import Outcome
from benchmarks.targets import Judgement


def _sample(cpu: float) -> Sample:
    return Sample(
        cpu_us_per_request=cpu, requests_per_second=1.0, p50_us=None, p99_us=None, mb_per_cpu_second=None
    )  # fmt: skip


def _outcome(own: float, envoy: float, errors: int = 0) -> Outcome:
    samples: dict[tuple[str, str], list[Sample | None]] = {
        ("small_get", "sallyport-pure"): [_sample(own)],
        ("small_get", "envoy"): [_sample(envoy)],
    }
    rows: list[Row] = [summarize("small_get", "sallyport-pure", [_sample(own)], errors)]
    return Outcome(samples=samples, rows=rows)


def _fails(outcome: Outcome, subjects: list[str]) -> bool:
    return is_failure(_report(outcome, subjects))


def _report(outcome: Outcome, subjects: list[str]) -> Report:
    return Report(
        machine={},
        commit="none",
        date=_a_day(),
        command="",
        versions={},
        missing={},
        foreign_shares=[],
        rows=outcome.rows,
        judged=judge_all(["small_get"], subjects, outcome),
    )


def _a_day() -> datetime:
    return datetime(2026, 1, 2, tzinfo=UTC)


def test_assert_passes_when_the_target_is_met() -> None:
    assert not _fails(_outcome(own=30.0, envoy=60.0), ["sallyport-pure", "envoy"])


def test_assert_fails_when_the_target_is_missed() -> None:
    assert _fails(_outcome(own=40.0, envoy=60.0), ["sallyport-pure", "envoy"])


def test_assert_fails_when_a_request_was_not_answered_rightly() -> None:
    assert _fails(_outcome(own=30.0, envoy=60.0, errors=1), ["sallyport-pure", "envoy"])


@pytest.mark.parametrize(("tunnel", "judgement"), [(44.0, Judgement.MET), (45.0, Judgement.MISSED)])
def test_a_tunnel_is_judged_by_the_explicit_listener_in_the_same_run(tunnel: float, judgement: Judgement) -> None:
    outcome = _outcome(own=40.0, envoy=60.0)
    outcome.samples["tunnel_64", "sallyport-pure"] = [_sample(tunnel)]
    judged = judge_all(["small_get", "tunnel_64"], ["sallyport-pure"], outcome)
    assert [each.judgement for each in judged if each.target.workload == "tunnel_64"] == [judgement]


def test_assert_passes_over_what_this_machine_cannot_show() -> None:
    judged = judge_all(["small_get"], ["sallyport-pure-2"], Outcome(), cores=2)
    assert [each.judgement for each in judged] == [Judgement.TOO_FEW_CORES]
    assert not is_failure(replace(_report(Outcome(), []), judged=judged))


def test_assert_fails_when_the_peer_gave_no_figures() -> None:
    assert _fails(Outcome(), ["sallyport-pure", "envoy"])


def test_everything_is_measured_by_default() -> None:
    options = parse_arguments([])
    assert options.subjects is None
    assert set(QUICK) < set(DEFAULT)
    assert not options.must
    assert describe_command(options) == "python -m benchmarks"


def test_the_command_in_the_results_leaves_out_where_they_went() -> None:
    options = parse_arguments(["--quick", "--rounds", "2", "--subjects", "nginx", "envoy", "--results", "somewhere"])
    assert describe_command(options) == "python -m benchmarks --quick --subjects nginx envoy --rounds 2"


@pytest.mark.parametrize("arguments", [["--subjects", "apache"], ["--workloads", "post_1t"], ["--rounds", "0"]])
def test_unknown_names_and_no_rounds_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_arguments(arguments)
    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err
