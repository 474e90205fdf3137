from control_plane import api_keys
from control_plane.callers import Role
from control_plane.foundation import Foundation
from control_plane.store import page_sessions as rows
from control_plane.store.models import PageSession
from tests.support.control_plane import NOW


async def test_the_newest_of_a_key_stay_and_those_that_are_over_go(base: Foundation) -> None:
    made = [
        await api_keys.create(
            base.database, Role.OPERATOR, None, display_name=None, ttl_seconds=None, created_by="x", now=NOW
        )
        for _ in range(2)
    ]
    mine, other = (str(each["apiKeyId"]) for each in made)

    async def kept() -> list[str]:
        async with base.database.read() as tx:
            names = ["a", "b", "c", "other"]
            return [name for name in names if await rows.session(tx, name) is not None]

    async with base.database.write() as tx:
        for number, (name, key_id) in enumerate([("a", mine), ("b", mine), ("c", mine), ("other", other)]):
            at = int(NOW) + number
            session = PageSession(
                session_hash=name, api_key_id=key_id, csrf_token="x", created_at=at, expires_at=at + 10
            )
            await tx.add(session)
        await rows.keep_newest(tx, mine, 2)
    assert await kept() == ["b", "c", "other"]
    async with base.database.write() as tx:
        await rows.remove(tx, "b")
        assert await rows.forget_sessions(tx, NOW + 12) == 1
    assert await kept() == ["other"]
