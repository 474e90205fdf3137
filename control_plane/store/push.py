"""Queries on the subscribers of pushes, and on how far each of them is."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Select, and_, delete, func, or_, select, update
from sqlalchemy.orm import InstrumentedAttribute

from control_plane.store.database import Transaction
from control_plane.store.models import Instance, PushCursor, PushSubscriber


class Behind(NamedTuple):
    """An instance that a subscriber is behind with: its revision, what was told last, and what was looked at last."""

    instance_id: str
    revision: int
    told: int
    seen: int


async def subscriber(tx: Transaction, subscriber_id: str, *, lock: bool = False) -> PushSubscriber | None:
    """Return a subscriber."""
    return await tx.get(PushSubscriber, subscriber_id, lock=lock)


async def list_subscribers(
    tx: Transaction,
    organization_id: str | None,
    instance_id: str | None,
    tiers: Sequence[str],
    after: str,
    limit: int,
) -> Sequence[PushSubscriber]:
    """Return subscribers of these tiers by id, after one; of an organization and an instance where they are named."""
    query = select(PushSubscriber).where(PushSubscriber.id > after, PushSubscriber.tier.in_(tiers))
    if organization_id is not None:
        query = query.where(PushSubscriber.organization_id == organization_id)
    if instance_id is not None:
        query = query.where(PushSubscriber.instance_id == instance_id)
    return await tx.all(query.order_by(PushSubscriber.id).limit(limit))


async def count_subscribers(tx: Transaction, instance_id: str) -> int:
    """Return how many subscribers an instance has of its own."""
    query = select(func.count()).select_from(PushSubscriber).where(PushSubscriber.instance_id == instance_id)
    return await tx.first(query) or 0


async def forget_instance(tx: Transaction, instance_id: str) -> None:
    """Delete the subscribers that an instance has of its own, before it is deleted itself."""
    own = (PushSubscriber.instance_id == instance_id, PushSubscriber.is_configured.is_(False))
    await tx.run(delete(PushSubscriber).where(*own))


async def configured(tx: Transaction) -> Sequence[PushSubscriber]:
    """Return the subscribers that the configuration of a control plane named, locked."""
    return await tx.all(select(PushSubscriber).where(PushSubscriber.is_configured).with_for_update())


async def begin_at_present(tx: Transaction, subscriber_id: str, instance_id: str | None) -> None:
    """Let a subscriber begin with what comes: at the present revision of one instance, or of all there are."""
    instances = select(Instance.id, Instance.revision)
    if instance_id is not None:
        instances = instances.where(Instance.id == instance_id)
    for found, revision in await tx.rows(instances):
        at = {"told": revision, "seen": revision}
        await tx.add_unless_there(PushCursor, subscriber_id=subscriber_id, instance_id=found, **at)


async def due(tx: Transaction, now: float, limit: int) -> Sequence[str]:
    """Return subscribers that nobody serves, who have waited long enough and are behind somewhere."""
    is_theirs = or_(PushSubscriber.instance_id.is_(None), PushSubscriber.instance_id == Instance.id)
    is_behind = _instances(PushSubscriber.id).where(is_theirs).exists()
    waits = (PushSubscriber.enabled, PushSubscriber.not_before <= int(now), PushSubscriber.lease_until <= int(now))
    query = select(PushSubscriber.id).where(*waits, is_behind)
    return await tx.all(query.order_by(PushSubscriber.not_before, PushSubscriber.id).limit(limit))


async def behind(tx: Transaction, found: PushSubscriber, limit: int) -> Sequence[Behind]:
    """Return where a subscriber is behind."""
    told, seen = func.coalesce(PushCursor.told, 0), func.coalesce(PushCursor.seen, 0)
    query = _instances(found.id).with_only_columns(Instance.id, Instance.revision, told, seen)
    if found.instance_id is not None:
        query = query.where(Instance.id == found.instance_id)
    return [Behind(*row) for row in await tx.rows(query.order_by(Instance.id).limit(limit))]


async def claim(tx: Transaction, subscriber_id: str, owner: str, now: float, until: float) -> bool:
    """Take a subscriber for one owner until an instant; False where another one has it."""
    mine = update(PushSubscriber).where(PushSubscriber.id == subscriber_id, PushSubscriber.lease_until <= int(now))
    return await tx.run(mine.values(owner=owner, lease_until=int(until))) == 1


async def let_go(tx: Transaction, subscriber_id: str, owner: str) -> None:
    """End a claim, unless it is another one's by now."""
    mine = update(PushSubscriber).where(PushSubscriber.id == subscriber_id, PushSubscriber.owner == owner)
    await tx.run(mine.values(owner="", lease_until=0))


async def let_go_of_all(tx: Transaction, owner: str) -> None:
    """End every claim of one owner."""
    await tx.run(update(PushSubscriber).where(PushSubscriber.owner == owner).values(owner="", lease_until=0))


async def put_cursor(tx: Transaction, subscriber_id: str, instance_id: str, *, told: int, seen: int) -> None:
    """Write down how far a subscriber is with an instance."""
    await tx.add_unless_there(PushCursor, subscriber_id=subscriber_id, instance_id=instance_id, told=0, seen=0)
    same = (PushCursor.subscriber_id == subscriber_id, PushCursor.instance_id == instance_id)
    await tx.run(update(PushCursor).where(*same).values(told=told, seen=seen))


def _instances(subscriber_id: str | InstrumentedAttribute[str]) -> Select[str]:
    """Select the instances whose newest change a subscriber has not been looked at for."""
    same = and_(PushCursor.instance_id == Instance.id, PushCursor.subscriber_id == subscriber_id)
    query = select(Instance.id).outerjoin(PushCursor, same)
    return query.where(Instance.revision > func.coalesce(PushCursor.seen, 0))
