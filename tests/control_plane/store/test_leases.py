from control_plane.foundation import Foundation
from control_plane.store import leases
from control_plane.store.leases import Held
from control_plane.store.models import GatewayLease
from tests.support.control_plane import NOW


async def put(base: Foundation, gateway_id: str, held: dict[str, Held], expires_at: float = NOW + 30) -> None:
    new = GatewayLease(
        gateway_id=gateway_id, epoch=1, admin_url="http://h", plan_revisions="{}", expires_at=int(expires_at)
    )
    async with base.database.write() as tx:
        await leases.put_lease(tx, new, held)


async def held_by(base: Foundation, gateway_id: str) -> dict[str, Held]:
    async with base.database.read() as tx:
        rows = await leases.sandboxes_of(tx, gateway_id)
    return {row.sandbox_id: Held(row.tunnel, row.tunnel_epoch, row.revision) for row in rows}


async def test_a_report_replaces_the_one_before(base: Foundation) -> None:
    first = {f"sbx_{number:04}": Held(True, number, None) for number in range(1_200)}
    await put(base, "gw_1", first)
    assert await held_by(base, "gw_1") == first
    second = {"sbx_0001": Held(False, 0, 7), "sbx_0002": first["sbx_0002"], "sbx_new": Held(True, 5, 1)}
    await put(base, "gw_1", second)
    assert await held_by(base, "gw_1") == second
    await put(base, "gw_2", first)
    assert await held_by(base, "gw_1") == second


async def test_leases_that_ran_out_are_forgotten_with_what_they_held(base: Foundation) -> None:
    await put(base, "gw_1", {"sbx_1": Held(True, 1, 1)}, expires_at=NOW - 10)
    await put(base, "gw_2", {"sbx_1": Held(True, 2, 1)})
    async with base.database.write() as tx:
        assert await leases.forget_leases(tx, NOW) == 1
        assert await leases.lease(tx, "gw_1") is None
        assert [lease.gateway_id for lease, _ in await leases.live_leases(tx, NOW)] == ["gw_2"]
        assert [lease.gateway_id for lease in await leases.live(tx, NOW)] == ["gw_2"]
        assert [lease.gateway_id for lease, _ in await leases.placement(tx, "sbx_1", NOW)] == ["gw_2"]
    assert await held_by(base, "gw_1") == {}


async def test_a_lease_that_ran_out_supersedes_nobody(base: Foundation) -> None:
    await put(base, "gw_1", {"sbx_1": Held(True, 1, 1)})
    await put(base, "gw_2", {"sbx_1": Held(True, 2, 1)})
    async with base.database.read() as tx:
        assert await leases.superseded(tx, "gw_1", NOW) == ["sbx_1"]
        assert await leases.superseded(tx, "gw_2", NOW) == []
        assert await leases.superseded(tx, "gw_1", NOW + 30) == []
