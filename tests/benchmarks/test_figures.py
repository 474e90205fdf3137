"""Medians, spread and ratios."""

from dataclasses import replace

import pytest

from benchmarks.figures import Comparison, Sample, compare, order_of_round, percentile, summarize, take_sample
from benchmarks.load import Tally
from benchmarks.workloads.registry import WORKLOADS
from benchmarks.workloads.small_get import WORKLOAD


def _sample(cpu: float | None, rate: float = 1000.0) -> Sample:
    return Sample(
        cpu_us_per_request=cpu, requests_per_second=rate, p50_us=100.0, p99_us=None, mb_per_cpu_second=None
    )  # fmt: skip


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_percentile_is_a_value_that_was_seen(share: float, value: float) -> None:
    assert percentile(range(1, 101), share) == value


def test_percentile_does_not_depend_on_order_and_nothing_has_none() -> None:
    assert percentile([9.0, 1.0, 5.0], 0.5) == 5.0
    assert percentile([], 0.5) is None


def test_cost_is_cpu_time_over_answers_of_the_same_window() -> None:
    tally = Tally(answered=20_000, seconds=2.0, cpu_seconds=0.5, latencies_us=[1.0, 2.0, 3.0])
    sample = take_sample(tally, WORKLOAD)
    assert sample is not None
    assert sample.cpu_us_per_request == pytest.approx(25.0)
    assert sample.requests_per_second == pytest.approx(10_000)
    assert sample.p50_us == 2.0
    assert sample.mb_per_cpu_second == pytest.approx(20_000 * len(WORKLOAD.answer_body) / 1e6 / 0.5)


def test_direct_has_no_cost_and_a_round_without_answers_no_sample() -> None:
    sample = take_sample(Tally(answered=10, seconds=1.0), WORKLOAD)
    assert sample is not None
    assert sample.cpu_us_per_request is None
    assert sample.mb_per_cpu_second is None
    assert take_sample(Tally(errors=64), WORKLOAD) is None


def test_a_cost_below_the_kernels_resolution_is_none() -> None:
    sample = take_sample(Tally(answered=10, seconds=1.0, cpu_seconds=0.0), WORKLOAD)
    assert sample is not None
    assert sample.cpu_us_per_request is None


def test_a_row_has_the_median_and_both_ends() -> None:
    row = summarize("small_get", "nginx", [_sample(20.0), _sample(14.0), _sample(90.0)], errors=1)
    assert row.cpu_us_per_request == 20.0
    assert row.spread["cpu_us_per_request"] == (14.0, 90.0)
    assert row.p99_us is None
    assert "p99_us" not in row.spread
    assert (row.rounds, row.errors) == (3, 1)


def test_a_subject_whose_rounds_all_failed_still_has_a_row() -> None:
    row = summarize("small_get", "nginx", [], errors=64)
    assert row.requests_per_second is None
    assert (row.rounds, row.errors) == (0, 64)


def test_ratios_are_taken_within_a_round() -> None:
    # The second round was twice as slow for both: the ratio does not notice.
    ratio = compare("cpu_us_per_request", [_sample(25.0), _sample(50.0)], [_sample(50.0), _sample(100.0)])
    assert ratio is not None
    assert (ratio.lowest, ratio.median, ratio.highest) == (0.5, 0.5, 0.5)


def test_a_failed_round_is_left_out_of_the_ratio_on_both_sides() -> None:
    ratio = compare("cpu_us_per_request", [None, _sample(50.0)], [_sample(1.0), _sample(100.0)])
    assert ratio is not None
    assert ratio.median == 0.5
    assert compare("cpu_us_per_request", [None], [_sample(1.0)]) is None
    assert compare("cpu_us_per_request", [], [_sample(1.0)]) is None


def test_a_difference_is_taken_within_a_round_and_a_figure_alone_needs_no_peer() -> None:
    own, peer = [_sample(25.0), _sample(50.0), None], [_sample(20.0), _sample(10.0), _sample(1.0)]
    difference = compare("cpu_us_per_request", own, peer, Comparison.DIFFERENCE)
    alone = compare("cpu_us_per_request", own, [], Comparison.ALONE)
    assert difference is not None
    assert (difference.lowest, difference.highest) == (5.0, 40.0)
    assert alone is not None
    assert (alone.lowest, alone.median, alone.highest) == (25.0, 37.5, 50.0)


def test_nothing_is_a_figure_too_save_to_divide_by() -> None:
    nothing, something = replace(_sample(1.0), grown_mib=0.0), replace(_sample(1.0), grown_mib=2.0)
    alone = compare("grown_mib", [nothing, something], [], Comparison.ALONE)
    assert alone is not None
    assert (alone.lowest, alone.highest) == (0.0, 2.0)
    difference = compare("grown_mib", [something], [nothing], Comparison.DIFFERENCE)
    assert difference is not None
    assert difference.median == 2.0
    assert compare("grown_mib", [something], [nothing]) is None


def test_memory_is_a_figure_of_sandboxd_alone() -> None:
    tally = Tally(answered=10, seconds=1.0, resident_mib=40.0, load_share=0.5)
    of_sandboxd, of_tunnel = (take_sample(tally, WORKLOADS[name]) for name in ("sandboxd_intercepted", "tunnel_64"))
    assert of_sandboxd is not None
    assert (of_sandboxd.resident_mib, of_sandboxd.load_share) == (40.0, 0.5)
    assert of_tunnel is not None
    assert of_tunnel.resident_mib is None


def test_growth_is_a_figure_of_the_slow_reader_and_events_have_no_cost_of_their_own() -> None:
    tally = Tally(answered=10, seconds=1.0, cpu_seconds=0.5, grown_mib=3.0, latencies_us=[1.0, 9.0])
    slow, events, usual = (
        take_sample(tally, WORKLOADS[name]) for name in ("slow_reader", "sse_beside_bulk", "tunnel_64")
    )
    assert slow is not None
    assert events is not None
    assert usual is not None
    assert (slow.grown_mib, usual.grown_mib) == (3.0, None)
    assert (slow.longest_us, events.longest_us) == (9.0, 9.0)
    assert events.cpu_us_per_request is None


def test_a_round_of_nobody_is_empty() -> None:
    assert order_of_round([], 3) == []


def test_rounds_rotate_the_order() -> None:
    assert [order_of_round(["a", "b", "c"], number) for number in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]
