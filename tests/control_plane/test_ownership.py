"""What a bound caller may name; that every endpoint is behind it is tested in api/test_caller.py."""

import pytest

from control_plane import sandboxes
from control_plane.callers import Caller, Role
from control_plane.foundation import Foundation
from control_plane.ownership import own_organization, refuse_foreign
from control_plane.refusals import Refused
from tests.support.control_plane import NOW, ORGANIZATION, SANDBOX

MEMBER = Caller(id="key_1", roles=frozenset({Role.MEMBER}), organization_id=ORGANIZATION)
OPERATOR = Caller(id="key_2", roles=frozenset({Role.OPERATOR}))


@pytest.mark.parametrize(
    ("named", "refused"),
    [
        (("sandbox_id", SANDBOX), None),
        (("sandboxId", "sbx_foreign"), "sandbox_not_found"),
        (("sandbox_id", "sbx_none"), "sandbox_not_found"),
        (("connectionId", "con_none"), "connection_not_found"),
        (("profile_id", "sbp_none"), "profile_not_found"),
        (("sandbox_id", "a\0"), "invalid_request"),
        (("sandbox_id", ""), "invalid_request"),
        (("target_key", "anything"), None),
    ],
)
async def test_only_its_own_things(base: Foundation, named: tuple[str, str], refused: str | None) -> None:
    for organization_id, sandbox_id in ((ORGANIZATION, SANDBOX), ("org_two", "sbx_foreign")):
        await sandboxes.create_sandbox(
            base.database, organization_id, sandbox_id=sandbox_id, profile_id=None, version=None, now=NOW
        )
    await refuse_foreign(base.database, OPERATOR, [named])
    if refused is None:
        await refuse_foreign(base.database, MEMBER, [named])
        return
    with pytest.raises(Refused) as caught:
        await refuse_foreign(base.database, MEMBER, [named])
    assert caught.value.code.wire == refused


def test_only_its_own_organization() -> None:
    assert own_organization(MEMBER, None) == ORGANIZATION
    assert own_organization(MEMBER, ORGANIZATION) == ORGANIZATION
    assert own_organization(OPERATOR, None) is None
    assert own_organization(OPERATOR, "org_two") == "org_two"
    with pytest.raises(Refused, match="another organization"):
        own_organization(MEMBER, "org_two")
