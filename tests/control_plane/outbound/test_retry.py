from hypothesis import given
from hypothesis import strategies as st

from control_plane.outbound.retry import Pace, pause_seconds

PACE = Pace(2, 60)


def test_pauses_double_up_to_the_longest() -> None:
    assert [pause_seconds(PACE, attempts, 0.0, 0) for attempts in range(1, 8)] == [2, 4, 8, 16, 32, 60, 60]


@given(st.integers(1, 10_000), st.floats(0, 1), st.integers(0, 10**9))
def test_a_pause_is_bounded_and_at_least_what_was_asked(attempts: int, chance: float, asked: int) -> None:
    pause = pause_seconds(PACE, attempts, chance, asked)
    assert PACE.first_seconds // 2 <= pause <= PACE.longest_seconds
    assert pause >= min(asked, PACE.longest_seconds)
