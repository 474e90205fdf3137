"""Removals ahead of their turn: nothing before one is taken after it, nothing behind one is lost by it."""

import itertools

from gateway.core.plan_turns import PlanTurns


def test_what_is_void_before_its_turn_and_while_it_is_worked_on() -> None:
    turns = PlanTurns()
    assert turns.take("sbx_one", 1)
    assert not turns.is_void("sbx_one", 1)
    assert turns.removed_ahead("sbx_one", 3)
    assert turns.is_void("sbx_one", 1)  # it was compiled meanwhile
    assert not turns.take("sbx_one", 2)
    assert turns.take("sbx_two", 2)
    assert repr(turns) == "<PlanTurns 2, 1 removed ahead>"
    assert turns.take("sbx_one", 3)
    assert turns.take("sbx_one", 4)
    assert repr(turns) == "<PlanTurns 4, 0 removed ahead>"


def test_a_removal_whose_turn_has_been_takes_no_newer_plan_away() -> None:
    turns = PlanTurns()
    assert turns.take("sbx_one", 1)
    assert turns.take("sbx_one", 2)
    assert not turns.removed_ahead("sbx_one", 1)
    assert not turns.removed_ahead("sbx_one", 2)
    assert turns.take("sbx_one", 3)


def test_every_interleaving_ends_with_the_last_change_and_none_undoes_a_removal() -> None:
    """Plans (odd) and removals (even) of one sandbox in turn, the removals ahead at every possible moment."""
    number = 6
    removals = [change for change in range(1, number + 1) if change % 2 == 0]
    for places in itertools.combinations_with_replacement(range(number + 1), len(removals)):
        turns, in_force, removed = PlanTurns(), 0, 0

        def come_ahead(at: int) -> None:
            nonlocal in_force, removed
            for removal, place in zip(removals, places, strict=True):  # noqa: B023  called at once
                if place == at and turns.removed_ahead("sbx", removal):  # noqa: B023
                    in_force, removed = 0, removal

        for change in range(1, number + 1):
            come_ahead(change - 1)
            if turns.take("sbx", change):
                in_force = 0 if change in removals else change
            assert in_force == 0 or in_force > removed
        come_ahead(number)
        assert in_force == 0
        assert turns.take("sbx", number + 1)
        assert repr(turns) == f"<PlanTurns {number + 1}, 0 removed ahead>"
