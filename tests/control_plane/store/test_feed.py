"""Queries on what the feed is made of; what they are for is tested with control_plane/feed."""

from control_plane import leases, sandboxes
from control_plane.feed import keys
from control_plane.feed.tiers import TIERS
from control_plane.foundation import Foundation
from control_plane.store import feed as rows
from control_plane.store.leases import Held
from tests.support.control_plane import NOW, ORGANIZATION
from tests.support.feed_stage import INSTANCE, FeedStage


async def test_revoked_keys_are_forgotten_in_time(base: Foundation) -> None:
    stage = FeedStage(base)
    await stage.prepare()
    ids = [str((await stage.key())["clientKeyId"]) for _ in range(3)]
    for key_id, at in zip(ids[:2], (NOW, NOW + 10), strict=True):
        await keys.revoke(base.database, key_id, TIERS, at)
    async with base.database.write() as tx:
        assert await rows.count_keys(tx, INSTANCE) == 1
        assert await rows.forget_revoked(tx, NOW + 5) == 1
        left = await rows.list_keys(tx, INSTANCE, TIERS, "", 10)
    assert {each.id for each in left} == set(ids[1:])


async def test_servers_by_worker_name_and_user(base: Foundation) -> None:
    stage = FeedStage(base)
    await stage.prepare()
    await stage.prepare("inst_two")
    for name, user_id, worker_id in (("a", None, "wrk_1"), ("b", "u", "wrk_1"), ("c", "v", "wrk_2")):
        await stage.own(name, user_id=user_id, worker_id=worker_id)
    await stage.own("d", instance_id="inst_two")
    async with base.database.write() as tx:
        assert [each.id for each in await rows.servers_of(tx, INSTANCE)] == ["a", "b", "c"]
        assert [each.id for each in await rows.servers_at(tx, "wrk_1")] == ["a", "b", "d"]
        assert [each.id for each in await rows.list_shared(tx, INSTANCE, TIERS, "", 10)] == ["a"]
        assert [each.id for each in await rows.list_installed(tx, INSTANCE, None, "", 10)] == ["b", "c"]
        assert [each.id for each in await rows.list_installed(tx, INSTANCE, None, "b", 10)] == ["c"]
        assert await rows.servers_named(tx, "inst_two", "a", "wrk_1") == []
        assert await rows.servers_named(tx, INSTANCE, "a", "wrk_2") == []
        assert await rows.leaving(tx, NOW) == []
        assert [await rows.count_servers(tx, INSTANCE, user) for user in (None, "u", "w")] == [1, 1, 0]
        await rows.note_issue(tx, "a", "it says so", NOW + 1)
        await rows.note_issue(tx, "a", "it says so", NOW + 2)
        await rows.forget_server(tx, "b")
    async with base.database.read() as tx:
        [found] = await rows.servers_named(tx, INSTANCE, "a", "wrk_1")
        assert (found.issue, found.updated_at) == ("it says so", int(NOW) + 1)
        assert await rows.server(tx, "b") is None


async def test_servers_of_a_plan_are_replaced_and_go_with_their_sandbox(base: Foundation) -> None:
    await sandboxes.create_sandbox(
        base.database, ORGANIZATION, sandbox_id="sbx_1", profile_id=None, version=None, now=NOW
    )
    for gateway_id in ("gw_1", "gw_2"):
        held = {"sbx_1": Held(True, 1, 1)}
        await leases.renew_lease(
            base.database, gateway_id, epoch=1, admin_url="http://g", held=held, plan_revisions={}, now=NOW
        )
    for names in (["a", "b"], ["b", "c"]):
        async with base.database.write() as tx:
            await rows.put_plan_servers(tx, "sbx_1", names)
    async with base.database.read() as tx:
        for now, is_held in ((NOW, True), (NOW + leases.LEASE_SECONDS + 1, False)):
            found = await rows.sandbox_servers(tx, now)
            assert sorted(found) == [(ORGANIZATION, "sbx_1", name, is_held) for name in ("b", "c")]
    await sandboxes.delete_sandbox(base.database, "sbx_1", NOW)
    async with base.database.read() as tx:
        assert await rows.sandbox_servers(tx, NOW) == []
        assert await rows.organizations_of(tx, ["sbx_1"]) == {}


async def test_entries_are_replaced(base: Foundation) -> None:
    await FeedStage(base).prepare()
    old = rows.EntryRow("a", "http://f/a", "standard", None, "shared", "a")
    new = old._replace(url="http://g/a")
    async with base.database.write() as tx:
        await rows.replace_entries(tx, INSTANCE, [], [old, old._replace(name="b")])
        await rows.replace_entries(tx, INSTANCE, ["a", "b"], [new])
        assert await rows.entries_of(tx, INSTANCE) == [new]
    async with base.database.read() as tx:
        assert await rows.entry(tx, INSTANCE, "a") == new
        assert await rows.entry(tx, INSTANCE, "b") is None
