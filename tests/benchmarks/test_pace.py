"""Both loops, over ways that answer at once, late, or never."""

from collections.abc import Sequence
from time import perf_counter, perf_counter_ns

import pytest

from benchmarks import pace as pace_module
from benchmarks.answers import LoadError
from benchmarks.pace import Pace, measure, measure_once, measure_ticks
from benchmarks.ticks import Ticks


class _Echo:
    """Ways whose answer is there after the next flush."""

    def __init__(self, count: int, *, answers: int = 1 << 60) -> None:
        self.count = count
        self.sent = 0
        self._left = answers
        self._waiting: list[int] = []
        self._ready: list[int] = []

    def send(self, way: int) -> None:
        assert way not in self._waiting + self._ready, "each way carries one request at a time"
        self.sent += 1
        self._waiting.append(way)

    def flush(self) -> None:
        self._ready += self._waiting
        self._waiting.clear()

    def poll(self, seconds: float) -> Sequence[int]:
        done, self._ready = self._ready[: self._left], []
        self._left -= len(done)
        return done


class _Slow(_Echo):
    """Its first answers take longer than the warm-up was to last."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.polls_before_first = 0
        self._slow_until = perf_counter() + 0.05

    def poll(self, seconds: float) -> Sequence[int]:
        if perf_counter() < self._slow_until:
            self.polls_before_first += 1
            return ()
        return super().poll(seconds)


def _pace(closed_seconds: float = 0.02, open_rate: float = 2000.0) -> Pace:
    return Pace(
        sessions=[],
        core=0,
        warm_seconds=0.01,
        closed_seconds=closed_seconds,
        open_seconds=0.02,
        open_rate=open_rate,
    )


def test_the_closed_loop_counts_answers_and_the_open_one_takes_latencies() -> None:
    ways = _Echo(4)
    tally = measure(ways, _pace())
    assert 0 < tally.answered < ways.sent
    assert 0 < len(tally.latencies_us) < 200
    assert tally.cpu_seconds is None, "nobody's CPU time was asked for"
    assert tally.load_share is not None
    assert tally.load_share > 0


def test_without_a_closed_loop_the_open_one_counts() -> None:
    tally = measure(_Echo(4), _pace(closed_seconds=0.0))
    assert tally.answered == len(tally.latencies_us) > 0
    assert tally.seconds > 0


def test_the_warm_up_lasts_until_every_way_was_answered() -> None:
    ways = _Slow(4)
    measure(ways, _pace())
    assert ways.polls_before_first > 0
    assert ways.sent > 4


def test_more_requests_than_ways_wait_their_turn() -> None:
    tally = measure(_Echo(1), _pace(open_rate=100_000.0))
    assert len(tally.latencies_us) > 100


class _Ticking(_Slow):
    """Gives an event at each look, once it gives any."""

    def __init__(self, ticks: Ticks) -> None:
        super().__init__(1)
        self._ticks = ticks
        self._ticks.feed(b"HTTP/1.1 200 OK\r\n\r\n")

    def poll(self, seconds: float) -> Sequence[int]:
        if perf_counter() >= self._slow_until:
            self._ticks.feed(b"data: %d\n\n" % perf_counter_ns())
        return ()


def test_once_each_way_carries_one_request() -> None:
    ways = _Slow(4)
    tally = measure_once(ways, _pace())
    assert (ways.sent, tally.answered, len(tally.latencies_us)) == (4, 4, 4)


def test_events_are_taken_until_there_are_enough_to_compare() -> None:
    ticks = Ticks()
    tally = measure_ticks(_Ticking(ticks), ticks, _pace())
    assert tally.answered == len(tally.latencies_us) + 1 >= 3
    assert tally.seconds > 0


def test_answers_that_do_not_come_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace_module, "_SETTLE_SECONDS", 0.01)
    with pytest.raises(LoadError, match="got no answer"):
        measure(_Echo(2, answers=5), _pace())
