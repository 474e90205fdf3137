"""What comes ahead of its turn: nothing before it is taken after it, nothing behind it is lost by it."""

import itertools

from gateway.core.plan_turns import PlanTurns


def test_what_is_void_before_its_turn_and_while_it_is_worked_on() -> None:
    turns = PlanTurns()
    assert turns.take("sbx_one", 1)
    assert not turns.is_void("sbx_one", 1)
    assert turns.come_ahead("sbx_one", 3)
    assert turns.is_void("sbx_one", 1)  # it was compiled meanwhile
    assert not turns.is_void("sbx_one", 3)
    assert not turns.take("sbx_one", 2)
    assert turns.take("sbx_two", 2)
    assert repr(turns) == "<PlanTurns 2, 1 ahead>"
    assert not turns.take("sbx_one", 3), "it was taken when it came"
    assert turns.take("sbx_one", 4)
    assert repr(turns) == "<PlanTurns 4, 0 ahead>"


def test_what_comes_ahead_after_its_turn_takes_nothing_newer_away() -> None:
    turns = PlanTurns()
    assert turns.take("sbx_one", 1)
    assert turns.take("sbx_one", 2)
    assert not turns.come_ahead("sbx_one", 1)
    assert not turns.come_ahead("sbx_one", 2)
    assert turns.take("sbx_one", 3)


def test_of_two_that_come_ahead_the_newer_one_stands() -> None:
    turns = PlanTurns()
    assert turns.come_ahead("sbx_one", 3)
    assert not turns.come_ahead("sbx_one", 2)
    assert turns.come_ahead("sbx_one", 4)
    assert turns.is_void("sbx_one", 3)
    assert [turns.take("sbx_one", change) for change in (2, 3, 4, 5)] == [False, False, False, True]


def test_every_interleaving_ends_with_the_last_change_and_none_undoes_what_came_ahead() -> None:
    """Changes of one sandbox in turn, the even ones also ahead, at every possible moment."""
    number = 6
    ahead = [change for change in range(1, number + 1) if change % 2 == 0]
    for places in itertools.combinations_with_replacement(range(number + 1), len(ahead)):
        turns, in_force, newest = PlanTurns(), 0, 0

        def come_ahead(at: int) -> None:
            nonlocal in_force, newest
            for change, place in zip(ahead, places, strict=True):  # noqa: B023  called at once
                if place == at and turns.come_ahead("sbx", change):  # noqa: B023
                    in_force = newest = change

        for change in range(1, number + 1):
            come_ahead(change - 1)
            if turns.take("sbx", change):
                in_force = change
            assert in_force >= newest
        come_ahead(number)
        assert in_force == number
        assert turns.take("sbx", number + 1)
        assert repr(turns) == f"<PlanTurns {number + 1}, 0 ahead>"
