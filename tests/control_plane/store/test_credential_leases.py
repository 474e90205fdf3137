from control_plane.foundation import Foundation
from control_plane.store import credential_leases as leases
from control_plane.store.models import Connection, CredentialLease

KEY = ("con_1", "token", "")


async def make(base: Foundation) -> None:
    async with base.database.write() as tx:
        row = Connection(id="con_1", organization_id="o", target_key="t", status="active", created_at=1, updated_at=1)
        await tx.add(row)


async def test_one_holds_it_until_it_ends_or_is_given_back(base: Foundation) -> None:
    await make(base)
    async with base.database.write() as tx:
        assert await leases.hold(tx, KEY, "a", 100.0, 130) is None
    async with base.database.write() as tx:
        assert await leases.hold(tx, KEY, "b", 129.9, 160) == "a"
        assert await leases.hold(tx, (*KEY[:2], "slot"), "b", 100.0, 130) is None
    async with base.database.write() as tx:
        assert await leases.hold(tx, KEY, "b", 130.0, 160) is None
    async with base.database.write() as tx:
        await leases.release(tx, KEY, "a")  # it has passed to another
        assert await leases.hold(tx, KEY, "c", 140.0, 170) == "b"
        await leases.release(tx, KEY, "b")
        assert await leases.hold(tx, KEY, "c", 140.0, 170) is None


async def test_a_pause_is_nobody_s(base: Foundation) -> None:
    await make(base)
    async with base.database.write() as tx:
        assert await leases.hold(tx, KEY, "a", 100.0, 130) is None
        await leases.pause(tx, KEY, "b", "", 105)
        await leases.pause(tx, KEY, "a", "", 106)
    async with base.database.write() as tx:
        assert await leases.hold(tx, KEY, "b", 105.0, 160) == ""
        assert await leases.hold(tx, KEY, "b", 106.0, 160) is None
        row = await tx.get(CredentialLease, KEY)
        assert row is not None
        assert (row.owner, row.until) == ("b", 160)
