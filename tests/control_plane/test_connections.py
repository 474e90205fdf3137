"""Connections: encrypted, rotated, revoked; each change is told to the gateways."""

from typing import Any

import pytest
from sqlalchemy import select

from control_plane import sandboxes
from control_plane.connections import ConnectionDesk, Typed, choose
from control_plane.definitions.catalog import CATALOG
from control_plane.definitions.contract import MethodKind
from control_plane.definitions.registry import Registry
from control_plane.foundation import Foundation
from control_plane.plans import PlanDesk
from control_plane.refusals import Refused
from control_plane.store import connections as rows
from control_plane.store import events
from control_plane.store.models import Credential, Recompilation
from tests.support.control_plane import CONNECTION, NOW, ORGANIZATION, SANDBOX, SECRET, TARGET, sealed_plan
from tests.support.oauth_stage import VARIANT, OAuthStage, typed


@pytest.fixture
def desk(base: Foundation) -> ConnectionDesk:
    return ConnectionDesk(base.database, base.vault, Registry(CATALOG))


async def add(desk: ConnectionDesk, **changes: object) -> dict[str, object]:
    organization, target = changes.pop("organization", ORGANIZATION), changes.pop("target", TARGET)
    secret = typed(SECRET, slot_key=str(changes.pop("slot_key", "")))
    arguments: dict[str, object] = {"connection_id": CONNECTION, "for_operator": True, "now": NOW}
    return await desk.add(str(target), str(organization), MethodKind.API_KEY, [secret], **(arguments | changes))  # type: ignore[arg-type]  # a table of arguments


async def test_what_is_hand_made_is_the_operator_s_alone(desk: ConnectionDesk) -> None:
    with pytest.raises(Refused, match="target_not_found") as caught:
        await add(desk, for_operator=False)
    with pytest.raises(Refused, match="target_not_found") as unknown:
        await add(desk, for_operator=False, target="none")
    assert caught.value.detail == unknown.value.detail
    await add(desk)
    with pytest.raises(Refused, match="target_not_found"):
        await add(desk, for_operator=False, slot_key="second")


async def told(base: Foundation) -> list[tuple[str, str]]:
    async with base.database.read() as tx:
        return [(event.kind, event.body) for event in await events.events_after(tx, 0, 100)]


INVALIDATION = ("invalidation", '{"kind":"connection","id":"con_one","organizationId":"org_one"}')


