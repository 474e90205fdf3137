"""Queries on targets and their secrets."""

from collections.abc import Sequence

from sqlalchemy import select

from control_plane.store.database import Transaction
from control_plane.store.models import Target, TargetSecret


async def target(tx: Transaction, key: str, *, lock: bool = False) -> Target | None:
    """Return a target."""
    return await tx.get(Target, key, lock=lock)


async def secrets(tx: Transaction, key: str) -> Sequence[TargetSecret]:
    """Return the secrets of a target, by name."""
    return await tx.all(select(TargetSecret).where(TargetSecret.target_key == key).order_by(TargetSecret.name))
