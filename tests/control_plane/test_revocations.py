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
