from control_plane.foundation import Foundation
from control_plane.store import sandboxes
from control_plane.store.models import Plan, PlanReference, Sandbox
from tests.support.control_plane import NOW


async def fill(base: Foundation) -> None:
    async with base.database.write() as tx:
        for name in ("sbx_1", "sbx_2", "sbx_3"):
            await tx.add(Sandbox(id=name, organization_id="org_1" if name != "sbx_2" else "org_2", created_at=1))
        for revision in (1, 2):
            plan = Plan(sandbox_id="sbx_1", revision=revision, digest=f"d{revision}", document=b"{}", created_at=1)
            await sandboxes.store_plan(tx, plan)
            await sandboxes.put_in_force(tx, plan, [reference(revision)])


def reference(revision: int) -> PlanReference:
    return PlanReference(
        sandbox_id="sbx_1",
        position=0,
        egress_rule_id=f"route_{revision}",
        binding_id="b",
        connection_id="c",
        secret_type="s",
        slot_key="",
        resolver_key="",
    )


async def test_the_plan_put_in_force_last_is_the_current_one(base: Foundation) -> None:
    await fill(base)
    async with base.database.read() as tx:
        assert await sandboxes.current_plans(tx) == [("sbx_1", 2, "d2")]
        assert [each[0] for each in await sandboxes.list_plans(tx, "sbx_1", 10, 5)] == [2, 1]
        assert [each[0] for each in await sandboxes.list_plans(tx, "sbx_1", 2, 5)] == [1]
        assert (await tx.get(PlanReference, ("sbx_1", 0))).egress_rule_id == "route_2"  # type: ignore[union-attr]
        assert await sandboxes.plan(tx, "sbx_1", 3) is None


async def test_what_is_deleted_is_in_no_answer(base: Foundation) -> None:
    await fill(base)
    async with base.database.write() as tx:
        await sandboxes.mark_deleted(tx, "sbx_1", NOW)
    async with base.database.read() as tx:
        assert await sandboxes.sandbox(tx, "sbx_1") is None
        assert await sandboxes.current_plans(tx) == []
        assert [row.id for row in await sandboxes.list_sandboxes(tx, None, "", 5)] == ["sbx_2", "sbx_3"]
        assert [row.id for row in await sandboxes.list_sandboxes(tx, "org_1", "", 5)] == ["sbx_3"]
        assert await tx.get(PlanReference, ("sbx_1", 0)) is None
        assert await tx.get(Sandbox, "sbx_1") is not None
        assert await sandboxes.plan(tx, "sbx_1", 1) is not None
