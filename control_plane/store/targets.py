"""Queries on targets and their secrets."""

from collections.abc import Sequence

from sqlalchemy import delete, select

from control_plane.store.database import Transaction
from control_plane.store.models import Connection, Target, TargetSecret


async def target(tx: Transaction, key: str, *, lock: bool = False) -> Target | None:
    """Return a target."""
    return await tx.get(Target, key, lock=lock)


async def secrets(tx: Transaction, key: str) -> Sequence[TargetSecret]:
    """Return the secrets of a target, by name."""
    return await tx.all(select(TargetSecret).where(TargetSecret.target_key == key).order_by(TargetSecret.name))


async def list_targets(tx: Transaction, after: str, limit: int, *, enabled_only: bool) -> Sequence[Target]:
    """Return targets by key, after one."""
    query = select(Target).where(Target.key > after).order_by(Target.key).limit(limit)
    return await tx.all(query.where(Target.enabled.is_(True)) if enabled_only else query)


async def secrets_of(tx: Transaction, keys: Sequence[str]) -> Sequence[TargetSecret]:
    """Return the secrets of several targets, in a fixed order."""
    query = select(TargetSecret).where(TargetSecret.target_key.in_(keys))
    return await tx.all(query.order_by(TargetSecret.target_key, TargetSecret.name))


async def put_secret(tx: Transaction, key: str, name: str, sealed: bytes, now: float) -> None:
    """Set a secret of a target, whether it was set or not; the caller holds the target's lock."""
    known = await tx.get(TargetSecret, (key, name))
    if known is None:
        await tx.add(TargetSecret(target_key=key, name=name, value=sealed, updated_at=int(now)))
    else:
        known.value = sealed
        known.updated_at = int(now)


async def clear_secret(tx: Transaction, key: str, name: str) -> None:
    """Forget a secret of a target."""
    await tx.run(delete(TargetSecret).where(TargetSecret.target_key == key, TargetSecret.name == name))


async def connections_of(tx: Transaction, key: str, limit: int) -> Sequence[str]:
    """Return connections to a target."""
    query = select(Connection.id).where(Connection.target_key == key)
    return await tx.all(query.order_by(Connection.id).limit(limit))
