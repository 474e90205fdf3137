"""Pauses: of random length, longer each time, never endless."""

import pytest

from control_client.backoff import FIRST_SECONDS, MOST_SECONDS, pause_seconds


@pytest.mark.parametrize(("attempt", "most"), [(1, 1), (2, 2), (3, 4), (5, 16), (6, 30), (1000, 30)])
def test_a_pause_is_anything_up_to_its_bound(attempt: int, most: float) -> None:
    assert (FIRST_SECONDS, MOST_SECONDS) == (1, 30)
    assert pause_seconds(attempt, 0.0) == 0
    assert pause_seconds(attempt, 0.5) == most / 2


def test_a_caller_may_bound_it_lower() -> None:
    assert pause_seconds(10, 0.5, most_seconds=8) == 4
