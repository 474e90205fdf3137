"""Queries on keys and on the tokens that are renewed: data keys, signing keys, renewal tokens, repeated answers."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import delete, or_, select, update

from control_plane.store.database import Transaction
from control_plane.store.models import DataKey, RenewalToken, SigningKey, TokenAnswer

# A sandbox has one lineage, two while it moves; more renewal tokens than this in a day come from minting in a loop.
MAX_LINEAGES: Final = 1_000


async def data_key(tx: Transaction, organization_id: str, version: int | None = None) -> DataKey | None:
    """Return one data key of an organization, the newest where no version is asked for."""
    query = select(DataKey).where(DataKey.organization_id == organization_id)
    if version is not None:
        query = query.where(DataKey.version == version)
    return await tx.first(query.order_by(DataKey.version.desc()))


async def data_keys_not_under(tx: Transaction, master_version: int, limit: int) -> Sequence[DataKey]:
    """Return data keys that another master key wraps."""
    query = select(DataKey).where(DataKey.master_version != master_version)
    return await tx.all(query.order_by(DataKey.organization_id, DataKey.version).limit(limit))


async def rewrap(tx: Transaction, key: DataKey, master_version: int, wrapped: bytes) -> None:
    """Replace the wrapping of a data key."""
    same = (DataKey.organization_id == key.organization_id, DataKey.version == key.version)
    await tx.run(update(DataKey).where(*same).values(master_version=master_version, wrapped=wrapped))


async def signing_keys(tx: Transaction, now: float) -> Sequence[SigningKey]:
    """Return the keys that are published now, the one that was made last at the end."""
    query = select(SigningKey).where(or_(SigningKey.retire_at.is_(None), SigningKey.retire_at > int(now)))
    return await tx.all(query.order_by(SigningKey.created_at, SigningKey.id))


async def retire_signing_keys(tx: Transaction, but: str, retire_at: int) -> None:
    """Give every key that has no end yet one, save the newest."""
    same = (SigningKey.id != but, SigningKey.retire_at.is_(None))
    await tx.run(update(SigningKey).where(*same).values(retire_at=retire_at))


async def renewal_token(tx: Transaction, token_id: str) -> RenewalToken | None:
    """Return what is known of a renewal token; its sandbox's lock keeps others from using it meanwhile."""
    return await tx.get(RenewalToken, token_id)


async def mark_used(tx: Transaction, token_id: str, request_id: str, now: float) -> None:
    """Note that a renewal token was exchanged, and in which request."""
    used = {"used_at": int(now), "used_request_id": request_id}
    await tx.run(update(RenewalToken).where(RenewalToken.id == token_id).values(**used))


async def token_answer(tx: Transaction, sandbox_id: str, request_id: str) -> TokenAnswer | None:
    """Return what a token request was answered before."""
    return await tx.get(TokenAnswer, (sandbox_id, request_id))


async def forget_answer(tx: Transaction, sandbox_id: str, request_id: str) -> None:
    """Delete one answer, so that its request id can be used again."""
    same = (TokenAnswer.sandbox_id == sandbox_id, TokenAnswer.request_id == request_id)
    await tx.run(delete(TokenAnswer).where(*same))


async def forget_expired(tx: Transaction, *, renewals_before: float, answers_before: float) -> int:
    """Delete renewal tokens and answers whose time is over."""
    renewals = await tx.run(delete(RenewalToken).where(RenewalToken.expires_at < int(renewals_before)))
    return renewals + await tx.run(delete(TokenAnswer).where(TokenAnswer.at < int(answers_before)))


async def lineages(tx: Transaction, sandbox_id: str, now: float) -> Sequence[str]:
    """Return the lineages of a sandbox's living renewal tokens, the latest first."""
    query = select(RenewalToken.lineage).where(RenewalToken.sandbox_id == sandbox_id)
    query = query.where(RenewalToken.expires_at > int(now)).order_by(RenewalToken.expires_at.desc(), RenewalToken.id)
    return list(dict.fromkeys(await tx.all(query.limit(MAX_LINEAGES))))
