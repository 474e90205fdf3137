"""What is served follows what is there and what runs; every difference is one change."""

import asyncio

from control_plane import leases, sandboxes
from control_plane.feed.changes import Change, changes_after
from control_plane.feed.keeping import config_of
from control_plane.feed.tiers import Tier
from control_plane.foundation import Foundation
from control_plane.leases import LEASE_SECONDS
from control_plane.store import feed as rows
from control_plane.store.leases import Held
from tests.support.control_plane import NOW, ORGANIZATION, SANDBOX
from tests.support.feed_stage import FRONT, INSTANCE, FeedStage, runs


async def staged(base: Foundation, *names: str, built_in_url: str | None = None) -> FeedStage:
    stage = FeedStage(base, built_in_url=built_in_url)
    await stage.prepare()
    for name in names:
        await stage.own(name)
    return stage


async def changes(base: Foundation, instance_id: str = INSTANCE) -> list[Change]:
    async with base.database.read() as tx:
        return await changes_after(tx, instance_id, 0, 100)


async def names(stage: FeedStage, instance_id: str = INSTANCE) -> list[str]:
    return [each.name for each in (await stage.keeper.served(instance_id)).entries]


async def hold(base: Foundation, sandbox_id: str, *, tunnel: bool = True, now: float = NOW) -> None:
    """Have a gateway report that it holds this sandbox alone."""
    await leases.renew_lease(
        base.database,
        "gw_1",
        epoch=1,
        admin_url="http://127.0.0.1:9900",
        held={sandbox_id: Held(tunnel, 1, 1)} if sandbox_id else {},
        plan_revisions={},
        now=now,
    )


async def make_sandbox(base: Foundation, sandbox_id: str = SANDBOX, *, organization_id: str = ORGANIZATION) -> None:
    await sandboxes.create_sandbox(
        base.database, organization_id, sandbox_id=sandbox_id, profile_id=None, version=None, now=NOW
    )
    async with base.database.write() as tx:
        await rows.put_plan_servers(tx, sandbox_id, ["files", "shell"])


async def test_what_runs_is_served_and_every_difference_is_a_change(base: Foundation) -> None:
    stage = await staged(base, "search", "mail")
    assert await stage.keeper.served(INSTANCE) == ([], 0, False)
    await stage.report(runs("search"), runs("mail", "stopped"), runs("not-ours"))
    served = await stage.keeper.served(INSTANCE)
    assert ([each.name for each in served.entries], served.revision, served.is_stale) == (["search"], 1, False)
    await stage.report(runs("search", "crash_loop"), runs("mail"))
    served = await stage.keeper.served(INSTANCE)
    assert ([each.name for each in served.entries], served.revision) == (["mail"], 3)
    found = await changes(base)
    assert [(each.revision, each.event, each.meta) for each in found] == [
        (1, "shared_tool_started", {"toolId": "search"}),
        (2, "shared_tool_stopped", {"toolId": "search"}),
        (3, "shared_tool_started", {"toolId": "mail"}),
    ]
    assert found[0].added[0].config == config_of(f"{FRONT}/mcp/search")
    assert (found[1].removed[0].name, found[1].added) == ("search", ())


async def test_nothing_new_is_nothing_told(base: Foundation) -> None:
    stage = await staged(base, "search")
    await stage.report(runs("search"))
    assert await stage.keeper.look() == 1
    await stage.report(runs("search", "restarting"))
    assert await stage.keeper.look() == 0
    await stage.report(runs("search", "starting"))
    assert (await stage.keeper.served(INSTANCE)).revision == 1


async def test_a_server_that_moves_is_told_with_its_new_address(base: Foundation) -> None:
    stage = await staged(base, "search")
    await stage.report(runs("search"))
    await stage.keeper.look()
    await stage.report(runs("search"), front="https://mcp.example.com")
    assert await stage.keeper.look() == 1
    [_, moved] = await changes(base)
    assert (moved.event, moved.removed) == ("shared_tool_started", ())
    assert moved.added[0].config == config_of("https://mcp.example.com/mcp/search")


async def test_of_a_worker_that_is_lost_the_last_set_is_served_as_stale(base: Foundation) -> None:
    stage = await staged(base, "search")
    await stage.report(runs("search"))
    assert not (await stage.keeper.served(INSTANCE)).is_stale
    stage.now += LEASE_SECONDS + 1
    await stage.workers.lose()
    served = await stage.keeper.served(INSTANCE)
    assert ([each.name for each in served.entries], served.revision, served.is_stale) == (["search"], 1, True)
    await stage.report(runs("search"))
    assert not (await stage.keeper.served(INSTANCE)).is_stale
    await stage.workers.withdraw("wrk_1", 1)
    assert await names(stage) == []


