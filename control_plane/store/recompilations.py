"""Queries on recompilations: versions of profiles whose sandboxes have to be compiled anew."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, delete, select, update

from control_plane.store.database import Transaction
from control_plane.store.models import Binding, Connection, Recompilation


async def versions_bound_to_connection(tx: Transaction, connection_id: str) -> Sequence[tuple[str, int]]:
    """Return (profile, version) of every version that a connection is bound to, in order."""
    query = select(Binding.profile_id, Binding.version).where(Binding.connection_id == connection_id).distinct()
    return [(row.profile_id, row.version) for row in await tx.rows(query.order_by(Binding.profile_id, Binding.version))]


async def versions_bound_to_target(tx: Transaction, target_key: str) -> Sequence[tuple[str, int]]:
    """Return (profile, version) of every version that a connection of a target is bound to, in order."""
    query = select(Binding.profile_id, Binding.version).join(Connection, Connection.id == Binding.connection_id)
    query = query.where(Connection.target_key == target_key).distinct()
    return [(row.profile_id, row.version) for row in await tx.rows(query.order_by(Binding.profile_id, Binding.version))]


async def request(tx: Transaction, profile_id: str, version: int, now: float) -> None:
    """Ask for a version to be compiled anew. One that is being compiled just now is compiled once more after that."""
    first = {"profile_id": profile_id, "version": version, "requests": 0, "not_before": int(now), "attempts": 0}
    await tx.add_unless_there(Recompilation, **first)
    await tx.run(update(Recompilation).where(*_same(profile_id, version)).values(requests=Recompilation.requests + 1))


async def take(tx: Transaction, now: float, until: float) -> Recompilation | None:
    """Take the one that waits longest, and keep it from others until an instant; None where nothing is due."""
    query = select(Recompilation).where(Recompilation.not_before <= int(now))
    query = query.order_by(Recompilation.not_before, Recompilation.profile_id, Recompilation.version)
    # SQLite has one writer at a time and no such clause.
    taken = await tx.first(query.with_for_update(skip_locked=True))
    if taken is not None:
        taken.not_before = int(until)
        taken.attempts += 1
    return taken


async def finish(tx: Transaction, taken: Recompilation, now: float) -> None:
    """Forget one that was compiled, unless it was asked for again meanwhile: then it is due at once."""
    same = _same(taken.profile_id, taken.version)
    if not await tx.run(delete(Recompilation).where(*same, Recompilation.requests == taken.requests)):
        await tx.run(update(Recompilation).where(*same).values(not_before=int(now), attempts=0))


async def put_off(tx: Transaction, taken: Recompilation, until: float) -> None:
    """Leave one that failed for an instant to come."""
    same = _same(taken.profile_id, taken.version)
    await tx.run(update(Recompilation).where(*same).values(not_before=int(until)))


def _same(profile_id: str, version: int) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return Recompilation.profile_id == profile_id, Recompilation.version == version
