import orjson
import pytest

from control_plane import revocations
from control_plane.foundation import Foundation
from control_plane.refusals import Refused
from control_plane.revocations import MAX_SECONDS
from control_plane.store import events
from tests.support.control_plane import NOW


async def test_a_revocation_lasts_until_its_instant_and_is_never_shortened(base: Foundation) -> None:
    until = int(NOW) + 100
    for each in (until, until - 50):
        await revocations.revoke(base.database, "jti", "jti_1", each, NOW)
    async with base.database.read() as tx:
        assert await events.is_revoked(tx, [("sid", "jti_1"), ("jti", "jti_1")], until - 1) == "jti"
        assert await events.is_revoked(tx, [("jti", "jti_1")], until) is None
        assert [row.until for row in await events.revocations(tx, NOW)] == [until]
        assert [event.kind for event in await events.events_after(tx, 0, 9)] == ["revocation"] * 2


@pytest.mark.parametrize("until", [int(NOW), int(NOW) - 1, int(NOW) + MAX_SECONDS + 1, int(NOW) * 1000])
async def test_instants_that_are_slips(base: Foundation, until: int) -> None:
    with pytest.raises(Refused) as caught:
        await revocations.revoke(base.database, "jti", "jti_1", until, NOW)
    assert [issue.pointer for issue in caught.value.issues] == ["/until"]


async def test_a_binding_of_one_organization_is_nobody_else_s(base: Foundation) -> None:
    until = int(NOW) + 100
    made = await revocations.revoke(base.database, "binding", "bnd_1", until, NOW, "org_1")
    assert made == {"kind": "binding", "id": "bnd_1", "until": until, "organizationId": "org_1"}
    async with base.database.read() as tx:
        named = [("binding", "bnd_1")]
        assert await events.is_revoked(tx, named, NOW, "org_1") == "binding"
        assert await events.is_revoked(tx, named, NOW, "org_2") is None
        [event] = await events.events_after(tx, 0, 9)
        assert orjson.loads(event.body) == made
    await revocations.revoke(base.database, "binding", "bnd_1", until - 50, NOW)
    async with base.database.read() as tx:
        assert await events.is_revoked(tx, named, NOW, "org_2") == "binding"
        assert await events.is_revoked(tx, named, until - 50, "org_2") is None
        assert await events.is_revoked(tx, named, until - 50, "org_1") == "binding"
        assert [row.organization_id for row in await events.revocations(tx, NOW)] == ["", "org_1"]


async def test_what_has_its_id_for_itself_is_of_no_organization(base: Foundation) -> None:
    with pytest.raises(Refused) as caught:
        await revocations.revoke(base.database, "sandbox", "sbx_1", int(NOW) + 9, NOW, "org_1")
    assert [issue.pointer for issue in caught.value.issues] == ["/organizationId"]
