"""Integration servers that plans name: provided before a plan is in force, let go after another one is."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sallyport.plan.codec import seal
from tests.support.control_sessions import control_session
from tests.support.fake_control import answer, refusal
from tests.support.integration_stage import IntegrationStage, integration_stage, order
from tests.support.plan_documents import plan_document
from worker.apply_plan import NotYet, StepFailed
from worker.integrations import catalog
from worker.integrations.sources import manifest_of
from worker.plan_servers import PlanServers, SandboxGone, plan_in_force, servers_at
from worker.reconciliation import CannotTell, Reconciliation

FRONT = "https://front.test:443"
SANDBOX = "sbx_one"


def named(*server_ids: str, at: str = "https://front.test/mcp/") -> list[dict[str, object]]:
    """Return a plan's mcpServers that name servers at a front, and one in the sandbox."""
    inside = {"type": "stdio", "command": "tool", "args": []}
    transports = [inside, *({"type": "streamable-http", "url": f"{at}{each}"} for each in server_ids)]
    return [
        {"serverId": f"srv{number}", "bindingId": "bnd_one", "name": f"name{number}", "transport": transport}
        for number, transport in enumerate(transports)
    ]


class Providing:
    """Servers that plans want, and the plans in force by sandbox; None: the sandbox is gone."""

    def __init__(self, stage: IntegrationStage) -> None:
        self.stage = stage
        self.plans: dict[str, bytes | None] = {}
        self.front: str | None = FRONT
        self.plan_servers = PlanServers(stage.integrations, self.plan, lambda: self.front, has_front=True)
        self.reconciliation = Reconciliation([self.plan_servers], every_seconds=1, wall=lambda: 0)

    async def plan(self, sandbox_id: str) -> bytes | None:
        plan = self.plans.get(sandbox_id, b"")
        if plan is None:
            raise SandboxGone(sandbox_id)
        return plan or None

    async def provide(self, revision: int, *server_ids: str, sandbox_id: str = SANDBOX) -> int:
        return await self.plan_servers.provide(sandbox_id, revision, named(*server_ids))

    def put_in_force(self, revision: int, *server_ids: str, sandbox_id: str = SANDBOX) -> None:
        document = plan_document(sandboxId=sandbox_id, revision=revision, mcpServers=named(*server_ids))
        self.plans[sandbox_id] = seal(document)

    async def round(self) -> dict[str, str]:
        """Go a round, and return what is there then."""
        await self.reconciliation.go_round(self.plan_servers)
        return self.servers()

    def servers(self) -> dict[str, str]:
        return {each.id: each.status.value for each in self.stage.integrations.list()}


@pytest.fixture
async def providing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Providing]:
    known = {name: manifest_of(order(name=name)) for name in ("time", "git")}
    monkeypatch.setattr("worker.plan_servers.CATALOG", {**catalog.CATALOG, **known})
    async with integration_stage(tmp_path) as stage:
        yield Providing(stage)


def test_a_server_is_named_by_its_address_at_the_front() -> None:
    ours = ("https://front.test/mcp/a", "https://front.test:443/mcp/b-1.x")
    others = (
        *("http://front.test/mcp/c", "https://other.test/mcp/d", "https://front.test:444/mcp/e"),
        *("https://front.test/mcp/", "https://front.test/mcp/f/g", "https://front.test/other/h"),
    )
    assert servers_at(FRONT, [*ours, *others]) == {"a", "b-1.x"}
    assert servers_at(None, ours) == frozenset()


async def test_what_a_plan_names_runs_before_it_is_in_force_and_the_same_again_changes_nothing(
    providing: Providing,
) -> None:
    own = await providing.stage.install(name="own")
    assert await providing.provide(1, "time", "own") == 2
    assert providing.servers() == {"own": "running", "time": "running"}
    pids = [each.pid for each in providing.stage.integrations.list()]
    assert await providing.provide(1, "time", "own") == 2
    assert [each.pid for each in providing.stage.integrations.list()] == pids
    assert (own.stored.owner, own.stored.wanted_by) == ("operator", {SANDBOX: 1})
    assert await providing.provide(1) == 0
    # Until that revision is in force nothing is let go: it is being applied.
    assert await providing.round() == {"own": "running", "time": "running"}


