"""Changes as an outbox: counted without holes, in the transaction that makes them, bounded."""

import asyncio

import pytest

from control_plane.feed import changes
from control_plane.feed.changes import Change, Entry, changes_after, record
from control_plane.feed.tiers import Tier
from control_plane.foundation import Foundation
from control_plane.store.events import events_after
from tests.support.control_plane import NOW
from tests.support.feed_stage import INSTANCE, FeedStage

OPEN = Entry("search", {"type": "streamable", "url": "http://f/mcp/search"}, Tier.STANDARD, None)
SECRET = Entry("operator-only", {"type": "streamable", "url": "http://f/mcp/operator-only"}, Tier.ADMIN, None)
MINE = Entry("n__user_u__i", {"type": "streamable", "url": "http://f/mcp/n"}, Tier.STANDARD, "u")


async def stage_of(base: Foundation) -> FeedStage:
    stage = FeedStage(base)
    await stage.prepare()
    return stage


async def write(base: Foundation, event: str, *added: Entry, removed: tuple[Entry, ...] = ()) -> int:
    async with base.database.write() as tx:
        return await record(tx, INSTANCE, event, added=added, removed=removed, meta={"toolId": "x"}, now=NOW)


async def test_a_change_is_kept_as_it_was_recorded(base: Foundation) -> None:
    stage = await stage_of(base)
    assert await write(base, "shared_tool_started", OPEN, SECRET, removed=(MINE,)) == 1
    assert await write(base, "shared_tool_stopped", removed=(OPEN,)) == 2
    async with base.database.read() as tx:
        found = await changes_after(tx, INSTANCE, 0, 10)
        assert found[0] == Change(1, "shared_tool_started", (OPEN, SECRET), (MINE,), {"toolId": "x"}, int(NOW))
        assert [each.revision for each in await changes_after(tx, INSTANCE, 1, 10)] == [2]
        assert await changes_after(tx, INSTANCE, 2, 10) == []
        assert [(each.kind, each.body) for each in await events_after(tx, 0, 10)] == [
            ("feed_changed", '{"instanceId":"inst_one","revision":1}'),
            ("feed_changed", '{"instanceId":"inst_one","revision":2}'),
        ]
    assert await stage.revision() == 2


async def _write_and_fail(base: Foundation) -> None:
    async with base.database.write() as tx:
        await record(tx, INSTANCE, "config_changed", added=(), removed=(), meta={}, now=NOW)
        raise RuntimeError


async def test_without_its_transaction_there_is_no_change(base: Foundation) -> None:
    stage = await stage_of(base)
    with pytest.raises(RuntimeError):
        await _write_and_fail(base)
    assert await stage.revision() == 0
    async with base.database.read() as tx:
        assert await changes_after(tx, INSTANCE, 0, 10) == []


async def test_many_at_once_have_each_a_revision_of_their_own(base: Foundation) -> None:
    await stage_of(base)
    async with asyncio.TaskGroup() as group:
        writing = [group.create_task(write(base, "shared_tool_started", OPEN)) for _ in range(8)]
    assert sorted(each.result() for each in writing) == list(range(1, 9))


async def test_the_oldest_go(base: Foundation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "KEPT", 3)
    await stage_of(base)
    for _ in range(5):
        await write(base, "shared_tool_started", OPEN)
    async with base.database.read() as tx:
        assert [each.revision for each in await changes_after(tx, INSTANCE, 0, 10)] == [3, 4, 5]
        assert [each.revision for each in await changes_after(tx, INSTANCE, 3, 1)] == [4]


def test_what_a_tier_may_see_of_a_change() -> None:
    change = Change(1, "shared_tool_started", (OPEN, SECRET), (SECRET, MINE), {"toolId": "operator-only"}, 0)
    assert change.seen_by(Tier.ADMIN) == change
    seen = change.seen_by(Tier.STANDARD)
    assert (seen.added, seen.removed, seen.meta) == ((OPEN,), (MINE,), {})
    assert "operator" not in repr(seen)
    open_change = Change(2, "shared_tool_started", (OPEN,), (), {"toolId": "search"}, 0)
    assert open_change.seen_by(Tier.STANDARD) == open_change
