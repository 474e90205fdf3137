"""Queries on bindings and on what they lead to."""

import pytest

from control_plane.foundation import Foundation
from control_plane.store import bindings as rows
from control_plane.store.models import TargetSecret
from tests.support.bound_versions import PROFILE, BoundStage, draft
from tests.support.control_plane import NOW
from tests.support.made_integrations import made_definition


@pytest.fixture
async def stage(base: Foundation) -> BoundStage:
    stage = BoundStage(base.database, made_definition(), made_definition("other"))
    await stage.prepare(versions=(1, 2))
    return stage


async def test_bindings_come_in_the_order_they_were_written_in(stage: BoundStage) -> None:
    await stage.bind(draft("bnd_b", host="b.example"), draft("bnd_a", host="a.example"))
    async with stage.database.read() as tx:
        assert [each.id for each in await rows.bindings(tx, PROFILE, 1)] == ["bnd_b", "bnd_a"]
        assert await rows.bindings(tx, PROFILE, 2) == []
        assert await rows.taken(tx, ["bnd_a", "bnd_x"], PROFILE, 1) == []
        assert await rows.taken(tx, ["bnd_a", "bnd_x"], PROFILE, 2) == ["bnd_a"]


async def test_what_bindings_lead_to(stage: BoundStage) -> None:
    secret = TargetSecret(target_key="place", name="client_id", value=b"sealed", updated_at=int(NOW))
    async with stage.database.write() as tx:
        await tx.add(secret)
    async with stage.database.write() as tx:
        found = await rows.connections(tx, ["con_place", "con_none", "con_other"], lock=True)
        assert [each.id for each in found] == ["con_other", "con_place"]
        assert [each.key for each in await rows.targets(tx, ["place", "none"], lock=True)] == ["place"]
        assert await rows.secret_names(tx, ["place", "other"]) == [("place", "client_id")]
        assert await rows.secret_types(tx, ["con_place"]) == []
        assert await rows.connections(tx, []) == []


async def test_sandboxes_of_a_version_come_page_by_page(stage: BoundStage) -> None:
    for sandbox_id, version in (("sbx_c", 1), ("sbx_a", 1), ("sbx_b", 2)):
        await stage.make_sandbox(sandbox_id, version)
    async with stage.database.read() as tx:
        assert await rows.sandboxes_of(tx, PROFILE, 1, "", 1) == ["sbx_a"]
        assert await rows.sandboxes_of(tx, PROFILE, 1, "sbx_a", 9) == ["sbx_c"]
