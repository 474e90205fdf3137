"""The steps: in order, tried again while that may help, ended with words when it cannot."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from sallyport.plan.codec import seal
from sallyport.setup import parse_setup
from tests.support.plan_documents import plan_document
from tests.support.until import until
from worker.application import Application, StepState
from worker.apply_plan import NotYet, Placed, PlanApplication, StepFailed, StepTimes

TIMES = StepTimes(control=5, gateways=5, tunnel=5, setup=5)
SHORT = StepTimes(control=0.05, gateways=0.05, tunnel=0.05, setup=0.05)


def stored(**members: object) -> bytes:
    return seal(plan_document() | members)


def with_work() -> bytes:
    step = {"op": "file", "path": "/tmp/x", "mode": 0o644, "content": "x", "writeMode": "overwrite"}
    return stored(artifacts=[{"artifactKey": "a", "name": "A", "lifecycle": {"install": [step]}}])


@dataclass
class ScriptedSide:
    """A far side that answers from lists, the last entry over and over, and remembers what it was asked."""

    plan: bytes = field(default_factory=stored)
    placements: list[Sequence[Placed]] = field(default_factory=lambda: [[]])
    statuses: list[Mapping[str, object]] = field(default_factory=list)
    failures: dict[str, list[Exception]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    pushed: list[bytes] = field(default_factory=list)

    def _note(self, name: str) -> None:
        self.asked.append(name)
        if self.failures.get(name):
            raise self.failures[name].pop(0)

    async def stored_plan(self, sandbox_id: str, revision: int) -> bytes:
        self._note("stored_plan")
        return self.plan

    async def put_in_force(self, sandbox_id: str, revision: int) -> None:
        self._note("put_in_force")

    async def placement(self, sandbox_id: str) -> Sequence[Placed]:
        self._note("placement")
        return self.placements.pop(0) if len(self.placements) > 1 else self.placements[0]

    async def push_setup(self, admin_url: str, sandbox_id: str, document: bytes) -> None:
        self._note("push_setup")
        self.pushed.append(document)

    async def setup_status(self, admin_url: str, sandbox_id: str) -> Mapping[str, object]:
        self._note("setup_status")
        return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]


def placed(revision: int | None, *, tunnel: bool = True, gateway: str = "gw_1") -> Placed:
    return Placed(gateway_id=gateway, admin_url="http://127.0.0.1:1", has_tunnel=tunnel, revision=revision)


async def no_pause(_: float) -> None:
    await asyncio.sleep(0)


async def run(side: ScriptedSide, times: StepTimes = TIMES) -> Application:
    document = json.loads(side.plan)
    application = Application(
        application_id="app_1", sandbox_id=document["sandboxId"], revision=document["revision"], wall=lambda: 0.0
    )
    await PlanApplication(application, side, times, sleep=no_pause).run()
    return application


def states(application: Application) -> dict[str, str]:
    return {name: step.state.value for name, step in application.steps.items()}


async def test_a_plan_without_set_up_is_applied_where_nobody_holds_the_sandbox() -> None:
    application = await run(ScriptedSide())
    assert application.state.value == "applied"
    assert states(application) == {
        "read_plan": "done",
        "write_plan": "done",
        "wait_for_gateways": "done",
        "push_setup": "skipped",
        "confirm_setup": "skipped",
    }


async def test_it_waits_for_every_gateway_and_says_for_which() -> None:
    revision = json.loads(stored())["revision"]
    behind = [placed(revision, tunnel=False), placed(None, tunnel=False, gateway="gw_2")]
    done = [placed(revision, tunnel=False), placed(revision, tunnel=False, gateway="gw_2")]
    side = ScriptedSide(placements=[behind, behind, done])
    application = await run(side)
    assert application.state.value == "applied"
    assert application.steps["wait_for_gateways"].attempt == 3


async def test_a_gateway_that_never_applies_fails_the_step_by_its_name() -> None:
    application = await run(ScriptedSide(placements=[[placed(None, gateway="gw_slow")]]), SHORT)
    assert application.state.value == "failed"
    assert application.steps["wait_for_gateways"].state is StepState.FAILED
    assert "gw_slow" in str(application.steps["wait_for_gateways"].issue)
    assert states(application)["push_setup"] == "pending"


async def test_the_set_up_goes_to_the_gateway_with_the_tunnel_and_is_confirmed() -> None:
    plan = with_work()
    revision = json.loads(plan)["revision"]
    side = ScriptedSide(
        plan=plan,
        placements=[[placed(revision)]],
        statuses=[
            {"revision": revision - 1, "state": "applied", "steps": []},
            {"revision": revision, "state": "applying", "steps": []},
            {"revision": revision, "state": "applied", "steps": []},
        ],
    )
    application = await run(side)
    assert application.state.value == "applied"
    assert [parse_setup(document).revision for document in side.pushed] == [revision]


async def test_a_failed_set_up_is_told_in_the_sandbox_s_own_words() -> None:
    plan = with_work()
    revision = json.loads(plan)["revision"]
    steps = [{"name": "artifact a", "state": "failed", "issue": "exit status 1"}]
    side = ScriptedSide(
        plan=plan,
        placements=[[placed(revision)]],
        statuses=[{"revision": revision, "state": "failed", "steps": steps}],
    )
    application = await run(side)
    assert application.state.value == "failed"
    assert application.steps["confirm_setup"].issue == ("the set-up failed in the sandbox: artifact a: exit status 1")


async def test_without_a_tunnel_the_push_says_what_to_start() -> None:
    application = await run(ScriptedSide(plan=with_work()), SHORT)
    assert application.state.value == "failed"
    assert "start sandboxd" in str(application.steps["push_setup"].issue)


@pytest.mark.parametrize("step", ["stored_plan", "put_in_force", "placement"])
async def test_what_passes_is_tried_again(step: str) -> None:
    side = ScriptedSide(failures={step: [NotYet("away"), NotYet("away")]})
    application = await run(side)
    assert application.state.value == "applied"
    assert side.asked.count(step) >= 3


@pytest.mark.parametrize("step", ["stored_plan", "put_in_force"])
async def test_what_cannot_pass_ends_it_at_once(step: str) -> None:
    side = ScriptedSide(failures={step: [StepFailed("404: no such revision")]})
    application = await run(side)
    assert application.state.value == "failed"
    assert side.asked.count(step) == 1


def other_sandbox(plan: bytes) -> bytes:
    return seal(json.loads(plan) | {"sandboxId": "sbx_other"})


def torn(plan: bytes) -> bytes:
    return plan[:-20]


def changed(plan: bytes) -> bytes:
    return plan.replace(b'"organizationId":"', b'"organizationId":"x')


@pytest.mark.parametrize("harm", [other_sandbox, torn, changed])
async def test_a_stored_plan_that_is_not_what_was_asked_for_is_never_written(
    harm: Callable[[bytes], bytes],
) -> None:
    side = ScriptedSide()
    document = json.loads(side.plan)
    side.plan = harm(side.plan)
    application = Application(
        application_id="app_1", sandbox_id=document["sandboxId"], revision=document["revision"], wall=lambda: 0.0
    )
    await PlanApplication(application, side, TIMES, sleep=no_pause).run()
    assert (application.state.value, side.asked) == ("failed", ["stored_plan"])


async def test_a_cancelled_application_stops_where_it_is() -> None:
    side = ScriptedSide(placements=[[placed(None)]])
    document = json.loads(side.plan)
    application = Application(
        application_id="app_1", sandbox_id=document["sandboxId"], revision=document["revision"], wall=lambda: 0.0
    )
    async with asyncio.TaskGroup() as group:
        task = group.create_task(PlanApplication(application, side, TIMES, sleep=no_pause).run())
        await until(lambda: "placement" in side.asked)
        task.cancel()
    assert states(application)["wait_for_gateways"] == "running"
