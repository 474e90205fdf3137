"""An application's record: states, steps, and what is kept of it."""

from worker.application import STEPS, Application, ApplicationState, StepState


def application() -> Application:
    return Application(application_id="app_1", sandbox_id="sbx_1", revision=3)


def test_a_new_one_is_queued_with_every_step_pending() -> None:
    document = application().to_document()
    assert (document["state"], document["sandboxId"], document["revision"]) == ("queued", "sbx_1", 3)
    steps = document["steps"]
    assert isinstance(steps, list)
    assert [(step["name"], step["state"]) for step in steps] == [(name, "pending") for name in STEPS]


def test_a_step_keeps_when_it_first_began_and_counts_its_tries() -> None:
    one = application()
    one.begin("read_plan", 10.9)
    one.begin("read_plan", 20.9)
    one.end("read_plan", 30.9, StepState.DONE)
    step = one.steps["read_plan"]
    assert (step.attempt, step.started_at, step.ended_at, step.state) == (2, 10, 30, StepState.DONE)


def test_what_is_kept_of_its_steps_is_all_there_is_to_them() -> None:
    one, other = application(), application()
    one.begin("read_plan", 10)
    one.note("read_plan", "the control plane does not answer")
    other.restore(one.step_documents())
    assert other.to_document() == one.to_document()
    other.begin("read_plan", 99)
    assert (other.steps["read_plan"].attempt, other.steps["read_plan"].started_at) == (2, 10)


def test_the_last_four_states_are_ends() -> None:
    one, ended = application(), []
    for state in ApplicationState:
        one.state = state
        ended.append(one.has_ended)
    assert ended == [False, False, True, True, True, True]


def test_it_can_be_printed() -> None:
    assert repr(application()) == "<Application app_1 of sbx_1 revision 3: queued>"
