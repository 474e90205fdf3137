"""How old what is known is, and what follows from that."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.freshness import NO_SNAPSHOT, STALE, TOO_OLD, Freshness, State
from sallyport.net.clock import Clock
from tests.support.passing_time import let_time_pass

MAX_STALE = 600.0


class Aged:
    """A freshness and what it did."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.calls: list[str] = []
        self.freshness = Freshness(
            clock,
            MAX_STALE,
            on_expired=lambda: self.calls.append("expired"),
            on_usable=lambda: self.calls.append("usable"),
        )

    @property
    def words(self) -> tuple[list[str], list[str]]:
        return self.freshness.obstacles(), self.freshness.notes()


@pytest.fixture
async def aged() -> AsyncIterator[Aged]:
    clock = Clock(asyncio.get_running_loop())
    yield Aged(clock)
    clock.close()


async def test_from_nothing_to_fresh(aged: Aged) -> None:
    assert aged.words == ([NO_SNAPSHOT], [])
    aged.freshness.lost()  # nothing is lost that was not there
    assert aged.freshness.state is State.UNKNOWN
    aged.freshness.heard()
    aged.freshness.heard()
    assert aged.words == ([], [])
    assert aged.calls == ["usable"]
    assert aged.freshness.stale_seconds == 0


async def test_stale_serves_and_says_so_until_it_is_too_old(aged: Aged) -> None:
    aged.freshness.heard()
    aged.freshness.lost()
    assert aged.words == ([], [STALE])
    let_time_pass(aged.clock, MAX_STALE - 10)
    assert aged.words == ([], [STALE])
    assert aged.freshness.stale_seconds == pytest.approx(MAX_STALE - 10, abs=1)
    let_time_pass(aged.clock, 11)
    assert aged.words == ([TOO_OLD], [])
    assert aged.calls == ["usable", "expired"]
    assert aged.freshness.stale_seconds > MAX_STALE
    aged.freshness.heard()
    assert aged.words == ([], [])
    assert aged.calls == ["usable", "expired", "usable"]


async def test_a_word_in_time_puts_the_end_off(aged: Aged) -> None:
    aged.freshness.heard()
    for _ in range(3):
        aged.freshness.lost()
        let_time_pass(aged.clock, MAX_STALE - 10)
        aged.freshness.heard()
    let_time_pass(aged.clock, MAX_STALE * 2)  # heard, and not lost since
    assert aged.freshness.state is State.FRESH


async def test_age_counts_from_the_last_word_and_not_from_the_loss(aged: Aged) -> None:
    aged.freshness.heard()
    let_time_pass(aged.clock, 100)
    aged.freshness.lost()
    assert aged.freshness.stale_seconds == pytest.approx(100, abs=1)
    let_time_pass(aged.clock, MAX_STALE - 99)
    assert aged.freshness.state is State.EXPIRED


async def test_what_was_restored_is_as_old_as_it_is(aged: Aged) -> None:
    assert aged.freshness.restored(MAX_STALE - 10)
    assert aged.words == ([], [STALE])
    let_time_pass(aged.clock, 11)
    assert aged.words == ([TOO_OLD], [])


async def test_what_is_too_old_is_not_restored(aged: Aged) -> None:
    assert not aged.freshness.restored(MAX_STALE)
    assert aged.words == ([NO_SNAPSHOT], [])
    assert aged.calls == []
