from gateway.core.request_limit import Excess, RequestLimit

BUSY = Excess(1, True)


def test_a_minute_s_worth_may_be_spent_at_once_and_no_more() -> None:
    limit = RequestLimit(per_minute=3, max_concurrent=None)
    assert [limit.admit(10.0) for _ in range(4)] == [None, None, None, Excess(20, False)]


def test_a_burst_of_its_own_is_less_than_a_minute_s_worth_or_more() -> None:
    limit = RequestLimit(per_minute=60, max_concurrent=None, burst=2)
    assert [limit.admit(0.0) for _ in range(3)] == [None, None, Excess(1, False)]
    assert limit.terms == (60, None, 2)


def test_the_minute_fills_with_time_but_not_beyond() -> None:
    limit = RequestLimit(per_minute=2, max_concurrent=None)
    assert limit.admit(0.0) is None
    assert limit.admit(0.0) is None
    assert limit.admit(15.0) == Excess(15, False)
    assert limit.admit(30.0) is None
    assert [limit.admit(10_000.0) for _ in range(3)] == [None, None, Excess(30, False)]


def test_requests_at_once_are_counted_until_they_end() -> None:
    limit = RequestLimit(per_minute=None, max_concurrent=2)
    assert [limit.admit(0.0) for _ in range(3)] == [None, None, BUSY]
    limit.release()
    assert limit.admit(0.0) is None
    assert repr(limit) == "<RequestLimit 2 open, None>"


def test_a_refused_request_takes_nothing() -> None:
    limit = RequestLimit(per_minute=1, max_concurrent=1)
    assert limit.admit(0.0) is None
    assert limit.admit(60.0) == BUSY
    limit.release()
    assert limit.admit(60.0) is None


def test_what_is_spent_counts_for_the_minute_and_is_not_under_way() -> None:
    limit = RequestLimit(per_minute=2, max_concurrent=1)
    assert limit.spend(0.0) is None
    assert limit.admit(0.0) is None
    assert limit.spend(0.0) == Excess(30, False)
    assert limit.open == 1


def test_a_limit_at_once_alone_lets_everything_be_spent() -> None:
    limit = RequestLimit(per_minute=None, max_concurrent=1)
    assert [limit.spend(0.0) for _ in range(100)] == [None] * 100
