"""The steps: in order, tried again while that may help, ended with words when it cannot."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from sallyport.plan.codec import seal
from sallyport.setup import parse_setup
from tests.support.plan_documents import plan_document
from tests.support.until import until
from worker.application import Application, StepState
from worker.apply_plan import JsonObject, NotYet, Placed, PlanApplication, StepFailed, StepTimes

TIMES = StepTimes(control=5, integrations=5, gateways=5, tunnel=5, setup=5)
SHORT = StepTimes(control=0.05, integrations=0.05, gateways=0.05, tunnel=0.05, setup=0.05)


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


class NotOurs(Exception):
    """The application belongs to somebody else now."""


@dataclass
class MemoryJournal:
    """What of an application outlives a run of it; `lose_after` writes it is no longer ours."""

    ended: dict[str, JsonObject] = field(default_factory=dict)
    steps: Sequence[JsonObject] = ()
    lose_after: int | None = None

    async def once(self, name: str, step: Callable[[], Awaitable[JsonObject]]) -> JsonObject:
        if name not in self.ended:
            self.ended[name] = json.loads(json.dumps(await step()))
        return self.ended[name]

    async def read(self) -> Sequence[JsonObject]:
        return self.steps

    async def write(self, steps: Sequence[JsonObject]) -> None:
        if self.lose_after is not None:
            if self.lose_after == 0:
                raise NotOurs
            self.lose_after -= 1
        self.steps = json.loads(json.dumps(steps))


@dataclass
class Servers:
    """Integration servers, of which `ours` are."""

    ours: int = 0
    provided: list[Sequence[Mapping[str, object]]] = field(default_factory=list)

    async def provide(self, sandbox_id: str, revision: int, servers: Sequence[Mapping[str, object]]) -> int:
        self.provided.append(servers)
        return self.ours


def application_of(side: ScriptedSide) -> Application:
    document = json.loads(side.plan)
    return Application(application_id="app_1", sandbox_id=document["sandboxId"], revision=document["revision"])


def plan_application(
    application: Application,
    side: ScriptedSide,
    times: StepTimes = TIMES,
    journal: MemoryJournal | None = None,
    servers: Servers | None = None,
) -> PlanApplication:
    return PlanApplication(
        application, journal or MemoryJournal(), side, servers or Servers(), times, wall=lambda: 0.0, sleep=no_pause
    )


async def run(
    side: ScriptedSide,
    times: StepTimes = TIMES,
    journal: MemoryJournal | None = None,
    servers: Servers | None = None,
) -> Application:
    application = application_of(side)
    application.state = await plan_application(application, side, times, journal, servers).run()
    return application


def states(application: Application) -> dict[str, str]:
    return {name: step.state.value for name, step in application.steps.items()}


async def test_a_plan_without_set_up_is_applied_where_nobody_holds_the_sandbox() -> None:
    application = await run(ScriptedSide())
    assert application.state.value == "applied"
    assert states(application) == {
        "read_plan": "done",
        "start_integrations": "skipped",
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
    application = application_of(side)
    side.plan = harm(side.plan)
    state = await plan_application(application, side).run()
    assert (state.value, side.asked) == ("failed", ["stored_plan"])


async def test_a_cancelled_application_stops_where_it_is() -> None:
    side = ScriptedSide(placements=[[placed(None)]])
    application = application_of(side)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(plan_application(application, side).run())
        await until(lambda: "placement" in side.asked)
        task.cancel()
    assert states(application)["wait_for_gateways"] == "running"


async def test_the_integration_servers_of_a_plan_are_asked_for_before_it_is_in_force() -> None:
    server = {
        "serverId": "mcp_1",
        "bindingId": "bnd_one",
        "name": "files",
        "transport": {"type": "streamable-http", "url": "http://127.0.0.1:9/mcp"},
    }
    side, servers = ScriptedSide(plan=stored(mcpServers=[server]), placements=[[placed(1)]]), Servers(ours=1)
    side.statuses = [{"revision": 1, "state": "applied", "steps": []}]
    application = await run(side, servers=servers)
    assert (application.state.value, states(application)["start_integrations"]) == ("applied", "done")
    assert [[each["serverId"] for each in provided] for provided in servers.provided] == [["mcp_1"]]


# What outlives a run -----------------------------------------------------------------------------


async def test_what_was_done_is_not_done_again_after_a_crash_and_its_record_is_as_it_was() -> None:
    side, journal = ScriptedSide(placements=[[placed(None)]]), MemoryJournal()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(run(side, journal=journal))
        await until(lambda: "placement" in side.asked)
        task.cancel()
    tries = {str(step["name"]): step["attempt"] for step in journal.steps}["wait_for_gateways"]
    side.placements = [[placed(1, tunnel=False)]]
    application = await run(side, journal=journal)
    assert (application.state.value, side.asked.count("put_in_force")) == ("applied", 1)
    assert application.steps["write_plan"].attempt == 1
    assert application.steps["wait_for_gateways"].attempt - 1 == tries


async def test_a_plan_that_is_another_one_after_a_crash_is_not_gone_on_with() -> None:
    side, journal = ScriptedSide(), MemoryJournal()
    await run(side, journal=journal)
    del journal.ended["push_setup"]
    side.plan = with_work()
    application = await run(side, journal=journal)
    assert application.state.value == "failed"
    assert "another one than when this application began" in str(application.steps["push_setup"].issue)


@pytest.mark.parametrize("writes", range(0, 12))
async def test_who_lost_an_application_asks_nothing_more_for_it(writes: int) -> None:
    plan = with_work()
    side = ScriptedSide(
        plan=plan, placements=[[placed(1)]], statuses=[{"revision": 1, "state": "applied", "steps": []}]
    )
    journal = MemoryJournal(lose_after=writes)
    with pytest.raises(NotOurs):
        await run(side, journal=journal)
    # Two writes to a step: before its try and after its end. What was asked is that of the steps that were begun.
    begun = ("stored_plan", None, "put_in_force", "placement", "push_setup", "setup_status")[: (writes + 1) // 2]
    assert {each for each in side.asked if each != "placement"} == set(begun) - {None, "placement"}
