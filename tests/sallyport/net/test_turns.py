from hypothesis import given
from hypothesis import strategies as st

from sallyport.net.turns import Turns


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
