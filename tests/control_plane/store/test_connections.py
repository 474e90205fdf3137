from control_plane.foundation import Foundation
from control_plane.store import connections, sandboxes
from control_plane.store.models import Connection, Plan, PlanReference, Resolution, Sandbox
from tests.support.control_plane import NOW

FIELDS = ("egress_rule_id", "binding_id", "connection_id", "secret_type", "slot_key", "resolver_key")


def reference(sandbox_id: str = "sbx_1", **changes: str) -> PlanReference:
    values = dict(zip(FIELDS, ("route", "bnd_1", "con_1", "api_key", "", ""), strict=True)) | changes
    return PlanReference(sandbox_id=sandbox_id, position=0, **values)


async def test_a_use_of_a_credential_has_to_fit_in_every_part(base: Foundation) -> None:
    async with base.database.write() as tx:
        for sandbox_id in ("sbx_1", "sbx_2"):
            await tx.add(Sandbox(id=sandbox_id, organization_id="org_1", created_at=1))
        new = Plan(sandbox_id="sbx_1", revision=1, digest="d", document=b"", created_at=1)
        await sandboxes.store_plan(tx, new)
        await sandboxes.put_in_force(tx, new, [reference()])
    async with base.database.read() as tx:
        assert await connections.is_in_plan(tx, reference())
        assert not await connections.is_in_plan(tx, reference("sbx_2"))
        for name in FIELDS:
            assert not await connections.is_in_plan(tx, reference(**{name: "other"})), name
        assert await connections.users(tx, "con_1", 5) == ["sbx_1"]


async def test_lists_are_by_id_and_of_one_organization(base: Foundation) -> None:
    async with base.database.write() as tx:
        for number, organization in enumerate(("org_1", "org_2", "org_1")):
            row = Connection(
                id=f"con_{number}",
                organization_id=organization,
                target_key="t",
                display_name=None,
                status="active",
                created_at=1,
                updated_at=1,
            )
            await tx.add(row)
    async with base.database.read() as tx:

        async def ids(organization: str | None, after: str, limit: int) -> list[str]:
            return [row.id for row in await connections.list_connections(tx, organization, after, limit)]

        assert await ids(None, "", 2) == ["con_0", "con_1"]
        assert await ids("org_1", "con_0", 5) == ["con_2"]
        assert await connections.credentials(tx, []) == []


async def test_resolutions_are_forgotten_by_age(base: Foundation) -> None:
    async with base.database.write() as tx:
        for at in (1, 2):
            values = dict.fromkeys(
                ("caller", "sandbox_id", "egress_rule_id", "binding_id", "connection_id", "secret_type", "slot_key"),
                "x",
            )
            await tx.add(Resolution(at=at, plan_revision=1, result="ok", credential_version=None, **values))
    async with base.database.write() as tx:
        assert await connections.forget_resolutions(tx, 2) == 1
        assert await connections.forget_resolutions(tx, NOW) == 1
