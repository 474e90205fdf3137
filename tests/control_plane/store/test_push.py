"""Queries on the subscribers of pushes, on both databases."""

from control_plane.foundation import Foundation
from control_plane.store import push as rows
from control_plane.store.models import Instance, PushCursor
from tests.support.control_plane import NOW
from tests.support.push_stage import INSTANCE, change, entry, make_instance, push_stage
from tests.support.subscriber import Subscriber


async def test_who_is_due(base: Foundation, subscriber: Subscriber) -> None:
    await make_instance(base)
    async with push_stage(base, subscriber) as stage:
        first, _ = await stage.subscribe("/first")
        second, _ = await stage.subscribe("/second")
    database = base.database
    async with database.read() as tx:
        assert await rows.due(tx, NOW, 9) == []
    await change(base, "shared_tool_started", added=[entry("a")])
    async with database.read() as tx:
        assert list(await rows.due(tx, NOW, 9)) == sorted([first, second])
        assert len(await rows.due(tx, NOW, 1)) == 1
    async with database.write() as tx:
        assert await rows.claim(tx, first, "one", NOW, NOW + 30)
        assert not await rows.claim(tx, first, "two", NOW + 29, NOW + 60)
        await rows.let_go(tx, first, "two")
        row = await rows.subscriber(tx, second, lock=True)
        assert row is not None
        row.not_before = int(NOW) + 5
    async with database.read() as tx:
        assert await rows.due(tx, NOW + 4, 9) == []
        assert list(await rows.due(tx, NOW + 5, 9)) == [second]
        # The holder of the lease is dead.
        assert sorted(await rows.due(tx, NOW + 30, 9)) == sorted([first, second])
    async with database.write() as tx:
        await rows.let_go(tx, first, "one")
        await rows.put_cursor(tx, first, INSTANCE, told=1, seen=1)
    async with database.read() as tx:
        assert list(await rows.due(tx, NOW + 5, 9)) == [second]
        row = await rows.subscriber(tx, second)
        assert row is not None
        assert list(await rows.behind(tx, row, 9)) == [rows.Behind(INSTANCE, 1, 0, 0)]


async def test_an_instance_takes_its_cursors_along(base: Foundation, subscriber: Subscriber) -> None:
    await make_instance(base)
    async with push_stage(base, subscriber) as stage:
        subscriber_id, _ = await stage.subscribe()
    async with base.database.write() as tx:
        assert await tx.get(PushCursor, (subscriber_id, INSTANCE)) is not None
        assert await rows.count_subscribers(tx, INSTANCE) == 1
        instance = await tx.get(Instance, INSTANCE)
        assert instance is not None
        await rows.forget_instance(tx, INSTANCE)
        await tx.delete(instance)
    async with base.database.read() as tx:
        assert await tx.get(PushCursor, (subscriber_id, INSTANCE)) is None
        assert await rows.count_subscribers(tx, INSTANCE) == 0
