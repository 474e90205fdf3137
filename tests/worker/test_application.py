"""An application's record: states, steps and who is told."""

import asyncio

from worker.application import STEPS, Application, ApplicationState, StepState


def application() -> Application:
    return Application(application_id="app_1", sandbox_id="sbx_1", revision=3, wall=lambda: 1_700_000_000.9)


def test_a_new_one_is_queued_with_every_step_pending() -> None:
    document = application().to_document()
    assert (document["state"], document["sandboxId"], document["revision"]) == ("queued", "sbx_1", 3)
    steps = document["steps"]
    assert isinstance(steps, list)
    assert [(step["name"], step["state"]) for step in steps] == [(name, "pending") for name in STEPS]


def test_a_step_keeps_when_it_first_began_and_counts_its_tries() -> None:
    one = application()
    times = iter((10.0, 20.0, 30.0))
    one.wall = lambda: next(times)
    one.begin("read_plan")
    one.begin("read_plan")
    one.end("read_plan", StepState.DONE)
    step = one.steps["read_plan"]
    assert (step.attempt, step.started_at, step.ended_at, step.state) == (2, 10, 20, StepState.DONE)


def test_an_end_is_final() -> None:
    one = application()
    one.move(ApplicationState.CANCELLED)
    one.move(ApplicationState.APPLIED)
    assert one.state is ApplicationState.CANCELLED


async def test_who_waits_is_told_of_each_change_once() -> None:
    one = application()
    before = one.version
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(one.changed_since(before))
        await asyncio.sleep(0)
        assert not waiting.done()
        one.note("read_plan", "the control plane does not answer")
    seen = one.version
    one.note("read_plan", "the control plane does not answer")
    assert one.version == seen  # nothing changed, nobody is woken


def test_it_can_be_printed() -> None:
    assert repr(application()) == "<Application app_1 of sbx_1 revision 3: queued>"
