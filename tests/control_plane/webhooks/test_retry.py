from hypothesis import given
from hypothesis import strategies as st

from control_plane.webhooks.retry import FIRST_SECONDS, LONGEST_SECONDS, pause_seconds


def test_pauses_double_up_to_an_hour() -> None:
    assert [pause_seconds(attempts, 0.0, 0) for attempts in range(1, 13)] == [
        *(5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560),
        *(3600, 3600),
    ]
    # A day holds as many attempts as docs/webhooks.md says.
    total, attempts = 0, 0
    while total < 86_400:
        attempts += 1
        total += pause_seconds(attempts, 0.5, 0)
    assert 30 <= attempts <= 45


@given(st.integers(1, 10_000), st.floats(0, 1), st.integers(0, 10**9))
def test_a_pause_is_bounded_and_at_least_what_was_asked(attempts: int, chance: float, asked: int) -> None:
    pause = pause_seconds(attempts, chance, asked)
    assert FIRST_SECONDS // 2 <= pause <= LONGEST_SECONDS
    assert pause >= min(asked, LONGEST_SECONDS)
