"""Queries on the watch stream and on revocations."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import delete, func, select

from control_plane.store.database import Transaction
from control_plane.store.models import Event, Revocation


class Range(NamedTuple):
    """The ids that can still be replayed; (0, 0) where there has been no event at all."""

    oldest: int
    newest: int


async def known_range(tx: Transaction) -> Range:
    """Return the oldest and newest id. The newest event is never forgotten, so the range tells where the stream is."""
    [row] = await tx.rows(select(func.coalesce(func.min(Event.id), 0), func.coalesce(func.max(Event.id), 0)))
    return Range(row[0], row[1])


async def events_after(tx: Transaction, event_id: int, limit: int) -> Sequence[Event]:
    """Return events behind an id, in order."""
    return await tx.all(select(Event).where(Event.id > event_id).order_by(Event.id).limit(limit))


async def revocations(tx: Transaction, now: float) -> Sequence[Revocation]:
    """Return what is revoked now."""
    query = select(Revocation).where(Revocation.until > int(now))
    return await tx.all(query.order_by(Revocation.kind, Revocation.id, Revocation.organization_id))


async def is_revoked(
    tx: Transaction, named: Sequence[tuple[str, str]], now: float, organization_id: str = ""
) -> str | None:
    """Return the kind of the first of these (kind, id) that is revoked now, for this organization or for any."""
    for kind, identity in named:
        query = select(Revocation).where(Revocation.kind == kind, Revocation.id == identity, Revocation.until > now)
        if await tx.all(query.where(Revocation.organization_id.in_(("", organization_id)))):
            return kind
    return None


async def put_revocation(
    tx: Transaction, kind: str, identity: str, until: int, organization_id: str | None = None
) -> None:
    """Revoke, or move the end of a revocation; never to an earlier instant."""
    row = await tx.get(Revocation, (kind, identity, organization_id or ""), lock=True)
    if row is None:
        await tx.add(Revocation(kind=kind, id=identity, organization_id=organization_id or "", until=until))
    else:
        row.until = max(row.until, until)


async def forget_events(tx: Transaction, *, keep: int, before: float) -> int:
    """Delete events older than an instant, but never the newest `keep`.

    From the oldest on and without a hole: replicas' clocks differ, and who resumes behind an event that was kept must
    find every later one.
    """
    newest = (await known_range(tx)).newest
    first_kept = await tx.first(select(func.min(Event.id)).where(Event.at >= int(before)))
    last = newest - keep if first_kept is None else min(newest - keep, first_kept - 1)
    return await tx.run(delete(Event).where(Event.id <= last))


async def forget_revocations(tx: Transaction, now: float) -> int:
    """Delete revocations that have run out."""
    return await tx.run(delete(Revocation).where(Revocation.until < int(now)))
