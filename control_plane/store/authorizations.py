"""Queries on members who are on their way to a provider and back."""

from sqlalchemy import delete

from control_plane.store.database import Transaction
from control_plane.store.models import AuthorizationSession


async def take(tx: Transaction, state_hash: str) -> AuthorizationSession | None:
    """Return the session of a state and forget it: of two that ask at once one gets it."""
    found = await tx.get(AuthorizationSession, state_hash, lock=True)
    if found is not None:
        await tx.delete(found)
    return found


async def forget_authorizations(tx: Transaction, before: float) -> int:
    """Delete the sessions that ended before an instant."""
    return await tx.run(delete(AuthorizationSession).where(AuthorizationSession.expires_at < int(before)))
