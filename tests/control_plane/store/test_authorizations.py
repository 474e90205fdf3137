from control_plane.foundation import Foundation
from control_plane.store import authorizations
from control_plane.store.models import AuthorizationSession


def session(state_hash: str, expires_at: int) -> AuthorizationSession:
    names = ("organization_id", "target_key", "method", "config", "redirect_uri", "created_by")
    values = dict.fromkeys(names, "x")
    return AuthorizationSession(state_hash=state_hash, expires_at=expires_at, **values)


async def test_a_session_is_taken_once(base: Foundation) -> None:
    async with base.database.write() as tx:
        await tx.add(session("hash", 10))
    async with base.database.write() as tx:
        assert await authorizations.take(tx, "other") is None
        assert await authorizations.take(tx, "hash") is not None
    async with base.database.write() as tx:
        assert await authorizations.take(tx, "hash") is None


async def test_those_that_ended_are_forgotten(base: Foundation) -> None:
    async with base.database.write() as tx:
        for number in range(3):
            await tx.add(session(f"hash-{number}", 10 + number))
        assert await authorizations.forget_authorizations(tx, 11.5) == 1
        assert await authorizations.take(tx, "hash-1") is not None