async def test_a_connection_is_shown_without_its_value(base: Foundation, desk: ConnectionDesk) -> None:
    made = await add(desk, display_name="Ours")
    version = made["credentials"][0]["version"]  # type: ignore[index]
    assert made == {
        "connectionId": CONNECTION,
        "targetKey": TARGET,
        "organizationId": ORGANIZATION,
        "status": "active",
        "method": "api-key",
        "revision": 1,
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
    for changes in ({"slot_key": "second"}, {"organization": "org_two"}):
        with pytest.raises(Refused, match="already_exists"):
            await add(desk, **changes)
    with pytest.raises(Refused, match="target_not_found"):
        await add(desk, target="other")
    with pytest.raises(Refused, match="ambiguous_credential"):
        await desk.only(CONNECTION, "api_key", None)
    assert await desk.only(CONNECTION, None, "second") == ("api_key", "second")
    await desk.rotate(CONNECTION, [typed("x", slot_key="second")], NOW)
    with pytest.raises(Refused, match="credential_not_found"):
        await desk.rotate(CONNECTION, [typed("x", slot_key="third")], NOW)
    assert await told(base) == [INVALIDATION] * 3


async def test_rotation_gives_another_version_and_tells_it(base: Foundation, desk: ConnectionDesk) -> None:
    versions = {str((await add(desk))["credentials"])}
    for step in range(1, 4):
        rotated = await desk.rotate(CONNECTION, [typed("same")], NOW)
        versions.add(str(rotated["credentials"]))
        assert len(versions) == step + 1
    assert await told(base) == [INVALIDATION] * 4


async def test_a_faulty_connection_is_active_again_after_rotation(desk: ConnectionDesk) -> None:
    await add(desk)
    assert (await desk.change(CONNECTION, status="error", now=NOW))["status"] == "error"
    with pytest.raises(Refused, match="connection_not_active"):
        await add(desk, slot_key="second")
    rotated = await desk.rotate(CONNECTION, [typed("x")], NOW)
    assert rotated["status"] == "active"


async def test_revoking_is_for_good_and_forgets_the_secrets(base: Foundation, desk: ConnectionDesk) -> None:
    await add(desk)
    revoked = await desk.change(CONNECTION, status="revoked", display_name="Gone", now=NOW)
    assert (revoked["status"], revoked["displayName"], revoked["credentials"]) == ("revoked", "Gone", [])
    events = await told(base)
    assert [kind for kind, _ in events] == ["invalidation", "invalidation", "revocation"]
    # Gateways may serve another organization's connection of this id, under another control plane's plans.
    assert all('"organizationId":"org_one"' in body for _, body in events)
    with pytest.raises(Refused, match="connection_not_active"):
        await desk.change(CONNECTION, status="active", now=NOW)
    with pytest.raises(Refused, match="connection_not_active"):
        await desk.rotate(CONNECTION, [typed("x")], NOW)
    await desk.change(CONNECTION, status="revoked", now=NOW)
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


# --- by a definition --------------------------------------------------------------------------------------------------


async def connect(stage: OAuthStage, *secrets: Typed, **fields: Any) -> dict[str, Any]:  # noqa: ANN401  a table of arguments
    kind = fields.pop("method", MethodKind.API_KEY)
    given: dict[str, Any] = {"connection_id": CONNECTION, "for_operator": False, "now": NOW} | fields
    return dict(await stage.desk.add(VARIANT, ORGANIZATION, kind, secrets, **given))


def issues_of(caught: pytest.ExceptionInfo[Refused]) -> list[tuple[str, str]]:
    assert not any("canary" in issue.message for issue in caught.value.issues)
    return sorted((issue.code, issue.pointer) for issue in caught.value.issues)


async def test_secrets_and_configuration_are_checked_by_the_definition(stage: OAuthStage) -> None:
    with pytest.raises(Refused) as caught:
        await connect(stage, typed("CANARY canary"), typed("x", "other"))
    assert issues_of(caught) == [("malformed", "/secrets/api_key"), ("unknown_value", "/secrets/other")]
    with pytest.raises(Refused) as caught:
        await connect(stage, typed("x", "access_key_id"))
    assert issues_of(caught) == [("missing_field", "/secrets/api_key")]
    with pytest.raises(Refused) as caught:
        await connect(stage, typed("key-a"), config={"note": 7, "x": "canary"})
    assert issues_of(caught) == [("unknown_field", "/config/x"), ("wrong_type", "/config/note")]
    made = await connect(stage, typed("key-a"), typed("id", "access_key_id"), config={"note": "w"})
    assert (made["method"], made["config"]) == ("api-key", {"note": "w"})
    assert [each["secretType"] for each in made["credentials"]] == ["access_key_id", "api_key"]
    added = await connect(stage, typed("s", "secret_access_key"))
    assert (added["revision"], len(added["credentials"])) == (2, 3)
    with pytest.raises(Refused) as caught:
        await connect(stage, typed("s", "app_id"), config={})
    assert issues_of(caught) == [("unknown_field", "/config")]


async def test_what_the_provider_says_no_member_writes(stage: OAuthStage) -> None:
    """An account's id decides whose tokens are made; one that a member could write would let him in at another's."""
    with pytest.raises(Refused) as caught:
        await connect(stage, typed("key-a"), config={"workspace": "ws_2", "note": 7})
    assert issues_of(caught) == [("malformed", "/config/workspace"), ("wrong_type", "/config/note")]
    connection_id = str((await stage.authorize())["connectionId"])
    with pytest.raises(Refused) as caught:
        await stage.desk.change(connection_id, config={"workspace": "ws_2"}, now=NOW)
    assert issues_of(caught) == [("malformed", "/config/workspace")]
    kept = await stage.desk.change(connection_id, config={"note": "n"}, now=NOW)
    assert kept["config"] == {"note": "n", "workspace": "ws_1"}
    same = await stage.desk.change(connection_id, config={"workspace": "ws_1"}, now=NOW)
    assert same["config"] == {"workspace": "ws_1"}


async def test_several_secrets_are_rotated_at_once_or_not_at_all(stage: OAuthStage) -> None:
    made = await connect(stage, typed("key-a"), typed("id", "access_key_id"))
    with pytest.raises(Refused) as caught:
        await stage.desk.rotate(CONNECTION, [typed("id2", "access_key_id"), typed("wrong")], NOW)
    assert issues_of(caught) == [("malformed", "/secrets/api_key")]
    assert (await stage.desk.get(CONNECTION))["credentials"] == made["credentials"]
    rotated: Any = await stage.desk.rotate(CONNECTION, [typed("id2", "access_key_id"), typed("key-b")], NOW)
    versions = {each["version"] for each in (*made["credentials"], *rotated["credentials"])}
    assert len(versions) == 4


async def test_methods_that_are_not_offered_or_keep_nothing(stage: OAuthStage) -> None:
    for kind in (MethodKind.GITHUB_APP_INSTALLATION, MethodKind.OAUTH2_AUTHORIZATION_CODE):
        with pytest.raises(Refused) as caught:
            await connect(stage, typed("s", "app_id"), method=kind)
        assert issues_of(caught) == [("unknown_value", "/secrets/app_id")]
    with pytest.raises(Refused, match=r"method_not_offered.*api-key"):
        await connect(stage, method=MethodKind.REDIRECT)
    made = await stage.authorize()
    with pytest.raises(Refused, match="invalid_request"):
        await stage.desk.rotate(str(made["connectionId"]), [typed("x", "oauth2_access_token")], NOW)
    with pytest.raises(Refused, match="credential_not_found"):
        await stage.desk.only(str(made["connectionId"]), "_refresh_token", None)


async def test_an_edit_of_another_revision_is_refused(stage: OAuthStage) -> None:
    made = await connect(stage, typed("key-a"))
    first = await stage.desk.change(CONNECTION, config={"note": "a"}, revision=made["revision"], now=NOW)
    with pytest.raises(Refused, match="revision_conflict"):
        await stage.desk.change(CONNECTION, config={"note": "b"}, revision=made["revision"], now=NOW)
    assert first["config"] == {"note": "a"}
    assert await stage.desk.get(CONNECTION) == first


async def test_what_depends_on_a_change_is_compiled_anew(stage: OAuthStage) -> None:
    async def asked() -> int:
        async with stage.base.database.read() as tx:
            return sum(row.requests for row in await tx.all(select(Recompilation)))

    await connect(stage, typed("key-a"))
    await stage.use(CONNECTION, "api_key")
    await stage.desk.rotate(CONNECTION, [typed("key-b")], NOW)
    await stage.desk.change(CONNECTION, display_name="Other", config={}, now=NOW)
    assert await asked() == 0
    await stage.desk.change(CONNECTION, config={"note": "b"}, now=NOW)
    assert await asked() == 1
    await stage.desk.change(CONNECTION, status="error", now=NOW)
    assert await asked() == 2
    await stage.desk.rotate(CONNECTION, [typed("key-c")], NOW)
    assert await asked() == 3


async def test_a_bound_connection_is_not_deleted(stage: OAuthStage) -> None:
    await connect(stage, typed("key-a"))
    await stage.use(CONNECTION, "api_key")
    with pytest.raises(Refused, match=r"connection_in_use.*sbp_sbx_one 1"):
        await stage.desk.remove(CONNECTION, NOW)


async def test_a_connection_for_a_hand_made_plan_has_no_configuration(desk: ConnectionDesk) -> None:
    with pytest.raises(Refused) as caught:
        await add(desk, config={"note": "w"})
    assert issues_of(caught) == [("unknown_field", "/config")]
