"""Targets as they are changed: by revision, whole, and told to whoever depends on them."""

from collections.abc import Awaitable

import pytest
from sqlalchemy import select

from control_plane.connections import HAND_MADE
from control_plane.foundation import Foundation
from control_plane.offered import open_target_secret
from control_plane.refusals import Refused
from control_plane.store.models import Connection, Event
from control_plane.targets import Changes, TargetDesk
from tests.support.control_plane import NOW, ORGANIZATION, SECRET
from tests.support.definitions import registry

GOOD = {"baseUrl": "https://forge.example"}
KEY = "forge-two"


@pytest.fixture
async def desk(base: Foundation) -> TargetDesk:
    made = TargetDesk(base.database, base.vault, registry())
    await made.create(KEY, "forge", "forge-server", Changes(config=GOOD), NOW)
    return made


async def refused(asked: Awaitable[object]) -> tuple[str, list[str]]:
    with pytest.raises(Refused) as caught:
        await asked
    assert SECRET not in repr([caught.value, caught.value.detail, *caught.value.issues])
    return caught.value.code.wire, [issue.pointer for issue in caught.value.issues]


async def test_a_further_target_of_a_variant(desk: TargetDesk) -> None:
    shown = await desk.get(KEY, for_operator=True)
    assert (shown["enabled"], shown["revision"], shown["config"]) == (False, 1, GOOD)
    again = desk.create(KEY, "forge", "forge-server", Changes(config=GOOD), NOW)
    assert await refused(again) == ("already_exists", [])
    kept = desk.create(HAND_MADE, "forge", "forge-server", Changes(config=GOOD), NOW)
    assert await refused(kept) == ("already_exists", [])
    assert await refused(desk.create("x", "forge", "none", Changes(), NOW)) == ("invalid_request", ["/variantId"])
    assert await refused(desk.create("x", "forge", "forge-server", Changes(config={"y": 1}), NOW)) == (
        "invalid_request",
        ["/config/baseUrl", "/config/y"],
    )


async def test_a_change_is_made_to_what_was_read(desk: TargetDesk) -> None:
    changed = await desk.change(KEY, 1, Changes(enabled=True, overrides={"displayName": "Two"}), NOW + 5)
    assert (changed["enabled"], changed["displayName"], changed["revision"]) == (True, "Two", 2)
    assert changed["updatedAt"] == int(NOW) + 5
    assert await refused(desk.change(KEY, 1, Changes(enabled=False), NOW)) == ("revision_conflict", [])
    cleared = await desk.change(KEY, 2, Changes(clear=["displayName"]), NOW)
    assert (cleared["displayName"], cleared["revision"]) == ("Forge", 3)
    assert await refused(desk.change("none", 1, Changes(), NOW)) == ("target_not_found", [])


async def test_what_is_enabled_has_a_valid_configuration(desk: TargetDesk) -> None:
    faulty = Changes(enabled=True, config={"baseUrl": "http://forge.example"})
    assert await refused(desk.change(KEY, 1, faulty, NOW)) == ("invalid_request", ["/config/baseUrl"])
    assert (await desk.get(KEY, for_operator=True))["config"] == GOOD


async def test_secrets_are_sealed_and_forgotten(base: Foundation, desk: TargetDesk) -> None:
    shown = await desk.put_secrets(KEY, 1, {"clientId": "id", "clientSecret": SECRET}, [], NOW)
    assert SECRET not in repr(shown)
    async with base.database.read() as tx:
        opened = await open_target_secret(tx, base.vault, KEY, "client_secret")
    assert opened is not None
    assert opened.reveal().decode() == SECRET
    await desk.put_secrets(KEY, 2, {"clientSecret": "another"}, ["clientId"], NOW)
    async with base.database.read() as tx:
        assert await open_target_secret(tx, base.vault, KEY, "client_id") is None
        another = await open_target_secret(tx, base.vault, KEY, "client_secret")
    assert another is not None
    assert another.reveal() == b"another"


async def test_faulty_secrets_are_told_whole_and_without_their_values(desk: TargetDesk) -> None:
    given = {"clientId": f" {SECRET}", "clientSecret": [SECRET], "other": SECRET}
    found = await refused(desk.put_secrets(KEY, 1, given, ["none", "clientId"], NOW))
    assert found[0] == "invalid_request"
    assert sorted(found[1]) == ["/clear/0", "/clear/1", "/set/clientId", "/set/clientSecret", "/set/other"]
    assert await refused(desk.put_secrets(KEY, 7, {}, [], NOW)) == ("revision_conflict", [])


async def test_what_gateways_have_is_asked_for_again(base: Foundation, desk: TargetDesk) -> None:
    await desk.change(KEY, 1, Changes(overrides={"logoKey": "other"}), NOW)
    async with base.database.read() as tx:
        assert await tx.all(select(Event)) == []
    await desk.change(KEY, 2, Changes(enabled=True), NOW)
    async with base.database.read() as tx:
        [event] = await tx.all(select(Event))
    assert (event.kind, event.body) == ("invalidation", '{"kind":"all"}')


async def test_a_target_in_use_stays(base: Foundation, desk: TargetDesk) -> None:
    connection = Connection(
        id="con_1",
        organization_id=ORGANIZATION,
        target_key=KEY,
        display_name=None,
        status="active",
        created_at=1,
        updated_at=1,
    )
    async with base.database.write() as tx:
        await tx.add(connection)
    await desk.put_secrets(KEY, 1, {"clientId": "id"}, [], NOW)
    assert await refused(desk.remove(KEY)) == ("target_in_use", [])
    async with base.database.write() as tx:
        await tx.delete(connection)
    await desk.remove(KEY)
    assert await refused(desk.remove(KEY)) == ("target_not_found", [])


async def test_members_see_what_is_enabled(desk: TargetDesk) -> None:
    assert await desk.page("", 10, for_operator=False) == []
    assert [each["targetKey"] for each in await desk.page("", 10, for_operator=True)] == [KEY]
    assert await refused(desk.get(KEY, for_operator=False)) == ("target_not_found", [])
    await desk.change(KEY, 1, Changes(enabled=True), NOW)
    assert [each["targetKey"] for each in await desk.page("", 10, for_operator=False)] == [KEY]
    assert "secrets" not in await desk.get(KEY, for_operator=False)
