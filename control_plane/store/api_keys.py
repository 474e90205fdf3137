"""Queries on API keys."""

from collections.abc import Sequence

from sqlalchemy import delete, or_, select, update

from control_plane.store.database import Transaction
from control_plane.store.models import ApiKey


async def by_hash(tx: Transaction, key_hash: str) -> ApiKey | None:
    """Return the key of a hash."""
    return await tx.first(select(ApiKey).where(ApiKey.key_hash == key_hash))


async def key(tx: Transaction, key_id: str, *, lock: bool = False) -> ApiKey | None:
    """Return a key by its id."""
    return await tx.get(ApiKey, key_id, lock=lock)


async def list_keys(tx: Transaction, organization_id: str | None, after: str, limit: int) -> Sequence[ApiKey]:
    """Return keys by id, after one."""
    query = select(ApiKey).where(ApiKey.id > after).order_by(ApiKey.id).limit(limit)
    return await tx.all(query if organization_id is None else query.where(ApiKey.organization_id == organization_id))


async def note_use(tx: Transaction, key_id: str, at: int) -> None:
    """Remember that a key was used."""
    await tx.run(update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=at))


async def forget_ended(tx: Transaction, before: float) -> int:
    """Delete keys that were revoked, or ended, before an instant."""
    ended = or_(ApiKey.revoked_at < int(before), ApiKey.expires_at < int(before))
    return await tx.run(delete(ApiKey).where(ended))