async def test_what_a_newer_plan_has_no_more_goes_when_that_is_in_force(providing: Providing) -> None:
    await providing.stage.install(name="own")
    await providing.provide(1, "time", "git", "own")
    providing.put_in_force(1, "time", "git", "own")
    await providing.provide(2, "git")
    assert set(await providing.round()) == {"time", "git", "own"}
    providing.put_in_force(2, "git")
    # What an operator had installed stays, for whoever else calls it.
    assert await providing.round() == {"git": "running", "own": "running"}
    assert providing.stage.integrations.find("own").stored.wanted_by == {}
    providing.plans[SANDBOX] = None
    assert await providing.round() == {"own": "running"}


async def test_one_that_several_sandboxes_want_goes_with_the_last(providing: Providing) -> None:
    for sandbox_id in (SANDBOX, "sbx_two"):
        await providing.provide(1, "time", sandbox_id=sandbox_id)
        providing.put_in_force(1, "time", sandbox_id=sandbox_id)
    providing.plans[SANDBOX] = None
    assert await providing.round() == {"time": "running"}
    providing.put_in_force(2, sandbox_id="sbx_two")
    assert await providing.round() == {}


async def test_an_application_that_failed_takes_nothing_from_the_plan_in_force(providing: Providing) -> None:
    await providing.provide(1, "time")
    providing.put_in_force(1, "time")
    await providing.provide(2, "git")
    assert await providing.round() == {"git": "running", "time": "running"}
    # The next one names neither.
    providing.put_in_force(3)
    assert await providing.round() == {}


async def test_a_plan_that_another_worker_applied_is_found(providing: Providing) -> None:
    await providing.provide(1, "time")
    providing.put_in_force(2, "time", "git")
    assert await providing.round() == {"git": "running", "time": "running"}
    assert providing.stage.integrations.find("git").stored.wanted_by == {SANDBOX: 2}


async def test_an_older_revision_is_refused(providing: Providing) -> None:
    await providing.provide(2, "time")
    with pytest.raises(StepFailed, match="for revision 2 already"):
        await providing.provide(1, "git")
    assert providing.servers() == {"time": "running"}


async def test_what_cannot_be_provided(providing: Providing) -> None:
    with pytest.raises(StepFailed, match="no integration unknown, here or in the catalog"):
        await providing.provide(1, "unknown")
    await providing.stage.install("crash-now", name="faulty")
    with pytest.raises(NotYet, match="faulty does not run"):
        await providing.provide(1, "faulty")
    providing.front = None
    with pytest.raises(NotYet, match="does not listen yet"):
        await providing.provide(1, "time")


async def test_a_plan_that_cannot_be_read_changes_nothing(providing: Providing) -> None:
    await providing.provide(1, "time")
    providing.plans[SANDBOX] = b"{"
    assert await providing.round() == {"time": "running"}
    issue = providing.reconciliation.rounds["plan_servers"].issue
    assert issue == f"the plan of {SANDBOX} cannot be read"


async def test_the_plan_in_force_is_asked_of_the_control_plane(tmp_path: Path) -> None:
    path = f"/internal/sandboxes/{SANDBOX}/plan"
    async with control_session(tmp_path) as (fake, session, _):
        assert await plan_in_force(session, SANDBOX) is None
        fake.misbehave(path, answer(200, json.dumps({}).encode()), refusal(404, "sandbox_not_found"), answer(500))
        assert await plan_in_force(session, SANDBOX) == b"{}"
        with pytest.raises(SandboxGone):
            await plan_in_force(session, SANDBOX)
        with pytest.raises(CannotTell):
            await plan_in_force(session, SANDBOX)
