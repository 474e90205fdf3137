from control_plane import sandboxes
from control_plane.foundation import Foundation
from control_plane.store import owners
from control_plane.store.models import Connection, Sandbox
from tests.support.control_plane import NOW


async def test_whose_a_row_is(base: Foundation) -> None:
    await sandboxes.create_sandbox(base.database, "org_one", sandbox_id="sbx_1", profile_id=None, version=None, now=NOW)
    await sandboxes.delete_sandbox(base.database, "sbx_1", NOW)
    async with base.database.read() as tx:
        assert await owners.organization_of(tx, Sandbox, "sbx_1") == "org_one"
        assert await owners.organization_of(tx, Sandbox, "sbx_2") is None
        assert await owners.organization_of(tx, Connection, "sbx_1") is None
