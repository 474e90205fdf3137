import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sallyport.net.turns import Gate, LoopTurns, Turns


def test_owners_take_turns_whatever_one_has_put_in_before() -> None:
    turns: Turns[str, int] = Turns(at_once=10, each=10)
    for number in range(4):
        turns.enter("greedy", number)
    turns.enter("late", 9)
    assert [turns.take() for _ in range(6)] == [
        ("greedy", 0),
        ("late", 9),
        ("greedy", 1),
        ("greedy", 2),
        ("greedy", 3),
        None,
    ]


def test_one_owner_leaves_room_for_others() -> None:
    turns: Turns[str, int] = Turns(at_once=3, each=2)
    for number in range(4):
        turns.enter("greedy", number)
    assert [turns.take(), turns.take(), turns.take()] == [("greedy", 0), ("greedy", 1), None]
    turns.enter("late", 9)
    assert turns.take() == ("late", 9)
    turns.enter("third", 9)
    assert turns.take() is None
    turns.done("late")
    assert (turns.take(), turns.take()) == (("third", 9), None)
    assert repr(turns) == "<Turns 3 under way, 2 waiting, of 1 owners>"
    turns.done("greedy")
    assert turns.take() == ("greedy", 2)


def test_who_leaves_has_no_turn_and_holds_up_nobody() -> None:
    turns: Turns[str | None, int] = Turns(at_once=10, each=10)
    for owner, number in (("a", 1), ("a", 2), (None, 3), ("a", 4)):
        turns.enter(owner, number)
    for owner, number in (("a", 1), (None, 3), (None, 3), ("b", 9), ("a", 9)):
        turns.leave(owner, number)
    assert repr(turns) == "<Turns 0 under way, 2 waiting, of 1 owners>"
    assert [turns.take() for _ in range(3)] == [("a", 2), ("a", 4), None]
    turns.enter(None, 5)
    assert turns.take() == (None, 5)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=200))
def test_never_more_than_is_allowed_and_everything_in_the_end(steps: list[tuple[str, bool]]) -> None:
    turns: Turns[str, int] = Turns(at_once=4, each=2)
    under_way: list[str] = []
    entered = taken = 0
    for owner, ends in steps:
        if ends and under_way:
            turns.done(under_way.pop(0))
        else:
            turns.enter(owner, entered)
            entered += 1
        while (turn := turns.take()) is not None:
            under_way.append(turn[0])
            taken += 1
        assert len(under_way) <= 4
        assert all(under_way.count(each) <= 2 for each in "abc")
    while under_way or turns.waiting:
        turns.done(under_way.pop(0))
        while (turn := turns.take()) is not None:
            under_way.append(turn[0])
            taken += 1
    assert taken == entered


# --- LoopTurns --------------------------------------------------------------------------------------------------------


