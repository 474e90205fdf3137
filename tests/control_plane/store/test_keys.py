from control_plane.foundation import Foundation
from control_plane.store import keys
from control_plane.store.models import DataKey, RenewalToken, SigningKey, TokenAnswer
from tests.support.control_plane import NOW


def renewal(name: str, lineage: str, expires_at: int) -> RenewalToken:
    return RenewalToken(
        id=name, sandbox_id="sbx_1", lineage=lineage, expires_at=expires_at, used_at=None, used_request_id=None
    )


async def test_the_newest_data_key_counts_where_none_is_named(base: Foundation) -> None:
    async with base.database.write() as tx:
        for version in (1, 2):
            await tx.add(DataKey(organization_id="org_1", version=version, master_version=version, wrapped=b"w"))
    async with base.database.write() as tx:
        newest, first = await keys.data_key(tx, "org_1"), await keys.data_key(tx, "org_1", 1)
        assert newest is not None
        assert first is not None
        assert (newest.version, first.version) == (2, 1)
        assert await keys.data_key(tx, "org_2") is None
        stale = [row for row in await keys.data_keys_not_under(tx, 2, 10) if row.organization_id == "org_1"]
        assert [row.version for row in stale] == [1]
        await keys.rewrap(tx, stale[0], 2, b"again")
    async with base.database.read() as tx:
        rewrapped = await keys.data_key(tx, "org_1", 1)
    assert rewrapped is not None
    assert (rewrapped.master_version, rewrapped.wrapped) == (2, b"again")


async def test_lineages_are_those_that_live_the_latest_first(base: Foundation) -> None:
    async with base.database.write() as tx:
        for name, lineage, seconds in (("a", "one", 10), ("b", "two", 30), ("c", "one", 20), ("d", "over", 0)):
            await tx.add(renewal(name, lineage, int(NOW) + seconds))
    async with base.database.read() as tx:
        assert await keys.lineages(tx, "sbx_1", NOW) == ["two", "one"]
        assert await keys.lineages(tx, "sbx_2", NOW) == []


async def test_what_is_over_is_forgotten(base: Foundation) -> None:
    async with base.database.write() as tx:
        await tx.add(renewal("a", "one", 10))
        await tx.add(renewal("b", "one", 20))
        await tx.add(TokenAnswer(sandbox_id="sbx_1", request_id="r", renewal_id="", answer=b"", at=10))
    async with base.database.write() as tx:
        await keys.mark_used(tx, "b", "r", NOW)
        assert await keys.forget_expired(tx, renewals_before=15, answers_before=10) == 1
        assert await keys.forget_expired(tx, renewals_before=15, answers_before=11) == 1
    async with base.database.write() as tx:
        row = await keys.renewal_token(tx, "b")
        assert row is not None
        assert (row.used_at, row.used_request_id) == (NOW, "r")
        await tx.add(TokenAnswer(sandbox_id="sbx_1", request_id="r", renewal_id="", answer=b"", at=10))
        await keys.forget_answer(tx, "sbx_1", "r")
    async with base.database.read() as tx:
        assert await keys.token_answer(tx, "sbx_1", "r") is None


async def test_signing_keys_until_they_retire(base: Foundation) -> None:
    def key(name: str, created_at: int) -> SigningKey:
        return SigningKey(id=name, public_key=b"", private_key=b"", created_at=created_at, active_at=1, retire_at=None)

    async with base.database.write() as tx:
        [first] = [row.id for row in await keys.signing_keys(tx, NOW)]
        await tx.add(key("key_2", int(NOW) + 1))
        await keys.retire_signing_keys(tx, "key_2", int(NOW) + 10)
    async with base.database.read() as tx:
        assert [row.id for row in await keys.signing_keys(tx, NOW + 9)] == [first, "key_2"]
        assert [row.id for row in await keys.signing_keys(tx, NOW + 10)] == ["key_2"]
