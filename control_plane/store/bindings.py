"""Queries on bindings, on what they lead to, and on the sandboxes that were made of their version."""

from collections.abc import Iterable, Sequence

from sqlalchemy import delete, select

from control_plane.store.database import Transaction
from control_plane.store.models import Binding, Connection, Credential, Sandbox, Target, TargetSecret


async def bindings(tx: Transaction, profile_id: str, version: int) -> Sequence[Binding]:
    """Return the bindings of a version in the order they were written in."""
    query = select(Binding).where(Binding.profile_id == profile_id, Binding.version == version)
    return await tx.all(query.order_by(Binding.position))


async def taken(tx: Transaction, ids: Iterable[str], profile_id: str, version: int) -> Sequence[str]:
    """Return those of these ids that bindings of other versions have."""
    query = select(Binding.id).where(Binding.id.in_(list(ids)))
    others = (Binding.profile_id != profile_id) | (Binding.version != version)
    return await tx.all(query.where(others).order_by(Binding.id))


async def remove(tx: Transaction, ids: Iterable[str]) -> None:
    """Delete bindings; the caller holds their version's lock."""
    await tx.run(delete(Binding).where(Binding.id.in_(list(ids))))


async def connections(tx: Transaction, ids: Iterable[str], *, lock: bool = False) -> Sequence[Connection]:
    """Return connections by id. `lock` makes who would change or delete one wait."""
    query = select(Connection).where(Connection.id.in_(list(ids))).order_by(Connection.id)
    return await tx.all(query.with_for_update() if lock else query)


async def secret_types(tx: Transaction, connection_ids: Iterable[str]) -> Sequence[tuple[str, str]]:
    """Return (connection, type) of the credentials that connections were given.

    Without what begins with "_": that comes and goes as credentials are made and refreshed, and no plan names it.
    """
    query = select(Credential.connection_id, Credential.secret_type, Credential.slot_key)
    rows = await tx.rows(query.where(Credential.connection_id.in_(list(connection_ids))))
    given = {each for each in rows if not each.secret_type.startswith("_") and not each.slot_key.startswith("_")}
    return sorted({(each.connection_id, each.secret_type) for each in given})


async def targets(tx: Transaction, keys: Iterable[str], *, lock: bool = False) -> Sequence[Target]:
    """Return targets by key. `lock` makes who would change one wait."""
    query = select(Target).where(Target.key.in_(list(keys))).order_by(Target.key)
    return await tx.all(query.with_for_update() if lock else query)


async def secret_names(tx: Transaction, target_keys: Iterable[str]) -> Sequence[tuple[str, str]]:
    """Return (target, name) of the secrets that targets have."""
    query = select(TargetSecret.target_key, TargetSecret.name)
    rows = await tx.rows(query.where(TargetSecret.target_key.in_(list(target_keys))))
    return [(row.target_key, row.name) for row in rows]


async def sandboxes_of(tx: Transaction, profile_id: str, version: int, after: str, limit: int) -> Sequence[str]:
    """Return the sandboxes of a version that were not deleted, by id, after one."""
    query = select(Sandbox.id).where(Sandbox.profile_id == profile_id, Sandbox.version == version)
    query = query.where(Sandbox.deleted_at.is_(None), Sandbox.id > after)
    return await tx.all(query.order_by(Sandbox.id).limit(limit))
