"""Client keys: shown once, kept as hashes, each of one instance and one tier, which alone decides what is seen.

A key is 256 random bits, so a plain hash of it gives nothing away and is found by an index.
"""

import hashlib
import re
import secrets
from collections.abc import Sequence
from typing import Final, NamedTuple

from control_plane.feed import instances
from control_plane.feed.tiers import TIERS, Tier
from control_plane.ids import new_id
from control_plane.refusals import ControlCode, Refused
from control_plane.store import feed as rows
from control_plane.store.database import Database
from control_plane.store.models import ClientKey

PREFIX: Final = "sp_sk_"
_FORM: Final = re.compile(rf"{PREFIX}[0-9a-f]{{64}}")
# Of one instance: an application has one or two, and a second of each while it goes over to it.
MAX_KEYS: Final = 100


class KeyHolder(NamedTuple):
    """Who shows a key."""

    key_id: str
    organization_id: str
    instance_id: str
    tier: Tier


def document(key: ClientKey) -> dict[str, object]:
    """Return a key as the API shows it: never the key itself, which nobody has."""
    shown: dict[str, object] = {"clientKeyId": key.id, "instanceId": key.instance_id, "tier": key.tier}
    optional = {"displayName": key.display_name, "revokedAt": key.revoked_at}
    shown |= {name: value for name, value in optional.items() if value is not None}
    return shown | {"createdBy": key.created_by, "createdAt": key.created_at}


async def create(
    database: Database, instance_id: str, tier: Tier, *, display_name: str | None, created_by: str, now: float
) -> dict[str, object]:
    """Make a key; the answer alone holds it. Raises Refused."""
    secret = PREFIX + secrets.token_hex(32)
    async with database.write() as tx:
        instance = await instances.found(tx, instance_id, lock=True)
        if await rows.count_keys(tx, instance_id) >= MAX_KEYS:
            raise Refused(ControlCode.LIMIT_REACHED, f"revoke one of its {MAX_KEYS} keys first")
        key = ClientKey(
            id=new_id("ckey", now),
            key_hash=hash_of(secret),
            organization_id=instance.organization_id,
            instance_id=instance_id,
            tier=tier,
            display_name=display_name,
            created_by=created_by,
            created_at=int(now),
            revoked_at=None,
        )
        await tx.add(key)
    return document(key) | {"key": secret}


async def get(database: Database, key_id: str, tiers: Sequence[Tier] = TIERS) -> dict[str, object]:
    """Return one key, of one of these tiers. Raises Refused."""
    async with database.read() as tx:
        key = await rows.key(tx, key_id)
    if key is None or key.tier not in tiers:
        raise not_found()
    return document(key)


async def page(
    database: Database, instance_id: str, tiers: Sequence[Tier], after: str, limit: int
) -> list[dict[str, object]]:
    """Return the keys of an instance, of these tiers, by id, after one. Raises Refused."""
    async with database.read() as tx:
        await instances.found(tx, instance_id)
        return [document(each) for each in await rows.list_keys(tx, instance_id, tiers, after, limit)]


async def revoke(database: Database, key_id: str, tiers: Sequence[Tier], now: float) -> None:
    """End a key at once; again for one that has ended. Raises Refused."""
    async with database.write() as tx:
        key = await rows.key(tx, key_id, lock=True)
        if key is None or key.tier not in tiers:
            raise not_found()
        if key.revoked_at is None:
            key.revoked_at = int(now)


async def find(database: Database, key: str) -> KeyHolder | None:
    """Return who shows a key; None where it opens nothing."""
    return await find_by_hash(database, hash_of(key)) if _FORM.fullmatch(key) is not None else None


async def find_by_hash(database: Database, key_hash: str) -> KeyHolder | None:
    """Return whose key has this hash; None where it opens nothing."""
    async with database.read() as tx:
        key = await rows.key_of(tx, key_hash)
    if key is None or key.revoked_at is not None:
        return None
    return KeyHolder(key.id, key.organization_id, key.instance_id, Tier(key.tier))


def not_found() -> Refused:
    """Return the refusal of a key that is not there."""
    return Refused(ControlCode.CLIENT_KEY_NOT_FOUND, "it was never made, or ended long ago")


def hash_of(key: str) -> str:
    """Return what is kept of a key."""
    return hashlib.sha256(key.encode("ascii")).hexdigest()
