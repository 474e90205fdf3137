"""Queries on logins to the operator page."""

from sqlalchemy import delete, select

from control_plane.store.database import Transaction
from control_plane.store.models import PageSession


async def session(tx: Transaction, session_hash: str) -> PageSession | None:
    """Return a session."""
    return await tx.get(PageSession, session_hash)


async def remove(tx: Transaction, session_hash: str) -> None:
    """End a session."""
    await tx.run(delete(PageSession).where(PageSession.session_hash == session_hash))


async def keep_newest(tx: Transaction, api_key_id: str, most: int) -> None:
    """End all but the newest sessions of a key."""
    of_key = select(PageSession.session_hash).where(PageSession.api_key_id == api_key_id)
    newest = of_key.order_by(PageSession.created_at.desc(), PageSession.session_hash).limit(most)
    kept = await tx.all(newest)
    await tx.run(delete(PageSession).where(PageSession.api_key_id == api_key_id, PageSession.session_hash.not_in(kept)))


async def forget_sessions(tx: Transaction, now: float) -> int:
    """Forget the sessions that are over; return how many."""
    return await tx.run(delete(PageSession).where(PageSession.expires_at <= int(now)))
