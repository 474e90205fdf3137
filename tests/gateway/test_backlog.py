"""What slow peers of one sandbox have waiting: counted once, held up together, let go in turn."""

import gc
from collections.abc import Callable, Sequence

from gateway.backlog import Backlog, Backlogs


class Reader:
    """Reads, or is held."""

    def __init__(self) -> None:
        self.holds: set[str] = set()

    def hold_reading(self, reason: str) -> None:
        self.holds.add(reason)

    def resume_reading(self, reason: str) -> None:
        self.holds.discard(reason)


class Turns:
    """The loop's next turn, when the test says so."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def call_soon(self, call: Callable[[], None]) -> None:
        self.calls.append(call)

    def pass_one(self) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            call()


def backlog(limit: int, readers: list[Reader], taken: Sequence[Reader] = ()) -> tuple[Backlog, Turns]:
    """What was taken so far of those in `taken`."""
    turns = Turns()
    return Backlog(limit, lambda everyone: [*readers, *taken] if everyone else readers, turns.call_soon), turns


def held(readers: list[Reader]) -> int:
    return sum(bool(reader.holds) for reader in readers)


def test_what_is_counted_anew_counts_once() -> None:
    counted, _ = backlog(100, [])
    counted.hold("one", 40)
    counted.hold("one", 60)
    counted.hold("two", 30)
    assert (counted.held, counted.is_over) == (90, False)
    counted.release("one")
    counted.release("one")
    counted.release("nobody")
    assert (counted.held, repr(counted)) == (30, "<Backlog: 30 bytes, 0 readers wait>")


def test_over_the_limit_every_reader_waits_and_those_that_begin_too() -> None:
    readers = [Reader(), Reader()]
    counted, turns = backlog(100, readers)
    counted.hold("one", 100)
    assert held(readers) == 0
    counted.hold("two", 1)
    assert held(readers) == 2
    late = Reader()
    counted.wait(late)
    assert repr(counted) == "<Backlog over: 101 bytes, 3 readers wait>"
    counted.hold("two", 200)  # what was written meanwhile
    counted.release("two")
    assert repr(counted) == "<Backlog over: 100 bytes, 3 readers wait>", "there is no room yet"
    counted.hold("one", 87)
    counted.release("nobody")
    assert repr(counted) == "<Backlog: 87 bytes, 3 readers wait>"
    assert held(readers) == 2
    for _ in range(4):
        turns.pass_one()
    assert held([*readers, late]) == 0
    assert turns.calls == []


def test_readers_go_on_one_by_one_and_stop_when_there_is_no_room_again() -> None:
    readers = [Reader() for _ in range(3)]
    counted, turns = backlog(100, readers)
    counted.hold("one", 101)
    counted.release("one")
    assert len(turns.calls) == 1
    turns.pass_one()
    assert (held(readers), held(readers[:1])) == (2, 0)
    counted.hold("two", 101)
    assert held(readers) == 3
    turns.pass_one()
    assert (held(readers), turns.calls) == (3, [])
    counted.release("two")
    # Who has waited for longest is first: the other has had a turn.
    for left in (readers[0], readers[2]), (readers[0],), ():
        turns.pass_one()
        assert [reader for reader in readers if reader.holds] == list(left)
    turns.pass_one()
    assert turns.calls == []


def test_one_that_was_released_meanwhile_is_held_again() -> None:
    """A link goes back to the pool with no reason to be held, and waits in line still."""
    reader = Reader()
    counted, _ = backlog(100, [])
    counted.hold("one", 101)
    counted.wait(reader)
    reader.holds.clear()
    counted.wait(reader)
    assert reader.holds
    assert repr(counted) == "<Backlog over: 101 bytes, 1 readers wait>"


def test_each_sandbox_has_one_as_long_as_a_stream_knows_it() -> None:
    asked: list[str] = []

    def readers(sandbox_id: str, everyone: bool) -> list[Reader]:
        asked.append(sandbox_id)
        return []

    backlogs = Backlogs(10, readers, Turns().call_soon)
    one, two = backlogs.of("sbx_one"), backlogs.of("sbx_two")
    assert backlogs.of("sbx_one") is one
    two.hold("x", 11)
    assert asked == ["sbx_two"]
    assert (one.is_over, repr(backlogs)) == (False, "<Backlogs of 2 sandboxes>")
    del one
    gc.collect()
    assert repr(backlogs) == "<Backlogs of 1 sandboxes>"
    backlogs.nobody.hold("x", 1 << 40)
    assert not backlogs.nobody.is_over


def test_who_takes_its_bytes_is_read_for_before_all_that_wait() -> None:
    """Else a program that reads one stream after the other would wait for those that it has not come to."""
    readers = [Reader(), Reader()]
    counted, turns = backlog(100, readers)
    counted.hold("others", 95)
    counted.hold("one", 31)
    assert (held(readers), counted.is_full, counted.held) == (2, True, 126)
    counted.read_on(readers[0])
    assert held(readers) == 2, "it is too much altogether"
    counted.release("one")
    counted.read_on(readers[0])
    assert (held(readers), held(readers[:1])) == (1, 0)
    counted.read_on(readers[0])
    turns.pass_one()
    assert (counted.is_over, held(readers), turns.calls) == (True, 1, [])


def test_whose_bytes_have_all_been_taken_goes_on_until_it_is_full() -> None:
    new, taken = [Reader(), Reader()], [Reader(), Reader()]
    counted, turns = backlog(100, new, taken)
    counted.hold("one", 101)
    assert (held(new), held(taken)) == (2, 0)
    counted.hold("two", 25)
    assert (held(taken), repr(counted)) == (len(taken), "<Backlog full: 126 bytes, 4 readers wait>")
    counted.release("two")
    assert counted.is_full
    counted.hold("one", 100)
    counted.release("two")
    assert (counted.is_full, counted.is_over) == (False, True)
    turns.pass_one()
    assert (held(new), held(taken)) == (2, 1)
    turns.pass_one()
    assert (held(new), held(taken)) == (2, 0)
    turns.pass_one()
    assert turns.calls == []
