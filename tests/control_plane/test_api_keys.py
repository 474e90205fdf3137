import re

import pytest
from sqlalchemy import select

from control_plane import api_keys
from control_plane.api_keys import USED_SECONDS
from control_plane.callers import Caller, Role
from control_plane.foundation import Foundation
from control_plane.refusals import ControlCode, Refused
from control_plane.store.models import ApiKey
from tests.support.control_plane import NOW, ORGANIZATION


async def made(
    base: Foundation, role: Role = Role.MEMBER, organization_id: str | None = ORGANIZATION, ttl: int | None = None
) -> dict[str, object]:
    return await api_keys.create(
        base.database, role, organization_id, display_name="A", ttl_seconds=ttl, created_by="service:cli", now=NOW
    )


async def found(base: Foundation, key: object, now: float = NOW) -> Caller | None:
    return await api_keys.find_caller(base.database, str(key), now)


async def test_a_key_is_shown_once_and_kept_as_a_hash(base: Foundation) -> None:
    key = await made(base)
    assert re.fullmatch(r"sp_ak_[0-9a-f]{64}", str(key["key"]))
    shown = await api_keys.get(base.database, str(key["apiKeyId"]))
    assert shown == {name: value for name, value in key.items() if name != "key"}
    async with base.database.read() as tx:
        [row] = await tx.all(select(ApiKey))
    assert str(key["key"])[len(api_keys.PREFIX) :] not in repr(vars(row))


async def test_a_key_names_its_caller(base: Foundation) -> None:
    key = await made(base, ttl=60)
    caller = Caller(
        id=str(key["apiKeyId"]),
        roles=frozenset({Role.MEMBER}),
        organization_id=ORGANIZATION,
        expires_at=int(NOW) + 60,
    )
    assert await found(base, key["key"]) == caller
    assert await found(base, key["key"], NOW + 60) is None


@pytest.mark.parametrize("text", ["", "sp_ak_", "sp_ak_" + "0" * 64, "sp_ak_" + "g" * 64, "sp_ak_é", "sp_ak_\0"])
async def test_what_is_no_key(base: Foundation, text: str) -> None:
    await made(base)
    assert await found(base, text) is None


async def test_a_revoked_key_opens_nothing_at_once(base: Foundation) -> None:
    key = await made(base, Role.OPERATOR, None)
    for later in (1, 2):
        await api_keys.revoke(base.database, str(key["apiKeyId"]), NOW + later)
    assert await found(base, key["key"]) is None
    assert (await api_keys.get(base.database, str(key["apiKeyId"])))["revokedAt"] == int(NOW) + 1
    with pytest.raises(Refused) as caught:
        await api_keys.revoke(base.database, "key_none", NOW)
    assert caught.value.code is ControlCode.API_KEY_NOT_FOUND


async def test_use_is_remembered_by_the_hour(base: Foundation) -> None:
    key = await made(base)

    async def used_at(now: float) -> object:
        await found(base, key["key"], now)
        return (await api_keys.get(base.database, str(key["apiKeyId"])))["lastUsedAt"]

    assert await used_at(NOW) == int(NOW)
    assert await used_at(NOW + USED_SECONDS - 1) == int(NOW)
    assert await used_at(NOW + USED_SECONDS) == int(NOW) + USED_SECONDS


@pytest.mark.parametrize(
    ("role", "organization_id"), [(Role.MEMBER, None), (Role.OPERATOR, "org_one"), (Role.SERVICE, "org_one")]
)
async def test_an_organization_is_a_member_s(base: Foundation, role: Role, organization_id: str | None) -> None:
    with pytest.raises(Refused) as caught:
        await made(base, role, organization_id)
    assert [issue.pointer for issue in caught.value.issues] == ["/organizationId"]
