import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.route_limit import RouteLimit


def test_a_minute_s_worth_may_be_spent_at_once_and_no_more() -> None:
    limit = RouteLimit(per_minute=3, max_concurrent=None)
    assert [limit.admit(10.0) for _ in range(4)] == [None, None, None, 20]


def test_the_bucket_fills_with_time_but_not_beyond_a_minute() -> None:
    limit = RouteLimit(per_minute=2, max_concurrent=None)
    assert limit.admit(0.0) is None
    assert limit.admit(0.0) is None
    assert limit.admit(15.0) == 15
    assert limit.admit(30.0) is None
    assert [limit.admit(10_000.0) for _ in range(3)] == [None, None, 30]


def test_requests_at_once_are_counted_until_they_end() -> None:
    limit = RouteLimit(per_minute=None, max_concurrent=2)
    assert [limit.admit(0.0) for _ in range(3)] == [None, None, 1]
    limit.release()
    assert limit.admit(0.0) is None
    assert repr(limit) == "<RouteLimit 2 open, 0.0 left this minute>"


def test_a_refused_request_takes_nothing() -> None:
    limit = RouteLimit(per_minute=1, max_concurrent=1)
    assert limit.admit(0.0) is None
    assert limit.admit(60.0) == 1
    limit.release()
    assert limit.admit(60.0) is None


@given(st.integers(1, 600), st.lists(st.floats(0, 30), max_size=200))
def test_never_more_than_the_rate_and_one_bucket(per_minute: int, steps: list[float]) -> None:
    limit = RouteLimit(per_minute=per_minute, max_concurrent=None)
    now, admitted = 0.0, 0
    for step in steps:
        now += step
        admitted += limit.admit(now) is None
    assert admitted <= per_minute + per_minute * now / 60 + 1e-6


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    limit = RouteLimit(per_minute=1, max_concurrent=None)
    assert limit.admit(100.0) is None
    assert limit.admit(40.0) == pytest.approx(60)
