"""Jitter is what the way adds to the distance of two events, however the bytes are cut."""

import pytest

from benchmarks.answers import LoadError
from benchmarks.ticks import Ticks

_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def _chunk(stamp: int) -> bytes:
    event = b"data: %d\n\n" % stamp
    return b"%x\r\n%b\r\n" % (len(event), event)


def test_events_are_found_however_they_are_cut() -> None:
    ticks = Ticks()
    for byte in _HEAD + _chunk(1) + _chunk(2) + _chunk(3):
        ticks.feed(bytes([byte]))
    assert ticks.count == 3
    ticks.forget()
    assert ticks.count == 0
    assert ticks.feed(_chunk(4))


def test_jitter_is_the_change_of_the_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = Ticks()
    ticks.feed(_HEAD)
    for sent, arrived in ((1_000_000, 1_500_000), (21_000_000, 21_500_000), (41_000_000, 44_500_000)):
        monkeypatch.setattr("benchmarks.ticks.perf_counter_ns", lambda arrived=arrived: arrived)
        ticks.feed(_chunk(sent))
    assert ticks.jitters_us() == [0.0, 3000.0]


@pytest.mark.parametrize("answer", [b"HTTP/1.1 401 Unauthorized\r\n\r\n", _HEAD + b"x" * 300])
def test_another_answer_is_an_error(answer: bytes) -> None:
    with pytest.raises(LoadError):
        Ticks().feed(answer)
