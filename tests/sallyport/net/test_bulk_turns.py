"""What sockets bring, so much of it in a turn of the loop; here the test is the loop, and the clock."""

from collections.abc import Callable

import pytest

from gateway.build import codec_kind
from sallyport.net import bulk_turns
from sallyport.net.bulk_turns import BULK_BYTES, READ_SECONDS, TIMED_BYTES, TURN_READS, BulkTurns


class Loop:
    """Calls in its next turn what it is given in this one. Its clock moves as it is told."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []
        self.seconds = 0.0

    def call_soon(self, call: Callable[[], None]) -> None:
        self.calls.append(call)

    def turn(self) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            call()

    def idle(self) -> None:
        """Have turns until nothing is left to do."""
        for _ in range(1000):
            if not self.calls:
                return
            self.turn()
        raise AssertionError("it never ends")


class Reader:
    def __init__(self, loop: Loop, owner: object = None, *, dear: float = 0.0) -> None:
        self._loop = loop
        self._owner = self if owner is None else owner
        self.dear = dear
        self.is_held = False
        self.is_gone = False
        self.late = 0
        self.taken: list[bytes] = []

    @property
    def turn_owner(self) -> object:
        return self._owner

    def await_turn(self, late: int) -> bool:
        self.is_held = not self.is_gone
        self.late = late
        return self.is_held

    def go_on(self, late: bytes) -> None:
        if late:
            self.take(late)
        self.is_held = False

    def take(self, data: bytes) -> None:
        self.taken.append(data)
        self._loop.seconds += self.dear


def held(*readers: Reader) -> list[bool]:
    return [reader.is_held for reader in readers]


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    loop = Loop()
    if codec_kind() != "pure":
        pytest.skip("compiled code has its clock in it")
    monkeypatch.setattr(bulk_turns, "read_clock", lambda: loop.seconds)
    return loop


BULK = bytes(BULK_BYTES)
DEAR = bytes(TIMED_BYTES)
TURN_SECONDS = TURN_READS * READ_SECONDS


def test_one_that_brings_much_waits_for_the_next_turn_when_this_one_is_full(loop: Loop) -> None:
    reader = Reader(loop)
    turns = BulkTurns(loop.call_soon)
    for _ in range(TURN_READS - 1):
        turns.take(reader, BULK, reader.take)
    assert held(reader) == [False]
    turns.take(reader, BULK, reader.take)
    assert held(reader) == [True]
    assert len(reader.taken) == TURN_READS
    assert (turns.waiting, repr(turns)) == (1, "<BulkTurns: 1 wait>")
    loop.turn()
    assert held(reader) == [False]
    assert not loop.calls


def test_a_turn_that_was_not_full_leaves_nothing_for_the_next(loop: Loop) -> None:
    reader = Reader(loop)
    turns = BulkTurns(loop.call_soon)
    for _ in range(5):
        turns.took(reader)
        loop.turn()
    assert not reader.is_held
    assert not loop.calls


def test_what_is_short_and_quick_is_no_read(loop: Loop) -> None:
    reader = Reader(loop)
    turns = BulkTurns(loop.call_soon)
    for _ in range(10 * TURN_READS):
        turns.take(reader, DEAR, reader.take)
    assert not reader.is_held
    assert turns.reads == 0


def test_many_go_on_in_the_order_in_which_they_were_held(loop: Loop) -> None:
    readers = [Reader(loop) for _ in range(2 * TURN_READS)]
    turns = BulkTurns(loop.call_soon)
    for reader in readers:
        turns.take(reader, BULK, reader.take)
    late = readers[TURN_READS - 1 :]
    assert held(*readers) == [False] * (TURN_READS - 1) + [True] * len(late)
    for turn in (1, 2):
        loop.turn()
        assert held(*late) == [at >= turn * TURN_READS for at in range(len(late))]
    assert not loop.calls
    assert all(reader.taken == [BULK] for reader in readers)


def test_t6_a_turn_that_is_spent_takes_nothing_more_and_nothing_is_lost(loop: Loop) -> None:
    """However many sockets were ready in it, and however dear each of them is."""
    readers = [Reader(loop, dear=TURN_SECONDS) for _ in range(100)]
    turns = BulkTurns(loop.call_soon)
    for reader in readers:
        turns.take(reader, DEAR, reader.take)
    assert loop.seconds == pytest.approx(2 * TURN_SECONDS)
    assert [turns.late_bytes(reader) for reader in readers] == [0] * 2 + [TIMED_BYTES] * 98
    while loop.calls:
        before = loop.seconds
        loop.turn()
        assert loop.seconds - before <= 2 * TURN_SECONDS
    assert all(reader.taken == [DEAR] and not reader.is_held for reader in readers)
    assert turns.waiting == 0


def test_t6_what_comes_behind_what_is_late_waits_behind_it(loop: Loop) -> None:
    first, second = Reader(loop, dear=2 * TURN_SECONDS), Reader(loop)
    turns = BulkTurns(loop.call_soon)
    turns.take(first, DEAR, first.take)
    turns.take(second, b"a" * TIMED_BYTES, second.take)
    turns.take(second, b"b" * TIMED_BYTES, second.take)
    assert (second.taken, second.late) == ([], 2 * TIMED_BYTES)
    loop.idle()
    assert second.taken == [b"a" * TIMED_BYTES + b"b" * TIMED_BYTES]


def test_t6_owners_take_turns(loop: Loop) -> None:
    """Whoever has a thousand that wait holds up another by one of them."""
    many = [Reader(loop, "sbx_many", dear=TURN_SECONDS) for _ in range(100)]
    one = Reader(loop, "sbx_one")
    turns = BulkTurns(loop.call_soon)
    for reader in (*many, one):
        turns.take(reader, DEAR, reader.take)
    loop.turn()
    loop.turn()
    assert one.taken == [DEAR]
    assert sum(map(turns.late_bytes, many)) >= 95 * TIMED_BYTES


def test_who_goes_on_and_brings_more_is_behind_the_others(loop: Loop) -> None:
    first, second = Reader(loop), Reader(loop)
    turns = BulkTurns(loop.call_soon)
    for _ in range(TURN_READS):
        turns.took(first)
    turns.took(second)
    loop.turn()
    assert held(first, second) == [False, False]
    for _ in range(TURN_READS):
        turns.took(second)
    turns.took(first)
    assert held(first, second) == [True, True]
    loop.turn()
    assert held(first, second) == [False, False]


def test_one_that_takes_as_long_as_a_whole_turn_has_it_alone(loop: Loop) -> None:
    readers = [Reader(loop, dear=TURN_SECONDS) for _ in range(2)]
    turns = BulkTurns(loop.call_soon)
    for reader in readers:
        turns.take(reader, DEAR, reader.take)
    assert all(reader.is_held for reader in readers)
    for turn in (1, 2):
        loop.turn()
        assert held(*readers) == [at >= turn for at in range(2)]
    loop.idle()


def test_what_is_noted_within_a_read_is_part_of_it(loop: Loop) -> None:
    outer, inner = Reader(loop), Reader(loop, dear=3 * READ_SECONDS)
    turns = BulkTurns(loop.call_soon)
    assert turns.time(lambda data: turns.take(inner, data, inner.take), DEAR) == pytest.approx(3)
    assert turns.reads == pytest.approx(3)
    assert not outer.is_held


def test_one_whose_socket_is_another_s_does_not_wait(loop: Loop) -> None:
    reader = Reader(loop, dear=TURN_SECONDS)
    reader.is_gone = True
    turns = BulkTurns(loop.call_soon)
    turns.take(reader, DEAR, reader.take)
    assert turns.waiting == 0


def test_t6_who_is_gone_waits_no_more_and_keeps_nothing(loop: Loop) -> None:
    gone, left = Reader(loop, dear=2 * TURN_SECONDS), Reader(loop)
    turns = BulkTurns(loop.call_soon)
    turns.take(gone, DEAR, gone.take)
    for reader in (gone, left):
        turns.take(reader, DEAR, reader.take)
    turns.leave(gone)
    assert (turns.waiting, turns.late_bytes(gone)) == (1, 0)
    turns.leave(gone)
    loop.idle()
    assert (gone.taken, left.taken) == ([DEAR], [DEAR])
