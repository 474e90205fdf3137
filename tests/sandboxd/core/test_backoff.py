"""When the gateway is tried again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sallyport.wire.websocket import DRAINING, EXPIRED, INTERNAL, PROTOCOL, REPLACED, REVOKED
from sandboxd.core.backoff import (
    ASKED_SECONDS,
    REFUSED_SECONDS,
    REPLACED_SECONDS,
    STEPS_SECONDS,
    Again,
    after_close,
    after_failure,
    after_refusal,
    delay,
    hastened,
)

CODES = st.one_of(st.none(), st.integers(1000, 4999))


def at_most(_: object = None) -> float:
    return 1.0


def test_the_steps_are_those_of_the_contract_and_stay_at_the_last() -> None:
    assert [delay(attempt, at_most) for attempt in range(8)] == [0.0, 0.25, 0.5, 1.0, 2.0, 5.0, 5.0, 5.0]


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_full_jitter_stays_within_the_step(attempt: int, drawn: float) -> None:
    step = STEPS_SECONDS[min(attempt, 5)]
    assert delay(attempt, lambda: drawn) == pytest.approx(step * drawn)


@pytest.mark.parametrize(
    ("code", "again"),
    [
        (None, Again(wait_seconds=0.0, may_hasten=True)),
        (1000, Again(wait_seconds=0.0, may_hasten=True)),
        (PROTOCOL, Again(wait_seconds=0.0, may_hasten=True)),
        (INTERNAL, Again(wait_seconds=0.0, may_hasten=True)),
        (DRAINING, Again(wait_seconds=0.0, may_hasten=True)),
        (REPLACED, Again(wait_seconds=REPLACED_SECONDS)),
        (REVOKED, Again(wait_seconds=REFUSED_SECONDS, is_token_bad=True, is_stopped=True)),
        (EXPIRED, Again(wait_seconds=0.0, may_hasten=True, is_token_bad=True)),
    ],
)
def test_what_a_close_code_means_for_a_tunnel_that_had_settled(code: int | None, again: Again) -> None:
    assert after_close(code, 0, at_most) == again


@given(CODES, st.integers(1, 100))
def test_a_tunnel_that_ends_as_soon_as_it_begins_is_not_opened_in_a_loop(code: int | None, attempt: int) -> None:
    again = after_close(code, attempt, at_most)
    assert again.wait_seconds >= STEPS_SECONDS[1]
    assert again.is_stopped == (code == REVOKED)


@pytest.mark.parametrize(
    ("status", "has_another", "again"),
    [
        (503, False, Again(wait_seconds=0.25)),
        (404, True, Again(wait_seconds=0.25)),
        (401, True, Again(wait_seconds=0.25, is_token_bad=True)),
        (401, False, Again(wait_seconds=REFUSED_SECONDS)),
    ],
)
def test_what_an_answer_at_the_door_means(status: int, has_another: bool, again: Again) -> None:
    assert after_refusal(status, has_another, 1, at_most) == again


def test_only_where_nobody_said_wait_does_a_program_hasten_the_next_attempt() -> None:
    assert after_failure(5, at_most) == Again(wait_seconds=5.0, may_hasten=True)
    assert not after_close(REPLACED, 0, at_most).may_hasten
    assert not after_close(REVOKED, 0, at_most).may_hasten
    assert not any(after_refusal(status, has_another, 1, at_most).may_hasten for status, has_another in REFUSALS)


REFUSALS = [(503, False), (404, True), (401, True), (401, False)]


@given(st.floats(0, 60), st.floats(0, 1, exclude_max=True))
def test_a_hastened_attempt_is_never_later_than_it_was_due(left: float, drawn: float) -> None:
    wait = hastened(left, lambda: drawn)
    assert wait <= left
    assert wait == left or wait == pytest.approx(ASKED_SECONDS * drawn)
