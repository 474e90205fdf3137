"""API keys: shown once, kept as hashes, each with a role and, for a member, an organization.

A key is 256 random bits, so a plain hash of it gives nothing away and is found by an index.
"""

import hashlib
import re
import secrets
from typing import Final

from control_plane.callers import Caller, Role
from control_plane.ids import new_id
from control_plane.refusals import ControlCode, FieldIssue, Refused
from control_plane.store import api_keys as rows
from control_plane.store.database import Database
from control_plane.store.models import ApiKey

PREFIX: Final = "sp_ak_"
_FORM: Final = re.compile(rf"{PREFIX}[0-9a-f]{{64}}")
# An hour is enough to see whether a key is in use; each request would otherwise be a write.
USED_SECONDS: Final = 3_600


def looks_like_key(text: str) -> bool:
    """Say whether a bearer is meant to be an API key."""
    return text.startswith(PREFIX)


def document(key: ApiKey) -> dict[str, object]:
    """Return a key as the API shows it: never the key itself, which nobody has."""
    shown: dict[str, object] = {"apiKeyId": key.id, "role": key.role}
    optional = {
        "organizationId": key.organization_id,
        "displayName": key.display_name,
        "expiresAt": key.expires_at,
        "revokedAt": key.revoked_at,
        "lastUsedAt": key.last_used_at,
    }
    shown |= {name: value for name, value in optional.items() if value is not None}
    return shown | {"createdBy": key.created_by, "createdAt": key.created_at}


async def create(
    database: Database,
    role: Role,
    organization_id: str | None,
    *,
    display_name: str | None,
    ttl_seconds: int | None,
    created_by: str,
    now: float,
) -> dict[str, object]:
    """Make a key; the answer alone holds it. Raises Refused where role and organization do not go together."""
    if (role is Role.MEMBER) != (organization_id is not None):
        code, message = (
            ("missing_field", "a member's key is for one organization")
            if role is Role.MEMBER
            else ("unknown_field", f"the key of an {role} is for no single organization; leave it out")
        )
        issue = FieldIssue(code, "/organizationId", message)
        raise Refused(ControlCode.INVALID_REQUEST, "1 issues; nothing changed", issues=[issue])
    secret = PREFIX + secrets.token_hex(32)
    key = ApiKey(
        id=new_id("key", now),
        key_hash=_hash(secret),
        role=role.value,
        organization_id=organization_id,
        display_name=display_name,
        created_by=created_by,
        created_at=int(now),
        expires_at=None if ttl_seconds is None else int(now) + ttl_seconds,
        revoked_at=None,
        last_used_at=None,
    )
    async with database.write() as tx:
        await tx.add(key)
    return document(key) | {"key": secret}


async def find_caller(database: Database, key: str, now: float) -> Caller | None:
    """Return whose key this is; None where it is nobody's, revoked or over."""
    if _FORM.fullmatch(key) is None:
        return None
    async with database.read() as tx:
        found = await rows.by_hash(tx, _hash(key))
    caller = None if found is None else caller_of(found, now)
    if found is None or caller is None:
        return None
    if found.last_used_at is None or found.last_used_at + USED_SECONDS <= now:
        async with database.write() as tx:
            await rows.note_use(tx, found.id, int(now))
    return caller


def caller_of(key: ApiKey, now: float) -> Caller | None:
    """Return who calls with a key; None where it is revoked or over."""
    if key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= now):
        return None
    return Caller(
        id=key.id,
        roles=frozenset({Role(key.role)}),
        organization_id=key.organization_id,
        expires_at=key.expires_at,
    )


async def get(database: Database, key_id: str) -> dict[str, object]:
    """Return one key. Raises Refused."""
    async with database.read() as tx:
        key = await rows.key(tx, key_id)
    if key is None:
        raise _not_found()
    return document(key)


async def page(database: Database, organization_id: str | None, after: str, limit: int) -> list[dict[str, object]]:
    """Return keys by id, after one."""
    async with database.read() as tx:
        return [document(each) for each in await rows.list_keys(tx, organization_id, after, limit)]


async def revoke(database: Database, key_id: str, now: float) -> None:
    """End a key at once; again for one that has ended. Raises Refused."""
    async with database.write() as tx:
        key = await rows.key(tx, key_id, lock=True)
        if key is None:
            raise _not_found()
        if key.revoked_at is None:
            key.revoked_at = int(now)


def _not_found() -> Refused:
    return Refused(ControlCode.API_KEY_NOT_FOUND, "it was never made, or ended long ago")


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("ascii")).hexdigest()