class Line:
    """A line, whose turns of the loop come one at a time."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.called: list[Callable[[], None]] = []
        self.now = 0.0
        self.turns: LoopTurns[str | None] = LoopTurns(self.called.append, seconds, lambda: self.now)
        self.done: list[str] = []

    def enter(self, name: str, times: int = 1) -> "Worker":
        worker = Worker(self, name, times)
        self.turns.enter(worker.owner, worker)
        return worker

    def turn(self) -> None:
        (call,) = self.called
        self.called.clear()
        call()


class Worker:
    """Who wants so many turns; its owner is its first letter, and that of "-" is nobody."""

    def __init__(self, line: Line, name: str, times: int) -> None:
        self._line = line
        self._name = name
        self._times = times
        self.owner = None if name[0] == "-" else name[0]

    def take_turn(self) -> None:
        self._line.done.append(self._name)
        self._line.now += 1.0
        self._times -= 1
        if self._times < 0:
            raise RuntimeError(self._name)
        if self._times:
            self._line.turns.enter(self.owner, self)


def test_one_goes_on_in_a_turn_of_the_loop_and_owners_take_turns() -> None:
    line = Line()
    for name in ("a1", "a2", "a3"):
        line.enter(name, 2)
    line.enter("b1", 2)
    line.enter("-1")
    assert line.done == []
    seen = []
    while line.called:
        line.turn()
        seen.append(len(line.done))
    assert seen == [1, 2, 3, 4, 5, 6, 7, 8, 9, 9]
    assert line.done == ["a1", "b1", "-1", "a2", "b1", "a3", "a1", "a2", "a3"]
    line.enter("a4")
    line.turn()
    assert line.done[-1] == "a4"


def test_others_go_on_in_a_turn_of_the_loop_until_its_time_is_used() -> None:
    line = Line(seconds=2.5)
    for name in ("a1", "a2", "a3"):
        line.enter(name)
    line.enter("b1", 3)
    line.turn()
    assert line.done == ["a1", "b1", "a2"]
    line.turn()
    assert line.done == ["a1", "b1", "a2", "b1", "a3", "b1"]
    line.turn()
    assert (line.called, line.turns.waiting) == ([], 0)


def test_who_claims_a_turn_of_the_loop_goes_on_at_once_where_nobody_has_or_waits() -> None:
    line = Line()
    assert [line.turns.claim() for _ in range(3)] == [True, False, False]
    line.turn()
    assert line.turns.claim()
    line.enter("a1")
    line.turn()
    assert (line.done, line.turns.claim()) == (["a1"], False)
    line.turn()
    assert line.turns.claim()
    line.turn()
    assert line.called == []


def test_who_enters_again_keeps_its_place() -> None:
    line = Line()
    first = line.enter("a1")
    line.enter("a2")
    line.turns.enter("a", first)
    line.turn()
    line.turn()
    assert (line.done, line.turns.waiting) == (["a1", "a2"], 0)


def test_who_left_the_line_does_not_go_on() -> None:
    line = Line()
    gone = line.enter("a1")
    line.enter("a2")
    line.turns.leave("a", gone)
    assert repr(line.turns) == "<LoopTurns: 1 wait>"
    line.turn()
    assert (line.done, line.turns.waiting) == (["a2"], 0)


def test_a_fault_of_one_stops_nobody_behind_it() -> None:
    line = Line()
    line.enter("a1", 0)
    line.enter("a2")
    with pytest.raises(RuntimeError):
        line.turn()
    line.turn()
    assert line.done == ["a1", "a2"]


# --- Gate -------------------------------------------------------------------------------------------------------------


class Passing:
    """Coroutines that pass a gate and stay in it until they are let go."""

    def __init__(self, *, at_once: int, each: int) -> None:
        self.gate: Gate[str] = Gate(at_once=at_once, each=each)
        self.inside: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._leave = {name: asyncio.Event() for name in ("a1", "a2", "a3", "b1", "b2")}

    async def enter(self, *names: str) -> None:
        for name in names:
            self.tasks[name] = asyncio.get_running_loop().create_task(self._pass(name), name=name)
        await asyncio.sleep(0)

    async def leave(self, name: str) -> None:
        self._leave[name].set()
        await self.tasks[name]
        await asyncio.sleep(0)

    async def _pass(self, name: str) -> None:
        async with self.gate.turn(name[0]):
            self.inside.append(name)
            await self._leave[name].wait()
        self.inside.remove(name)


async def test_a_gate_lets_in_by_turns() -> None:
    passing = Passing(at_once=2, each=1)
    await passing.enter("a1", "a2", "a3", "b1", "b2")
    assert passing.inside == ["a1", "b1"]
    await passing.leave("a1")
    assert passing.inside == ["b1", "a2"]
    for name in ("b1", "a2", "b2", "a3"):
        await passing.leave(name)
    assert passing.inside == []
    assert repr(passing.gate) == "<Gate: <Turns 0 under way, 0 waiting, of 0 owners>>"


async def test_who_is_cancelled_at_a_gate_keeps_no_turn() -> None:
    passing = Passing(at_once=1, each=1)
    await passing.enter("a1", "a2", "a3", "b1")
    passing.tasks["a2"].cancel()  # while it waits
    await asyncio.sleep(0)
    await passing.leave("a1")
    assert passing.inside == ["b1"]
    passing.tasks["b1"].cancel()  # while it is inside
    await asyncio.wait([passing.tasks["b1"]])
    await asyncio.sleep(0)
    assert passing.inside == ["b1", "a3"]
    # When its turn has come and it does not know yet.
    await passing.enter("b2")
    passing._leave["a3"].set()
    await passing.tasks["a3"]
    passing.tasks["b2"].cancel()
    await asyncio.wait([passing.tasks["b2"]])
    assert repr(passing.gate) == "<Gate: <Turns 0 under way, 0 waiting, of 0 owners>>"
