import pytest

from control_plane.foundation import Foundation
from control_plane.store import feed_changes as rows
from control_plane.store.models import FeedChange
from tests.support.control_plane import NOW
from tests.support.feed_stage import INSTANCE, FeedStage


async def test_revisions_count_on_and_changes_are_kept_by_them(base: Foundation) -> None:
    stage = FeedStage(base)
    await stage.prepare()
    await stage.prepare("inst_two")
    async with base.database.write() as tx:
        assert [await rows.next_revision(tx, INSTANCE) for _ in range(3)] == [1, 2, 3]
        assert await rows.next_revision(tx, "inst_two") == 1
        for instance_id, revision in ((INSTANCE, 1), (INSTANCE, 2), (INSTANCE, 3), ("inst_two", 1)):
            change = FeedChange(
                instance_id=instance_id,
                revision=revision,
                event="config_changed",
                added="[]",
                removed="[]",
                meta="{}",
                at=int(NOW),
            )
            await tx.add(change)
    async with base.database.write() as tx:
        await rows.forget_up_to(tx, INSTANCE, 1)
    async with base.database.read() as tx:
        assert [each.revision for each in await rows.changes_after(tx, INSTANCE, 0, 10)] == [2, 3]
        assert [each.revision for each in await rows.changes_after(tx, INSTANCE, 0, 1)] == [2]
        assert [each.revision for each in await rows.changes_after(tx, "inst_two", 0, 10)] == [1]


async def test_an_instance_that_is_not_there_has_no_revision(base: Foundation) -> None:
    with pytest.raises(ValueError, match="not enough values"):
        async with base.database.write() as tx:
            await rows.next_revision(tx, INSTANCE)
