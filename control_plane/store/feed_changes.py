"""Queries on the changes of what instances are served."""

from collections.abc import Sequence

from sqlalchemy import delete, select, update

from control_plane.store.database import Transaction
from control_plane.store.models import FeedChange, Instance


async def next_revision(tx: Transaction, instance_id: str) -> int:
    """Count an instance's revision on and return it; its row is locked from here to the commit."""
    same = Instance.id == instance_id
    await tx.run(update(Instance).where(same).values(revision=Instance.revision + 1))
    [row] = await tx.rows(select(Instance.revision).where(same))
    return row[0]


async def changes_after(tx: Transaction, instance_id: str, revision: int, limit: int) -> Sequence[FeedChange]:
    """Return changes of an instance behind a revision, in order."""
    behind = (FeedChange.instance_id == instance_id, FeedChange.revision > revision)
    return await tx.all(select(FeedChange).where(*behind).order_by(FeedChange.revision).limit(limit))


async def forget_up_to(tx: Transaction, instance_id: str, revision: int) -> None:
    """Delete the changes of an instance up to a revision."""
    old = (FeedChange.instance_id == instance_id, FeedChange.revision <= revision)
    await tx.run(delete(FeedChange).where(*old))
