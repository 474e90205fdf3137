"""The window: its invariant under any use, when credit is due, and when it grows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.yamux.window import ReceiveWindow


def test_what_is_granted_may_come_and_not_a_byte_more() -> None:
    window = ReceiveWindow(10)
    window.received(4)
    window.received(6)
    with pytest.raises(RemoteProtocolError, match="1 bytes sent into a window of 0"):
        window.received(1)


def test_credit_waits_for_half_a_window() -> None:
    window = ReceiveWindow(10)
    window.received(9)
    assert not window.delivered(4)
    assert window.available == 1
    assert window.delivered(1)
    assert window.take_credit() == 5
    assert window.available == 6
    assert window.take_credit() == 0


def test_a_window_that_drains_within_two_round_trips_doubles() -> None:
    window = ReceiveWindow(10)
    window.received(10)
    window.delivered(5)
    assert window.grow(100.0, 0.1, 35) == 0  # nothing to compare with yet
    window.take_credit()
    window.delivered(5)
    assert window.grow(100.09, 0.1, 35) == 10
    assert (window.take_credit(), window.size, window.available) == (5, 20, 20)
    assert window.grow(100.3, 0.1, 35) == 0  # slower than that
    assert window.grow(100.35, 0.1, 35) == 15  # not beyond the limit
    assert window.grow(100.36, 0.1, 35) == 0
    assert window.size == 35


def test_no_growth_before_a_round_trip_is_known_or_where_it_is_not_allowed() -> None:
    window = ReceiveWindow(10)
    window.grow(1.0, 0.0, 40)
    assert window.grow(1.001, 0.0, 40) == 0
    assert window.grow(1.002, 1.0, 10) == 0


@given(
    steps=st.lists(
        st.one_of(st.tuples(st.just("receive"), st.integers(0, 80)), st.tuples(st.just("deliver"), st.integers(0, 80)))
    ),
    grows=st.booleans(),
)
def test_available_held_and_unreturned_always_make_up_the_size(steps: list[tuple[str, int]], grows: bool) -> None:
    window, held, granted, now = ReceiveWindow(64), 0, 64, 0.0
    for what, count in steps:
        now += 0.01
        if what == "receive":
            if count > window.available:
                with pytest.raises(RemoteProtocolError):
                    window.received(count)
                continue
            window.received(count)
            held += count
            granted -= count
        elif window.delivered(min(count, held)):
            held -= min(count, held)
            granted += window.grow(now, 1.0 if grows else 0.0, 1024) + window.take_credit()
        else:
            held -= min(count, held)
        assert window.available == granted
        assert window.available + held + window._unreturned == window.size
        assert repr(window) == f"<ReceiveWindow {window.available} of {window.size} bytes>"
