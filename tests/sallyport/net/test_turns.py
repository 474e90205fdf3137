import asyncio

from hypothesis import given
from hypothesis import strategies as st

from sallyport.net.turns import Gate, Turns


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
