"""Large reads, so many in a turn of the loop; here the test is the loop."""

from collections.abc import Callable

from sallyport.net.bulk_turns import READ_SECONDS, TURN_READS, BulkTurns


class Loop:
    """Calls in its next turn what it is given in this one."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def call_soon(self, call: Callable[[], None]) -> None:
        self.calls.append(call)

    def turn(self) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            call()


class Reader:
    def __init__(self) -> None:
        self.holds: set[str] = set()

    def hold_reading(self, reason: str) -> None:
        self.holds.add(reason)

    def resume_reading(self, reason: str) -> None:
        self.holds.discard(reason)


def test_one_that_brings_much_waits_for_the_next_turn_when_this_one_is_full() -> None:
    loop, reader = Loop(), Reader()
    turns = BulkTurns(loop.call_soon)
    for _ in range(TURN_READS - 1):
        turns.took(reader, 0.0)
    assert not reader.holds
    turns.took(reader, 0.0)
    assert reader.holds == {"bulk"}
    assert repr(turns) == "<BulkTurns: 1 wait>"
    loop.turn()
    assert not reader.holds
    assert not loop.calls


def test_a_turn_that_was_not_full_leaves_nothing_for_the_next() -> None:
    loop, reader = Loop(), Reader()
    turns = BulkTurns(loop.call_soon)
    for _ in range(5):
        turns.took(reader, 0.0)
        loop.turn()
    assert not reader.holds
    assert not loop.calls


def test_many_go_on_in_the_order_in_which_they_were_held() -> None:
    loop, readers = Loop(), [Reader() for _ in range(3 * TURN_READS)]
    turns = BulkTurns(loop.call_soon)
    for reader in readers:
        turns.took(reader, 0.0)
    held = readers[TURN_READS - 1 :]
    assert [bool(reader.holds) for reader in readers] == [False] * (TURN_READS - 1) + [True] * len(held)
    for turn in (1, 2, 3):
        loop.turn()
        assert [bool(reader.holds) for reader in held] == [at >= turn * TURN_READS for at in range(len(held))]
    assert not loop.calls


def test_who_goes_on_and_brings_more_is_behind_the_others() -> None:
    loop, first, second = Loop(), Reader(), Reader()
    turns = BulkTurns(loop.call_soon)
    for _ in range(TURN_READS):
        turns.took(first, 0.0)
    turns.took(second, 0.0)
    loop.turn()
    assert not first.holds | second.holds
    for _ in range(TURN_READS):
        turns.took(second, 0.0)
    turns.took(first, 0.0)
    assert first.holds == second.holds == {"bulk"}
    loop.turn()
    assert not first.holds | second.holds


def test_one_that_takes_as_long_as_a_whole_turn_has_it_alone() -> None:
    loop, readers = Loop(), [Reader() for _ in range(3)]
    turns = BulkTurns(loop.call_soon)
    for reader in readers:
        turns.took(reader, TURN_READS * READ_SECONDS)
    assert all(reader.holds for reader in readers)
    for turn in (1, 2, 3):
        loop.turn()
        assert [bool(reader.holds) for reader in readers] == [at >= turn for at in range(3)]
    assert not loop.calls
