"""Inputs are compared by what they hold: a compilation of equal ones need not be done again."""

from dataclasses import replace

from tests.support.made_integrations import bound, inputs_of, made_definition


def test_inputs_are_equal_by_what_they_hold() -> None:
    one, other = (inputs_of([made_definition()], bound("bnd_1", config={"host": "a.example"})) for _ in range(2))
    assert one == other
    assert one != replace(other, bindings=[bound("bnd_1", config={"host": "b.example"})])
    assert one != replace(other, targets={})