async def test_other_instances_are_served_what_is_theirs(base: Foundation) -> None:
    stage = await staged(base, "search")
    await stage.prepare("inst_two", "org_two")
    await stage.own("mail", instance_id="inst_two")
    await stage.report(runs("search"), runs("mail"))
    assert await stage.keeper.look() == 2
    assert (await names(stage), await names(stage, "inst_two")) == (["search"], ["mail"])
    assert await names(stage, "inst_none") == []


async def test_servers_of_running_sandboxes_of_the_organization(base: Foundation) -> None:
    stage = await staged(base)
    await make_sandbox(base)
    await make_sandbox(base, "sbx_theirs", organization_id="org_two")
    await hold(base, SANDBOX)
    assert await names(stage) == []  # no front to call them by
    await stage.report()
    assert await names(stage) == [f"sandbox__{SANDBOX}__files", f"sandbox__{SANDBOX}__shell"]
    await hold(base, SANDBOX, tunnel=False)
    assert await names(stage) == []
    await hold(base, SANDBOX)
    await stage.keeper.look()
    await sandboxes.delete_sandbox(base.database, SANDBOX, NOW)
    assert await names(stage) == []
    assert [each.event for each in await changes(base)] == [
        *("sandbox_started", "sandbox_stopped", "sandbox_started", "sandbox_destroyed")
    ]
    assert {each.meta["sandboxId"] for each in await changes(base)} == {SANDBOX}


async def test_a_sandbox_whose_gateway_is_gone_is_served_no_more(base: Foundation) -> None:
    stage = await staged(base)
    await make_sandbox(base)
    await hold(base, SANDBOX)
    await stage.report()
    assert len(await names(stage)) == 2
    stage.now += LEASE_SECONDS + 1
    await stage.report()
    # A control plane that has just come back has not heard of the gateways yet.
    again = await stage.new_keeper(settle_seconds=LEASE_SECONDS).served(INSTANCE)
    assert (len(again.entries), again.is_stale) == (2, True)
    assert await stage.keeper.served(INSTANCE) == ([], 2, False)


async def test_what_a_worker_runs_for_a_sandbox(base: Foundation) -> None:
    stage = await staged(base)
    await make_sandbox(base)
    await stage.report(
        runs("github", sandbox_id=SANDBOX),
        runs("ops", tier=Tier.ADMIN, sandbox_id=SANDBOX),
        runs("idle", "stopped", sandbox_id=SANDBOX),
        runs("foreign", sandbox_id="sbx_none"),
    )
    served = (await stage.keeper.served(INSTANCE)).entries
    assert [(each.name, each.tier) for each in served] == [
        (f"sandbox__{SANDBOX}__github", Tier.STANDARD),
        (f"sandbox__{SANDBOX}__ops", Tier.ADMIN),
    ]


async def test_the_built_in_server_is_for_admins(base: Foundation) -> None:
    stage = await staged(base, built_in_url="http://127.0.0.1:7500/mcp")
    [entry] = (await stage.keeper.served(INSTANCE)).entries
    assert (entry.name, entry.url, entry.tier) == ("sallyport", "http://127.0.0.1:7500/mcp", Tier.ADMIN)
    [change] = await changes(base)
    assert (change.event, change.seen_by(Tier.STANDARD).added) == ("config_changed", ())


async def test_the_built_in_server_stays_while_a_control_plane_comes_back(base: Foundation) -> None:
    """Before it has its port again it does not know where its server is, and that is no change."""
    before = "http://127.0.0.1:7500/mcp"
    stage = await staged(base, built_in_url=before)
    await stage.keeper.look()
    back = stage.new_keeper()
    back.built_in_url = None
    assert await back.look() == 0
    served = await back.served(INSTANCE)
    assert ([each.url for each in served.entries], served.revision, served.is_stale) == ([before], 1, True)
    back.built_in_url = "http://127.0.0.1:7501/mcp"
    served = await back.served(INSTANCE)
    assert ([each.url for each in served.entries], served.revision) == (["http://127.0.0.1:7501/mcp"], 2)
    assert not served.is_stale
    [_, moved] = await changes(base)
    assert (moved.event, moved.removed) == ("config_changed", ())


async def test_replicas_that_find_the_same_tell_it_once(base: Foundation) -> None:
    stage = await staged(base, "search", "mail")
    await stage.report(runs("search"), runs("mail"))
    async with asyncio.TaskGroup() as group:
        for keeper in [stage.new_keeper() for _ in range(4)]:
            group.create_task(keeper.look())
            group.create_task(keeper.served(INSTANCE))
    assert len(await changes(base)) == 2


async def test_it_is_looked_at_by_itself(base: Foundation) -> None:
    stage = await staged(base, "search")
    async with asyncio.TaskGroup() as group, asyncio.timeout(10):
        looking = group.create_task(stage.keeper.run())
        await stage.report(runs("search"))
        while await stage.revision() == 0:  # noqa: ASYNC110  nothing announces it
            await asyncio.sleep(0.01)
        looking.cancel()
