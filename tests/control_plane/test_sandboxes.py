"""Sandboxes and profiles: what they belong to, and what deleting leaves."""

import asyncio

import pytest

from control_plane import sandboxes
from control_plane.foundation import Foundation
from control_plane.plans import PlanDesk
from control_plane.refusals import Refused
from control_plane.signing import MAX_TTL_SECONDS
from control_plane.store import events
from tests.support.control_plane import NOW, ORGANIZATION, SANDBOX, sealed_plan


async def create(base: Foundation, **changes: object) -> dict[str, object]:
    arguments: dict[str, object] = {"sandbox_id": None, "profile_id": None, "version": None, "now": NOW}
    return await sandboxes.create_sandbox(base.database, ORGANIZATION, **(arguments | changes))  # type: ignore[arg-type]  # a table of arguments


async def profile(base: Foundation, organization_id: str = ORGANIZATION, versions: int = 1) -> str:
    made = await sandboxes.create_profile(base.database, organization_id, None, NOW)
    profile_id = str(made["sandboxProfileId"])
    for _ in range(versions):
        await sandboxes.create_version(base.database, profile_id, None, None, NOW)
    return profile_id


async def test_a_sandbox_is_of_its_profile_s_latest_version(base: Foundation) -> None:
    profile_id = await profile(base, versions=2)
    made = await create(base, profile_id=profile_id)
    assert made == {
        "sandboxId": made["sandboxId"],
        "organizationId": ORGANIZATION,
        "sandboxProfileId": profile_id,
        "version": 2,
        "status": "active",
        "createdAt": int(NOW),
    }
    assert (await create(base, profile_id=profile_id, version=1))["version"] == 1


async def test_profiles_that_do_not_fit(base: Foundation) -> None:
    foreign, empty, good = await profile(base, "org_two"), await profile(base, versions=0), await profile(base)
    for profile_id, version in (("sbp_none", None), (foreign, None), (empty, None), (good, 2)):
        with pytest.raises(Refused, match="profile_not_found"):
            await create(base, profile_id=profile_id, version=version)
    with pytest.raises(Refused, match="profile_not_found"):
        await sandboxes.create_version(base.database, "sbp_none", None, None, NOW)


async def test_versions_made_at_once_have_numbers_of_their_own(base: Foundation) -> None:
    profile_id = await profile(base, versions=0)
    async with asyncio.TaskGroup() as group:
        made = [
            group.create_task(sandboxes.create_version(base.database, profile_id, {"a": 1}, None, NOW))
            for _ in range(5)
        ]
    assert sorted(int(str(each.result()["version"])) for each in made) == [1, 2, 3, 4, 5]
    assert made[0].result()["image"] == {"a": 1}
    assert "egress" not in made[0].result()


async def test_an_id_is_given_once(base: Foundation) -> None:
    await create(base, sandbox_id=SANDBOX)
    with pytest.raises(Refused, match="already_exists"):
        await create(base, sandbox_id=SANDBOX)
    await sandboxes.delete_sandbox(base.database, SANDBOX, NOW)
    with pytest.raises(Refused, match="already_exists"):
        await create(base, sandbox_id=SANDBOX)


async def test_deleting_withdraws_the_plan_and_revokes_the_sandbox_once(base: Foundation) -> None:
    await create(base, sandbox_id=SANDBOX)
    await PlanDesk(base.database).put(SANDBOX, sealed_plan(), NOW)
    for _ in range(2):
        await sandboxes.delete_sandbox(base.database, SANDBOX, NOW)
    with pytest.raises(Refused, match="sandbox_not_found"):
        await sandboxes.get_sandbox(base.database, SANDBOX)
    with pytest.raises(Refused, match="sandbox_not_found"):
        await sandboxes.delete_sandbox(base.database, "sbx_none", NOW)
    async with base.database.read() as tx:
        kinds = [event.kind for event in await events.events_after(tx, 0, 10)]
        [revocation] = await events.revocations(tx, NOW)
    assert kinds == ["plan", "plan_removed", "revocation"]
    # As long as the longest token.
    assert (revocation.kind, revocation.id, revocation.until) == ("sandbox", SANDBOX, NOW + MAX_TTL_SECONDS)
