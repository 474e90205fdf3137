"""Servers of instances: what is wanted stands before a worker is asked, and what it refuses for good is forgotten.

The worker here says what a test has it say; tests/flow/test_client_feed.py has a real one.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from control_plane.feed import servers
from control_plane.feed.servers import Order, ServerDesk
from control_plane.feed.tiers import Tier
from control_plane.foundation import Foundation
from control_plane.refusals import ControlCode, Refused
from control_plane.worker_caller import Placed, WorkerCaller
from control_plane.workers import DeclaredServer
from tests.support.control_plane import NOW
from tests.support.feed_stage import INSTANCE, WORKER, FeedStage, runs
from tests.support.until import until

LINGER_SECONDS = 30
ORDER = Order("time", ["--utc"], {"A": "b"}, {"TOKEN": {"env": "TOKEN"}})


@dataclass
class SaidWorker:
    """A worker by what it was asked, and refuses."""

    asked: list[tuple[str, str]] = field(default_factory=list)
    refuses: dict[str, ControlCode] = field(default_factory=dict)
    declared: list[DeclaredServer] = field(default_factory=list)

    async def install(self, worker_id: str, server: DeclaredServer) -> Placed:
        self.declared.append(server)
        self._ask("install", server.server_id)
        return Placed(worker_id, server.server_id)

    async def start(self, worker_id: str, server_id: str) -> None:
        self._ask("start", server_id)

    async def stop(self, worker_id: str, server_id: str) -> None:
        self._ask("stop", server_id)

    async def remove(self, worker_id: str, server_id: str) -> None:
        self._ask("remove", server_id)

    def _ask(self, what: str, server_id: str) -> None:
        self.asked.append((what, server_id))
        if what in self.refuses:
            raise Refused(self.refuses[what], "the worker's own words")


class Staged:
    """A desk, its stage and its worker."""

    def __init__(self, base: Foundation) -> None:
        self.stage = FeedStage(base)
        self.worker = SaidWorker()
        self.desk = ServerDesk(
            base.database,
            self.stage.workers,
            cast("WorkerCaller", self.worker),
            self.stage.keeper,
            lambda: self.stage.now,
            linger_seconds=LINGER_SECONDS,
        )

    async def share(self, tool_id: str = "search", *, tier: Tier = Tier.STANDARD, is_wanted: bool = True) -> Any:  # noqa: ANN401  JSON
        return await self.desk.share(INSTANCE, tool_id, tier, ORDER, worker_id=None, is_wanted=is_wanted, now=NOW)

    async def declared(self) -> list[DeclaredServer]:
        return list(await self.stage.workers.declared(WORKER))


@pytest.fixture
async def staged(base: Foundation) -> Staged:
    made = Staged(base)
    await made.stage.prepare()
    await made.stage.report()
    return made


async def test_a_shared_tool_is_wanted_first_and_then_brought_about(staged: Staged) -> None:
    made = await staged.share()
    server_id = made["sharedToolId"]
    assert staged.worker.asked == [("install", server_id), ("start", server_id)]
    assert await staged.declared() == staged.worker.declared
    [declared] = staged.worker.declared
    assert declared.to_document() == {
        "serverId": server_id,
        "source": "time",
        "tier": "standard",
        "desired": "running",
        "arguments": ["--utc"],
        "environment": {"A": "b"},
        "secrets": {"TOKEN": {"env": "TOKEN"}},
    }
    assert made == {
        "sharedToolId": server_id,
        "instanceId": INSTANCE,
        "toolId": "search",
        "name": "search",
        "tier": "standard",
        "workerId": WORKER,
        "desired": "running",
        "status": "running",
        "createdAt": int(NOW),
        "updatedAt": int(NOW),
    }
    await staged.stage.report(runs(server_id, "crash_loop"))
    assert (await staged.desk.get(server_id))["status"] == "crash_loop"


async def test_an_installation_is_one_user_s(staged: Staged) -> None:
    made: Any = await staged.desk.install(INSTANCE, "notes", "u@x", ORDER, worker_id=WORKER, now=NOW)
    again: Any = await staged.desk.install(INSTANCE, "notes", "u@x", ORDER, worker_id=None, now=NOW)
    other: Any = await staged.desk.install(INSTANCE, "notes", "v", ORDER, worker_id=None, now=NOW)
    assert made["name"] == f"notes__user_u@x__{made['installationId']}"
    assert (made["tier"], made["userId"]) == ("standard", "u@x")

    async def page(user_id: str | None) -> set[object]:
        return {each["installationId"] for each in await staged.desk.page_installed(INSTANCE, user_id, "", 10)}

    assert await page("u@x") == {made["installationId"], again["installationId"]}
    assert await page("v") == {other["installationId"]}
    assert len(await page(None)) == 3
    assert await page("nobody") == set()
    assert await staged.desk.page_shared(INSTANCE, tuple(Tier), "", 10) == []


@pytest.mark.parametrize(
    "code", [ControlCode.MCP_SERVER_REFUSED, ControlCode.MCP_SERVER_NOT_FOUND, ControlCode.MCP_SERVER_FAILED]
)
async def test_what_a_worker_refuses_for_good_is_not_wanted(staged: Staged, code: ControlCode) -> None:
    staged.worker.refuses["install"] = code
    with pytest.raises(Refused, match="the worker's own words"):
        await staged.share()
    assert await staged.declared() == []


@pytest.mark.parametrize("code", [ControlCode.WORKER_UNAVAILABLE, ControlCode.MCP_SERVER_CONFLICT])
async def test_what_a_worker_has_still_to_do_stays_wanted(staged: Staged, code: ControlCode) -> None:
    staged.worker.refuses["install"] = code
    made = await staged.share()
    assert (made["status"], made["desired"]) == ("pending", "running")
    assert len(await staged.declared()) == 1


async def test_one_that_does_not_start_says_why(staged: Staged) -> None:
    staged.worker.refuses["start"] = ControlCode.MCP_SERVER_FAILED
    made = await staged.share()
    assert (made["status"], made["issue"]) == ("stopped", "the worker's own words")
    with pytest.raises(Refused, match="mcp_server_failed"):
        await staged.desk.start(made["sharedToolId"], NOW)
    del staged.worker.refuses["start"]
    assert "issue" not in await staged.desk.start(made["sharedToolId"], NOW + 1)
    staged.worker.refuses["start"] = ControlCode.WORKER_UNAVAILABLE
    assert "issue" not in await staged.desk.start(made["sharedToolId"], NOW + 1)


async def test_what_is_stopped_is_served_no_more_and_lingers(staged: Staged) -> None:
    made = await staged.share()
    server_id = made["sharedToolId"]
    await staged.stage.report(runs(server_id))
    assert len((await staged.stage.keeper.served(INSTANCE)).entries) == 1
    stopped = await staged.desk.stop(server_id, NOW + 2)
    assert (stopped["desired"], stopped["status"], stopped["updatedAt"]) == ("stopped", "running", int(NOW) + 2)
    assert (await staged.stage.keeper.served(INSTANCE)).entries == []
    assert await staged.stage.revision() == 2
    assert [each.desired for each in await staged.declared()] == ["running"]
    await staged.desk.let_go()
    assert staged.worker.asked[2:] == []
    # A worker that does not hear of it reads it.
    staged.worker.refuses["stop"] = ControlCode.WORKER_UNAVAILABLE
    staged.stage.now = NOW + 2 + LINGER_SECONDS
    await staged.desk.let_go()
    await staged.desk.let_go()
    assert staged.worker.asked[2:] == [("stop", server_id)]
    assert [each.desired for each in await staged.declared()] == ["stopped"]


async def test_one_that_is_wanted_again_while_it_lingers_goes_on(staged: Staged) -> None:
    server_id = (await staged.share())["sharedToolId"]
    await staged.desk.stop(server_id, NOW)
    await staged.desk.start(server_id, NOW)
    staged.stage.now = NOW + LINGER_SECONDS
    await staged.desk.let_go()
    assert ("stop", server_id) not in staged.worker.asked
    assert [each.desired for each in await staged.declared()] == ["running"]
    await staged.desk.stop(server_id, NOW, at_once=True)
    assert staged.worker.asked[-1] == ("stop", server_id)
    await staged.desk.stop(server_id, NOW)  # stopped already
    assert [what for what, _ in staged.worker.asked[-2:]] == ["start", "stop"]


async def test_what_is_removed_is_gone_at_once_for_all_but_those_who_call_it(staged: Staged) -> None:
    server_id = (await staged.share())["sharedToolId"]
    await staged.desk.remove(server_id, NOW)
    with pytest.raises(Refused, match="mcp_server_not_found"):
        await staged.desk.get(server_id)
    with pytest.raises(Refused, match="mcp_server_not_found"):
        await staged.desk.remove(server_id, NOW)
    assert await staged.desk.page_shared(INSTANCE, tuple(Tier), "", 10) == []
    assert [each.desired for each in await staged.declared()] == ["running"]
    again = (await staged.share())["sharedToolId"]  # its name is free
    staged.worker.refuses["remove"] = ControlCode.WORKER_UNAVAILABLE
    staged.stage.now = NOW + LINGER_SECONDS
    assert [each.server_id for each in await staged.declared()] == [again]
    await staged.desk.let_go()
    await staged.desk.let_go()
    assert [each for each in staged.worker.asked if each[0] == "remove"] == [("remove", server_id)]
    await staged.desk.remove(again, NOW, at_once=True)
    assert staged.worker.asked[-1] == ("remove", again)


async def test_what_stands_still_does_not_linger(staged: Staged) -> None:
    server_id = (await staged.share(is_wanted=False))["sharedToolId"]
    await staged.desk.remove(server_id, NOW)
    assert await staged.declared() == []
    await staged.desk.let_go()
    assert staged.worker.asked[-1] == ("remove", server_id)


async def test_by_itself_too(staged: Staged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "LOOK_SECONDS", 0.001)
    server_id = (await staged.share())["sharedToolId"]
    await staged.desk.remove(server_id, NOW - LINGER_SECONDS)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(staged.desk.run())
        await until(lambda: staged.worker.asked[-1] == ("remove", server_id))
        running.cancel()


async def test_one_made_to_stand_still_is_not_started(staged: Staged) -> None:
    made = await staged.share(is_wanted=False)
    assert staged.worker.asked == [("install", made["sharedToolId"])]
    assert (made["desired"], made["status"]) == ("stopped", "stopped")


async def test_names_that_are_ours_or_taken(staged: Staged) -> None:
    for name in ("sallyport", "a__b", "sandbox__sbx_1__files"):
        with pytest.raises(Refused, match="invalid_request"):
            await staged.share(name)
    with pytest.raises(Refused, match="invalid_request"):
        await staged.desk.install(INSTANCE, "notes", "a__b", ORDER, worker_id=None, now=NOW)
    await staged.share()
    with pytest.raises(Refused, match="already_exists"):
        await staged.share()


async def test_limits(staged: Staged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "MAX_SHARED", 1)
    monkeypatch.setattr(servers, "MAX_OF_USER", 1)
    await staged.share()
    with pytest.raises(Refused, match="limit_reached"):
        await staged.share("mail")
    await staged.desk.install(INSTANCE, "notes", "u", ORDER, worker_id=None, now=NOW)
    await staged.desk.install(INSTANCE, "notes", "v", ORDER, worker_id=None, now=NOW)
    with pytest.raises(Refused, match="limit_reached"):
        await staged.desk.install(INSTANCE, "notes", "u", ORDER, worker_id=None, now=NOW)


async def test_without_instance_or_worker_nothing_is_made(base: Foundation) -> None:
    staged = Staged(base)
    with pytest.raises(Refused, match="worker_unavailable"):
        await staged.share()
    await staged.stage.report()
    with pytest.raises(Refused, match="instance_not_found"):
        await staged.share()
    with pytest.raises(Refused, match="instance_not_found"):
        await staged.desk.page_shared(INSTANCE, tuple(Tier), "", 10)
    assert staged.worker.asked == []


async def test_admin_tools_are_not_found_by_whoever_sees_the_standard_tier(staged: Staged) -> None:
    made = await staged.share("ops", tier=Tier.ADMIN)
    await staged.share()
    found = await staged.desk.page_shared(INSTANCE, (Tier.STANDARD,), "", 10)
    assert [each["toolId"] for each in found] == ["search"]
    with pytest.raises(Refused, match="mcp_server_not_found"):
        await staged.desk.get(made["sharedToolId"], (Tier.STANDARD,))
