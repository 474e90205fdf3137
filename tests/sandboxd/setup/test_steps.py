"""The steps of a revision and what a status says of them."""

import json

from hypothesis import given
from hypothesis import strategies as st

from sandboxd.setup.steps import MAX_ISSUE_CHARACTERS, MAX_STATUS_BYTES, Steps, StepState


def test_from_begin_to_end() -> None:
    steps = Steps(3, ["one", "two"])
    assert steps.to_document() == {
        "revision": 3,
        "state": "applying",
        "steps": [{"name": "one", "state": "pending"}, {"name": "two", "state": "pending"}],
    }
    steps.move("one", StepState.DONE)
    steps.move("two", StepState.DONE)
    assert steps.state == "applying"
    steps.is_finished = True
    assert steps.state == "applied"
    assert repr(steps) == "<Steps of revision 3 applied: 2 of 2 done>"


def test_what_fails_later_fails_the_revision() -> None:
    steps = Steps(3, ["one"])
    steps.move("one", StepState.DONE)
    steps.is_finished = True
    steps.fail("one", "x" * 1000)
    assert steps.to_document() == {
        "revision": 3,
        "state": "failed",
        "steps": [{"name": "one", "state": "failed", "issue": "x" * MAX_ISSUE_CHARACTERS}],
    }


def test_a_skipped_step_fails_the_revision() -> None:
    steps = Steps(3, ["one", "two"])
    steps.move("one", StepState.DONE)
    steps.move("two", StepState.SKIPPED, "needs one")
    steps.is_finished = True
    assert (steps.state, steps.state_of("two"), steps.state_of("three")) == ("failed", StepState.SKIPPED, None)


def test_no_steps_are_applied_at_once() -> None:
    steps = Steps(1, [])
    steps.is_finished = True
    assert steps.state == "applied"


@given(st.lists(st.sampled_from(StepState), max_size=400), st.integers(1, 4096))
def test_a_status_fits_a_control_message_and_keeps_failures_longest(states: list[StepState], length: int) -> None:
    steps = Steps(1, [f"{number}".ljust(length, "x") for number in range(len(states))])
    for number, state in enumerate(states):
        steps.move(f"{number}".ljust(length, "x"), state, "\x00" * 300 if state is StepState.FAILED else None)
    document = steps.to_document()
    items = document["steps"]
    assert isinstance(items, list)
    assert len(json.dumps(document)) < MAX_STATUS_BYTES + 100
    left_out = len(states) - len(items)
    shown_good = sum(item["state"] == "done" for item in items)
    if sum(item["state"] == "failed" for item in items) < states.count(StepState.FAILED):
        assert shown_good == 0
    if left_out == 0:
        assert [item["state"] for item in items] == [state.value for state in states]
