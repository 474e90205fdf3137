import pytest
from hypothesis import given
from hypothesis import strategies as st

from sallyport.token_bucket import TokenBucket


def test_a_burst_may_be_spent_at_once_and_then_there_is_a_wait() -> None:
    bucket = TokenBucket(per_second=2, burst=3)
    assert [bucket.take(10.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert repr(bucket) == "<TokenBucket 0.0 of 3>"


def test_it_fills_with_time_but_not_beyond_its_burst() -> None:
    bucket = TokenBucket(per_second=1, burst=2)
    assert [bucket.take(at) for at in (0.0, 0.0, 0.5, 1.0)] == [0.0, 0.0, 0.5, 0.0]
    assert [bucket.take(1_000_000.0) for _ in range(3)] == [0.0, 0.0, 1.0]


@given(st.integers(1, 600), st.integers(1, 600), st.lists(st.floats(0, 30), max_size=200))
def test_never_more_than_the_rate_and_one_burst(per_second: int, burst: int, steps: list[float]) -> None:
    bucket = TokenBucket(per_second=per_second, burst=burst)
    now, taken = 0.0, 0
    for step in steps:
        now += step
        taken += bucket.take(now) == 0.0
    assert taken <= burst + per_second * now + 1e-6


def test_t5_a_clock_that_goes_back_gives_nothing_away_and_locks_nobody_out() -> None:
    bucket = TokenBucket(per_second=1, burst=1)
    eight_days = 8 * 86400.0
    assert bucket.take(eight_days) == 0.0
    assert bucket.take(0.0) == pytest.approx(1)
    assert bucket.take(1.0) == 0.0
