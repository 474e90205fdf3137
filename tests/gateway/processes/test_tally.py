"""Metrics of several processes as those of one gateway."""

import pytest

from gateway.metrics import Metrics
from gateway.processes.tally import Tally
from sallyport_cli.overview import Metrics as Scraped


def counted(requests: int, streams: int = 0) -> bytes:
    metrics = Metrics()
    for _ in range(requests):
        metrics.finished("injected", "explicit", 0.02)
    metrics.watch("active_streams", lambda: streams)
    return metrics.render()


def total(tally: Tally, name: str, **labels: str) -> float:
    return Scraped(tally.render(counted(1, 1)).decode()).total(f"sallyport_{name}", **labels)


def test_samples_of_the_same_labels_are_added() -> None:
    tally = Tally()
    tally.scraped(1, counted(2, 3))
    tally.scraped(2, counted(10, 4))
    assert total(tally, "requests_total", outcome="injected", source="explicit") == 13
    assert total(tally, "requests_total", outcome="denied", source="explicit") == 0
    assert total(tally, "active_streams") == 8
    assert total(tally, "request_duration_seconds_bucket", le="0.025") == 13
    assert total(tally, "request_duration_seconds_bucket", le="0.01") == 0
    assert total(tally, "request_duration_seconds_sum") == pytest.approx(0.26)
    assert repr(tally) == "<Tally of 2 processes>"


def test_counts_stay_when_a_process_dies_and_sizes_go_with_it() -> None:
    tally = Tally()
    for generation in range(1, 4):
        tally.scraped(1, counted(5, 9))
        tally.scraped(1, counted(10, 9))
        assert total(tally, "requests_total") == 1 + 10 * generation
        tally.died(1)
        tally.died(1)
        assert total(tally, "requests_total") == 1 + 10 * generation
        assert total(tally, "request_duration_seconds_count") == 1 + 10 * generation
        assert total(tally, "active_streams") == 1


def test_the_sum_reads_like_the_metrics_of_one_process() -> None:
    tally = Tally()
    tally.scraped(1, counted(1))
    one, several = counted(1).decode(), tally.render(counted(1)).decode()

    def shapes(text: str) -> set[str]:
        return {line if line.startswith("#") else line.rpartition(" ")[0] for line in text.splitlines()}

    assert shapes(several) == shapes(one)
    assert Scraped(several).total("sallyport_build_info") == 1
    started = Scraped(one).total("process_start_time_seconds")
    assert Scraped(several).total("process_start_time_seconds") == pytest.approx(started, abs=5)
