"""Deadlines: never early, at most two ticks late, once, and not at all when moved (on a loop that only has time)."""

import asyncio
from collections.abc import Callable
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sallyport.net.clock import FARTHEST_SECONDS, NEVER, TICK_SECONDS, Clock, Timed


class FakeTimer:
    def __init__(self, at: float, call: Callable[[], None]) -> None:
        self.at = at
        self.call = call
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class FakeLoop:
    """Time that passes when a test says so; `late` is how long the loop is busy when a timer is due."""

    def __init__(self, started_at: float = 1000.1) -> None:
        self.now = started_at
        self.late = 0.0
        self.timers: list[FakeTimer] = []
        self.errors: list[dict[str, object]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, call: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer(self.now + delay, call)
        self.timers.append(timer)
        return timer

    def call_exception_handler(self, context: dict[str, object]) -> None:
        self.errors.append(context)

    def run_until(self, at: float) -> None:
        while due := [timer for timer in self.timers if not timer.is_cancelled and timer.at + self.late <= at]:
            timer = min(due, key=lambda timer: timer.at)
            self.timers.remove(timer)
            self.now = timer.at + self.late
            timer.call()
        self.now = at


class Watched:
    """What an object of the data path is to the clock."""

    def __init__(self, loop: FakeLoop, then: Callable[[], None] = lambda: None) -> None:
        self.deadline_at = self.filed_at = NEVER
        self.expired_at: list[float] = []
        self._loop = loop
        self._then = then

    def expire(self) -> None:
        self.expired_at.append(self._loop.now)
        self._then()


@pytest.fixture
def loop() -> FakeLoop:
    return FakeLoop()


@pytest.fixture
def clock(loop: FakeLoop) -> Clock:
    return clock_of(loop)


def clock_of(loop: FakeLoop) -> Clock:
    return Clock(cast(asyncio.AbstractEventLoop, loop))


def entries(clock: Clock, timed: Timed) -> int:
    return sum(slot.count(timed) for slot in clock._slots.values())


@pytest.mark.parametrize("after", [0.0, 0.001, 0.1, 0.149, 0.15, 0.25, 0.4, 1.0, 10.0, 3600.0])
def test_a_deadline_is_kept_to_within_two_ticks(loop: FakeLoop, clock: Clock, after: float) -> None:
    timed = Watched(loop)
    deadline_at = loop.now + after
    clock.watch(timed, deadline_at)
    loop.run_until(deadline_at + 2 * TICK_SECONDS)
    assert len(timed.expired_at) == 1
    assert deadline_at <= timed.expired_at[0] <= deadline_at + 2 * TICK_SECONDS
    loop.run_until(deadline_at + 100)
    assert len(timed.expired_at) == 1


def test_a_deadline_in_the_past_is_kept_too(loop: FakeLoop, clock: Clock) -> None:
    timed = Watched(loop)
    clock.watch(timed, loop.now - 100)
    loop.run_until(loop.now + 2 * TICK_SECONDS)
    assert len(timed.expired_at) == 1


def test_a_deadline_that_is_moved_does_not_fire(loop: FakeLoop, clock: Clock) -> None:
    timed = Watched(loop)
    started_at = loop.now
    for second in range(100):
        clock.watch(timed, started_at + second + 10)
        loop.run_until(started_at + second)
    assert timed.expired_at == []
    loop.run_until(started_at + 99 + 10 + 2 * TICK_SECONDS)
    assert len(timed.expired_at) == 1


def test_a_deadline_that_is_brought_forward_fires_then_and_once(loop: FakeLoop, clock: Clock) -> None:
    timed = Watched(loop)
    started_at = loop.now
    clock.watch(timed, started_at + 60)
    clock.watch(timed, started_at + 5)
    loop.run_until(started_at + 100)
    assert len(timed.expired_at) == 1
    assert started_at + 5 <= timed.expired_at[0] <= started_at + 5 + 2 * TICK_SECONDS


@pytest.mark.parametrize("by_clock", [True, False])
def test_a_deadline_that_is_taken_away_does_not_fire(loop: FakeLoop, clock: Clock, by_clock: bool) -> None:
    timed = Watched(loop)
    clock.watch(timed, loop.now + 5)
    if by_clock:
        clock.watch(timed, NEVER)
    else:
        timed.deadline_at = NEVER  # as the hot path does
    loop.run_until(loop.now + 100)
    assert timed.expired_at == []
    clock.watch(timed, loop.now + 5)
    loop.run_until(loop.now + 5 + 2 * TICK_SECONDS)
    assert len(timed.expired_at) == 1


def test_each_tick_tells_how_late_it_came(loop: FakeLoop) -> None:
    lags: list[float] = []
    Clock(cast(asyncio.AbstractEventLoop, loop), observe_lag=lags.append)
    loop.run_until(loop.now + TICK_SECONDS)
    loop.late = 0.75
    loop.run_until(loop.now + TICK_SECONDS + loop.late)
    loop.late = 0.0
    loop.run_until(loop.now + TICK_SECONDS)
    assert lags == pytest.approx([0.0, 0.75, 0.0])


def test_never_is_not_filed(loop: FakeLoop, clock: Clock) -> None:
    timed = Watched(loop)
    clock.watch(timed, NEVER)
    assert entries(clock, timed) == 0


def test_an_expired_object_may_be_watched_again_from_within(loop: FakeLoop, clock: Clock) -> None:
    timed = Watched(loop, then=lambda: clock.watch(timed, loop.now + 1) if len(timed.expired_at) < 3 else None)
    clock.watch(timed, loop.now + 1)
    loop.run_until(loop.now + 10)
    assert len(timed.expired_at) == 3


def test_moving_a_deadline_to_and_fro_does_not_fill_memory(loop: FakeLoop, clock: Clock) -> None:
    # A stream that idles for 75 s, and reads a head within 10, over and over.
    timed = Watched(loop)
    for _ in range(100):
        clock.watch(timed, loop.now + 75)
        loop.run_until(loop.now + 15)
        clock.watch(timed, loop.now + 10)
        loop.run_until(loop.now + 1)
    assert timed.expired_at == []
    # Leftovers of the last 75 s at most, not one of each cycle.
    assert entries(clock, timed) <= 12
    clock.watch(timed, NEVER)
    loop.run_until(loop.now + 200)
    assert clock._slots == {}


def test_one_owner_s_defect_costs_no_other_its_deadline(loop: FakeLoop, clock: Clock) -> None:
    def fail() -> None:
        raise ValueError("a defect")

    others = [Watched(loop), Watched(loop)]
    bad = Watched(loop, then=fail)
    for timed in (others[0], bad, others[1]):
        clock.watch(timed, loop.now + 1)
    loop.run_until(loop.now + 2)
    assert [len(timed.expired_at) for timed in others] == [1, 1]
    assert [str(context["exception"]) for context in loop.errors] == ["a defect"]
    before = clock.now
    loop.run_until(loop.now + 1)
    assert clock.now > before


def test_a_busy_loop_catches_up(loop: FakeLoop, clock: Clock) -> None:
    watched = [Watched(loop) for _ in range(20)]
    started_at = loop.now
    for number, timed in enumerate(watched):
        clock.watch(timed, started_at + number * 0.3)
    loop.late = 30.0
    loop.run_until(started_at + 31)
    assert [len(timed.expired_at) for timed in watched] == [1] * 20


def test_time_is_as_of_the_last_tick(loop: FakeLoop, clock: Clock) -> None:
    assert clock.now == loop.now
    wall = clock.wall
    assert wall > 1_700_000_000
    started_at = loop.now
    loop.run_until(started_at + TICK_SECONDS * 1.5)
    assert clock.now == started_at + TICK_SECONDS
    assert clock.wall >= wall


def test_nothing_expires_after_close(loop: FakeLoop, clock: Clock) -> None:
    timed = Watched(loop)
    clock.watch(timed, loop.now + 1)
    clock.close()
    loop.run_until(loop.now + 10)
    assert timed.expired_at == []


MOVES = st.lists(
    st.tuples(st.floats(0, 3), st.floats(0, 20) | st.just(NEVER) | st.none()),
    max_size=12,
)


@given(MOVES, st.floats(0, 1), st.floats(0, 0.25))
def test_any_moves_end_in_one_expiry_of_the_last_deadline(
    moves: list[tuple[float, float | None]], started_at: float, late: float
) -> None:
    loop = FakeLoop(1000 + started_at)
    loop.late = late
    clock = clock_of(loop)
    timed = Watched(loop)
    bound = 2 * TICK_SECONDS + 2 * late + 1e-6

    def check(deadline_at: float, until: float) -> None:
        """What must have happened by `until` to a deadline that was set and not touched since."""
        if timed.expired_at:
            assert timed.expired_at[0] >= deadline_at
            assert timed.expired_at[0] <= deadline_at + bound
        else:
            assert until <= deadline_at + bound

    for pause, after in moves:
        deadline_at = timed.deadline_at
        if after is not None:
            deadline_at = loop.now + after
            clock.watch(timed, deadline_at)
        elif deadline_at != NEVER:
            timed.deadline_at = deadline_at = NEVER
        timed.expired_at.clear()
        loop.run_until(loop.now + pause)
        check(deadline_at, loop.now)
        assert len(timed.expired_at) <= 1
    deadline_at = timed.deadline_at
    timed.expired_at.clear()
    loop.run_until(loop.now + 30)
    assert len(timed.expired_at) == (deadline_at != NEVER)
    check(deadline_at, loop.now)
    assert sum(map(len, clock._slots.values())) == 0


def test_what_is_closed_is_let_go_of_soon_however_far_its_deadline_was(loop: FakeLoop, clock: Clock) -> None:
    closed = Watched(loop)
    clock.watch(closed, loop.now + 900)
    clock.watch(closed, NEVER)
    loop.run_until(loop.now + FARTHEST_SECONDS + 2 * TICK_SECONDS)
    assert (entries(clock, closed), closed.expired_at) == (0, [])


def test_a_far_deadline_is_filed_again_on_the_way_and_once(loop: FakeLoop, clock: Clock) -> None:
    timed = Watched(loop)
    deadline_at = loop.now + 900
    clock.watch(timed, deadline_at)
    for second in range(0, 890, 7):
        loop.run_until(deadline_at - 900 + second)
        assert entries(clock, timed) == 1
    loop.run_until(deadline_at + 2 * TICK_SECONDS)
    assert len(timed.expired_at) == 1
