"""Connections: encrypted, rotated, revoked; each change is told to the gateways."""

import pytest

from control_plane import sandboxes
from control_plane.app import Foundation
from control_plane.connections import ConnectionDesk, choose
from control_plane.plans import PlanDesk
from control_plane.refusals import Refused
from control_plane.store import connections as rows
from control_plane.store import events
from control_plane.store.models import Credential
from sallyport.secret import Secret
from tests.support.control_plane import CONNECTION, NOW, ORGANIZATION, SANDBOX, SECRET, TARGET, sealed_plan


@pytest.fixture
def desk(base: Foundation) -> ConnectionDesk:
    return ConnectionDesk(base.database, base.vault)


async def add(desk: ConnectionDesk, **changes: object) -> dict[str, object]:
    arguments: dict[str, object] = {
        "value": Secret(SECRET.encode()),
        "secret_type": "api_key",
        "slot_key": None,
        "connection_id": CONNECTION,
        "display_name": None,
        "now": NOW,
    }
    organization, target = changes.pop("organization", ORGANIZATION), changes.pop("target", TARGET)
    return await desk.add_api_key(str(target), str(organization), **(arguments | changes))  # type: ignore[arg-type]  # a table of arguments


async def told(base: Foundation) -> list[tuple[str, str]]:
    async with base.database.read() as tx:
        return [(event.kind, event.body) for event in await events.events_after(tx, 0, 100)]


INVALIDATION = ("invalidation", '{"kind":"connection","id":"con_one"}')


async def test_a_connection_is_shown_without_its_value(base: Foundation, desk: ConnectionDesk) -> None:
    made = await add(desk, display_name="Ours")
    version = made["credentials"][0]["version"]  # type: ignore[index]
    assert made == {
        "connectionId": CONNECTION,
        "targetKey": TARGET,
        "organizationId": ORGANIZATION,
        "status": "active",
        "displayName": "Ours",
        "secretType": "api_key",
        "credentials": [{"secretType": "api_key", "version": version, "updatedAt": int(NOW)}],
        "createdAt": int(NOW),
        "updatedAt": int(NOW),
    }
    assert await desk.get(CONNECTION) == made
    assert await desk.page(ORGANIZATION, "", 10) == [made]
    assert await desk.page("org_two", "", 10) == []
    async with base.database.read() as tx:
        [credential] = await rows.credentials(tx, [CONNECTION])
    assert SECRET.encode() not in credential.value


async def test_further_credentials_and_ids_that_are_taken(base: Foundation, desk: ConnectionDesk) -> None:
    await add(desk)
    both = await add(desk, slot_key="second")
    assert len(both["credentials"]) == 2  # type: ignore[arg-type]
    assert "secretType" not in both
    for changes in ({"slot_key": "second"}, {"organization": "org_two"}, {"target": "other"}):
        with pytest.raises(Refused, match="already_exists"):
            await add(desk, **changes)
    with pytest.raises(Refused, match="ambiguous_credential"):
        await desk.rotate_api_key(CONNECTION, value=Secret(b"x"), secret_type="api_key", slot_key=None, now=NOW)
    await desk.rotate_api_key(CONNECTION, value=Secret(b"x"), secret_type=None, slot_key="second", now=NOW)
    with pytest.raises(Refused, match="credential_not_found"):
        await desk.rotate_api_key(CONNECTION, value=Secret(b"x"), secret_type=None, slot_key="third", now=NOW)
    assert await told(base) == [INVALIDATION] * 3


async def test_rotation_gives_another_version_and_tells_it(base: Foundation, desk: ConnectionDesk) -> None:
    versions = {str((await add(desk))["credentials"])}
    for step in range(1, 4):
        rotated = await desk.rotate_api_key(CONNECTION, value=Secret(b"same"), secret_type=None, slot_key=None, now=NOW)
        versions.add(str(rotated["credentials"]))
        assert len(versions) == step + 1
    assert await told(base) == [INVALIDATION] * 4


async def test_a_faulty_connection_is_active_again_after_rotation(desk: ConnectionDesk) -> None:
    await add(desk)
    assert (await desk.change(CONNECTION, status="error", display_name=None, now=NOW))["status"] == "error"
    with pytest.raises(Refused, match="connection_not_active"):
        await add(desk, slot_key="second")
    rotated = await desk.rotate_api_key(CONNECTION, value=Secret(b"x"), secret_type=None, slot_key=None, now=NOW)
    assert rotated["status"] == "active"


async def test_revoking_is_for_good_and_forgets_the_secrets(base: Foundation, desk: ConnectionDesk) -> None:
    await add(desk)
    revoked = await desk.change(CONNECTION, status="revoked", display_name="Gone", now=NOW)
    assert (revoked["status"], revoked["displayName"], revoked["credentials"]) == ("revoked", "Gone", [])
    kinds = [kind for kind, _ in await told(base)]
    assert kinds == ["invalidation", "invalidation", "revocation"]
    with pytest.raises(Refused, match="connection_not_active"):
        await desk.change(CONNECTION, status="active", display_name=None, now=NOW)
    with pytest.raises(Refused, match="connection_not_active"):
        await desk.rotate_api_key(CONNECTION, value=Secret(b"x"), secret_type=None, slot_key=None, now=NOW)
    await desk.change(CONNECTION, status="revoked", display_name=None, now=NOW)
    assert len(await told(base)) == 3


async def test_renaming_tells_nobody(base: Foundation, desk: ConnectionDesk) -> None:
    await add(desk)
    await desk.change(CONNECTION, status="active", display_name="Other", now=NOW)
    assert await told(base) == [INVALIDATION]


async def test_a_connection_in_use_is_not_deleted(base: Foundation, desk: ConnectionDesk) -> None:
    await add(desk)
    await sandboxes.create_sandbox(
        base.database, ORGANIZATION, sandbox_id=SANDBOX, profile_id=None, version=None, now=NOW
    )
    plans = PlanDesk(base.database)
    await plans.put(SANDBOX, sealed_plan(1), NOW)
    with pytest.raises(Refused, match=f"connection_in_use.*{SANDBOX}"):
        await desk.remove(CONNECTION, NOW)
    await plans.put(SANDBOX, sealed_plan(2, routes=[]), NOW)
    await desk.remove(CONNECTION, NOW)
    with pytest.raises(Refused, match="connection_not_found"):
        await desk.get(CONNECTION)
    with pytest.raises(Refused, match="connection_not_found"):
        await desk.remove(CONNECTION, NOW)
    assert [kind for kind, _ in await told(base)][-2:] == ["invalidation", "revocation"]


def test_choosing() -> None:
    def credential(secret_type: str, slot_key: str) -> Credential:
        return Credential(secret_type=secret_type, slot_key=slot_key)

    one, two = credential("a", ""), credential("a", "s")
    assert choose([one], None, None) is one
    assert choose([one, two], "a", "s") is two
    assert choose([one, two], "a", "") is one
    for given, secret_type, slot in (([], None, None), ([one], "b", None), ([one], "a", "s")):
        with pytest.raises(Refused, match="credential_not_found"):
            choose(given, secret_type, slot)
    with pytest.raises(Refused, match="ambiguous_credential"):
        choose([one, two], "a", None)
