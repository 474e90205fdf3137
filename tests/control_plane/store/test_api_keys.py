from control_plane import api_keys
from control_plane.callers import Role
from control_plane.foundation import Foundation
from control_plane.store import api_keys as rows
from tests.support.control_plane import NOW


async def test_keys_are_listed_by_id_and_forgotten_after_their_end(base: Foundation) -> None:
    ids = []
    for number, (organization_id, ttl) in enumerate([("org_one", None), ("org_two", 60), ("org_one", 120)]):
        made = await api_keys.create(
            base.database,
            Role.MEMBER,
            organization_id,
            display_name=None,
            ttl_seconds=ttl,
            created_by="x",
            now=NOW + number,
        )
        ids.append(str(made["apiKeyId"]))
    await api_keys.revoke(base.database, ids[0], NOW)

    async def listed(organization_id: str | None = None, after: str = "", limit: int = 10) -> list[str]:
        async with base.database.read() as tx:
            return [key.id for key in await rows.list_keys(tx, organization_id, after, limit)]

    assert await listed() == ids
    assert await listed(limit=1) == ids[:1]
    assert await listed("org_one", after=ids[0]) == [ids[2]]
    async with base.database.write() as tx:
        assert await rows.forget_ended(tx, NOW + 100) == 2
    assert await listed() == [ids[2]]
