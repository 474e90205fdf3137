"""Made credentials are kept valid: by one replica at a time, ahead of their end, and through what providers do."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import select, update

from control_plane import keeper
from control_plane.connections import REFRESH_TOKEN
from control_plane.definitions.contract import MethodKind
from control_plane.foundation import Foundation
from control_plane.refusals import Refused
from control_plane.store import events
from control_plane.store.models import Connection, Credential, CredentialLease, Target
from tests.support.authorization_server import (
    ACCESS_KEY_ID,
    CLIENT_ID,
    CLIENT_SECRET,
    GARBAGE,
    HUGE,
    INSTALLATION,
    ROLE,
    SECRET_ACCESS_KEY,
    WRONG_TYPES,
    AuthorizationServer,
    Wrong,
    plain,
    refusal,
)
from tests.support.control_plane import CONNECTION
from tests.support.oauth_stage import APP, AWS, CLIENT, KEY, OAUTH, OAuthStage, typed

HOUR = 3600


async def in_use(stage: OAuthStage) -> str:
    connection_id = str((await stage.authorize())["connectionId"])
    await stage.use(connection_id, OAUTH)
    return connection_id


async def refused(stage: OAuthStage, connection_id: str, secret_type: str = OAUTH) -> str:
    with pytest.raises(Refused) as caught:
        await stage.resolve(connection_id, secret_type)
    assert "canary" not in caught.value.detail
    return caught.value.code.wire


async def told(base: Foundation) -> list[str]:
    async with base.database.read() as tx:
        return [event.kind for event in await events.events_after(tx, 0, 100)]


# --- ahead of the end -------------------------------------------------------------------------------------------------


async def test_a_valid_token_is_given_without_a_question(stage: OAuthStage) -> None:
    connection_id = await in_use(stage)
    answer = await stage.resolve(connection_id, OAUTH)
    given = {"kind": "value", "value": stage.server.issued[0], "expiresAt": int(stage.now) + HOUR}
    assert answer == given | {"version": answer["version"]}
    stage.now += HOUR - keeper.AHEAD_SECONDS - 1
    assert await stage.resolve(connection_id, OAUTH) == answer
    assert stage.server.asked["refresh_token"] == 0


async def test_what_the_operator_disabled_gives_nothing_though_it_is_valid(stage: OAuthStage) -> None:
    connection_id = await in_use(stage)
    async with stage.base.database.write() as tx:
        await tx.run(update(Target).values(enabled=False))
    assert await refused(stage, connection_id) == "connection_not_active"
    stage.now += HOUR
    assert await refused(stage, connection_id) == "connection_not_active"
    assert stage.server.asked["refresh_token"] == 0


async def test_a_token_is_refreshed_ahead_and_its_successor_by_the_rotated_token(stage: OAuthStage) -> None:
    connection_id = await in_use(stage)
    versions = set()
    for count in (1, 2, 3):
        stage.now += HOUR - keeper.AHEAD_SECONDS + 1
        answer = await stage.resolve(connection_id, OAUTH)
        versions.add(answer["version"])
        assert answer["value"] == stage.server.issued[count]
        assert answer["expiresAt"] == int(stage.now) + HOUR
        assert stage.server.asked["refresh_token"] == count
    assert len(versions) == 3


async def test_a_refresh_token_that_is_not_rotated_stays(stage: OAuthStage) -> None:
    stage.server.rotates = False
    connection_id = await in_use(stage)
    before = await stage.kept(connection_id, REFRESH_TOKEN)
    for _ in range(2):
        stage.now += HOUR
        await stage.resolve(connection_id, OAUTH)
    assert (await stage.kept(connection_id, REFRESH_TOKEN)).version == before.version


async def test_a_short_life_is_refreshed_at_its_half(stage: OAuthStage) -> None:
    stage.server.lifetime = 60
    connection_id = await in_use(stage)
    stage.now += 29
    await stage.resolve(connection_id, OAUTH)
    assert stage.server.asked["refresh_token"] == 0
    stage.now += 1
    assert (await stage.resolve(connection_id, OAUTH))["value"] == stage.server.issued[1]


async def test_without_an_end_nobody_is_asked(stage: OAuthStage) -> None:
    stage.server.lifetime = None
    connection_id = await in_use(stage)
    stage.now += 10**8
    assert "expiresAt" not in await stage.resolve(connection_id, OAUTH)
    assert stage.server.asked["refresh_token"] == 0


async def test_the_background_refreshes_what_is_in_use_and_nothing_else(stage: OAuthStage) -> None:
    used = await in_use(stage)
    unused = str((await stage.authorize())["connectionId"])
    stage.now += HOUR - keeper.AHEAD_SECONDS + 1
    await stage.keeper.refresh_due()
    await stage.keeper.refresh_due()
    assert stage.server.asked["refresh_token"] == 1
    assert (await stage.kept(used, OAUTH)).expires_at == int(stage.now) + HOUR
    assert (await stage.kept(unused, OAUTH)).expires_at == int(stage.now) + keeper.AHEAD_SECONDS - 1


async def test_the_background_keeps_a_client_s_token(stage: OAuthStage) -> None:
    await stage.connect(MethodKind.OAUTH2_CLIENT_CREDENTIALS, typed(CLIENT_SECRET, "client_secret"), clientId=CLIENT_ID)
    await stage.use(CONNECTION, CLIENT)
    first = await stage.resolve(CONNECTION, CLIENT)
    assert await stage.resolve(CONNECTION, CLIENT) == first
    stage.now += HOUR - 1
    await stage.keeper.refresh_due()
    assert stage.server.asked["client_credentials"] == 2
    assert (await stage.resolve(CONNECTION, CLIENT))["value"] == stage.server.issued[1]


async def test_the_background_goes_on_by_itself(stage: OAuthStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "EVERY_SECONDS", 0.001)
    await in_use(stage)
    stage.now += HOUR - 1
    task = asyncio.get_running_loop().create_task(stage.keeper.keep_fresh())
    await stage.server.arrival()  # of the code
    await stage.server.arrival()  # of the refresh
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


# --- one at a time ----------------------------------------------------------------------------------------------------


async def test_many_at_once_ask_once(stage: OAuthStage) -> None:
    connection_id = await in_use(stage)
    stage.now += HOUR + 1
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(stage.resolve(connection_id, OAUTH)) for _ in range(8)]
    assert {task.result()["value"] for task in asking} == {stage.server.issued[1]}
    assert stage.server.asked["refresh_token"] == 1


async def test_two_replicas_ask_once(stage: OAuthStage, provider: AuthorizationServer) -> None:
    connection_id = await in_use(stage)
    other = OAuthStage(stage.base, provider, owner="replica-2")
    other.now = stage.now = stage.now + HOUR + 1
    with provider.held():
        async with asyncio.TaskGroup() as group:
            await provider.arrival()  # of the code
            first = group.create_task(stage.resolve(connection_id, OAUTH))
            await provider.arrival()
            second = group.create_task(other.resolve(connection_id, OAUTH))
            # The lease is the first's; the second looks, finds it held, and waits.
            await asyncio.sleep(0)
            provider.release()
    assert first.result() == second.result()
    assert provider.asked["refresh_token"] == 1
    await other.session.close()


async def test_while_another_asks_the_valid_token_is_given_at_once(
    stage: OAuthStage, provider: AuthorizationServer
) -> None:
    connection_id = await in_use(stage)
    other = OAuthStage(stage.base, provider, owner="replica-2")
    other.now = stage.now = stage.now + HOUR - 60
    with provider.held():
        async with asyncio.TaskGroup() as group:
            await provider.arrival()  # of the code
            first = group.create_task(stage.resolve(connection_id, OAUTH))
            await provider.arrival()
            assert (await other.resolve(connection_id, OAUTH))["value"] == provider.issued[0]
            provider.release()
    assert first.result()["value"] == provider.issued[1]
    await other.session.close()


async def test_the_lease_of_one_who_died_ends(stage: OAuthStage, monkeypatch: pytest.MonkeyPatch) -> None:
    connection_id = await in_use(stage)
    stage.now += HOUR + 1
    async with stage.base.database.write() as tx:
        until = int(stage.now) + keeper.LEASE_SECONDS
        await tx.add(
            CredentialLease(connection_id=connection_id, secret_type=OAUTH, slot_key="", owner="dead", until=until)
        )
    monkeypatch.setattr(keeper, "WAIT_SECONDS", 0.0)
    assert await refused(stage, connection_id) == "refresh_failed_temporary"
    stage.now = until
    assert (await stage.resolve(connection_id, OAUTH))["value"] == stage.server.issued[1]


async def test_what_was_authorised_again_meanwhile_is_not_overwritten(
    stage: OAuthStage, provider: AuthorizationServer
) -> None:
    connection_id = await in_use(stage)
    await provider.arrival()
    stage.now += HOUR - 60
    provider.hold()
    async with asyncio.TaskGroup() as group:
        resolving = group.create_task(stage.resolve(connection_id, OAUTH))
        await provider.arrival()
        async with stage.base.database.write() as tx:
            row = await tx.get(Credential, (connection_id, OAUTH, ""))
            assert row is not None
            row.version, row.expires_at = "ver_newer", int(stage.now) + HOUR
        provider.release()
    assert resolving.result()["version"] == "ver_newer"


async def test_a_refusal_of_what_was_before_is_not_held_against_what_is(
    stage: OAuthStage, provider: AuthorizationServer
) -> None:
    connection_id = await in_use(stage)
    await provider.arrival()  # of the code
    stage.now += HOUR
    provider.hold()
    async with asyncio.TaskGroup() as group:
        resolving = group.create_task(stage.resolve(connection_id, OAUTH))
        await provider.arrival()
        async with stage.base.database.write() as tx:
            connection = await tx.get(Connection, connection_id)
            row = await tx.get(Credential, (connection_id, OAUTH, ""))
            assert connection is not None
            assert row is not None
            # As authorising it again leaves it.
            connection.revision += 1
            row.version, row.expires_at = "ver_newer", int(stage.now) + HOUR
        provider.forget_refresh_tokens()
        provider.release()
    assert resolving.result()["version"] == "ver_newer"
    assert (await stage.connection(connection_id)).status == "active"


async def test_what_was_made_of_an_old_secret_is_not_kept(stage: OAuthStage, provider: AuthorizationServer) -> None:
    await stage.connect(MethodKind.OAUTH2_CLIENT_CREDENTIALS, typed(CLIENT_SECRET, "client_secret"), clientId=CLIENT_ID)
    await stage.use(CONNECTION, CLIENT)
    provider.hold()
    async with asyncio.TaskGroup() as group:
        resolving = group.create_task(refused(stage, CONNECTION, CLIENT))
        await provider.arrival()
        await stage.desk.rotate(CONNECTION, [typed(CLIENT_SECRET, "client_secret")], stage.now)
        provider.release()
    assert resolving.result() == "refresh_failed_temporary"
    assert (await stage.resolve(CONNECTION, CLIENT))["value"] == provider.issued[1]


async def test_one_connection_s_defect_costs_no_other_its_token(stage: OAuthStage) -> None:
    broken, right = await in_use(stage), str((await stage.authorize())["connectionId"])
    await stage.use(right, OAUTH, sandbox_id="sbx_two")
    stage.now += HOUR - 1
    async with stage.base.database.write() as tx:
        row = await tx.get(Credential, (broken, REFRESH_TOKEN, ""))
        assert row is not None
        row.value = b"not what was sealed there, and long enough to look like it"
    await stage.keeper.refresh_due()
    assert stage.server.asked["refresh_token"] == 1
    assert (await stage.kept(right, OAUTH)).expires_at == int(stage.now) + HOUR


# --- when it fails ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)  # what a provider answers is the same for both
@pytest.mark.parametrize(
    "wrong",
    [plain(500), plain(429), plain(302), GARBAGE, HUGE, WRONG_TYPES, lambda: refusal("temporarily_unavailable")],
)
async def test_what_passes_leaves_the_valid_token_in_force(stage: OAuthStage, wrong: Wrong) -> None:
    connection_id = await in_use(stage)
    stage.now += HOUR - 60
    stage.server.misbehave(wrong)
    assert (await stage.resolve(connection_id, OAUTH))["value"] == stage.server.issued[0]
    stage.now += 61
    stage.server.misbehave(wrong)
    assert await refused(stage, connection_id) == "refresh_failed_temporary"
    assert (await stage.connection(connection_id)).status == "active"
    stage.now += keeper.PAUSE_SECONDS
    assert (await stage.resolve(connection_id, OAUTH))["value"] == stage.server.issued[-1]


async def test_after_a_failure_nobody_asks_for_a_while(stage: OAuthStage) -> None:
    connection_id = await in_use(stage)
    stage.now += HOUR
    stage.server.misbehave(plain(429, Retry_After="50"))
    for _ in range(3):
        assert await refused(stage, connection_id) == "refresh_failed_temporary"
    stage.now += 49
    assert await refused(stage, connection_id) == "refresh_failed_temporary"
    assert stage.server.asked["refresh_token"] == 0
    stage.now += 1
    await stage.resolve(connection_id, OAUTH)


@pytest.mark.parametrize("still_valid", [True, False])
async def test_what_was_withdrawn_puts_the_connection_out_of_service(stage: OAuthStage, still_valid: bool) -> None:
    connection_id = await in_use(stage)
    stage.server.forget_refresh_tokens()
    stage.now += HOUR - 60 if still_valid else HOUR
    before = len(await told(stage.base))
    assert await refused(stage, connection_id) == "refresh_failed_permanent"
    assert await refused(stage, connection_id) == "connection_not_active"
    connection = await stage.connection(connection_id)
    assert (connection.status, connection.error) == ("error", "the provider refused: invalid_grant")
    assert (await told(stage.base))[before:] == ["invalidation"]
    shown = await stage.desk.get(connection_id)
    assert shown["error"] == "the provider refused: invalid_grant"
    # Authorised again, it is the same connection.
    again = await stage.authorize(connection_id)
    assert (again["connectionId"], again["status"], "error" in again) == (connection_id, "active", False)
    assert (await stage.resolve(connection_id, OAUTH))["value"] == stage.server.issued[-1]


async def test_a_token_that_cannot_be_refreshed_ends(stage: OAuthStage) -> None:
    connection_id = await in_use(stage)
    async with stage.base.database.write() as tx:
        row = await tx.get(Credential, (connection_id, REFRESH_TOKEN, ""))
        assert row is not None
        await tx.delete(row)
    stage.now += HOUR
    assert await refused(stage, connection_id) == "refresh_failed_permanent"
    assert (await stage.connection(connection_id)).status == "error"


async def test_a_wrong_client_secret_is_for_the_member_to_mend(stage: OAuthStage) -> None:
    await stage.connect(MethodKind.OAUTH2_CLIENT_CREDENTIALS, typed("wrong", "client_secret"), clientId=CLIENT_ID)
    await stage.use(CONNECTION, CLIENT)
    assert await refused(stage, CONNECTION, CLIENT) == "refresh_failed_permanent"
    await stage.desk.rotate(CONNECTION, [typed(CLIENT_SECRET, "client_secret")], stage.now)
    stage.now += keeper.PAUSE_SECONDS
    assert (await stage.resolve(CONNECTION, CLIENT))["value"] == stage.server.issued[0]


# --- what else is made ------------------------------------------------------------------------------------------------


async def install(stage: OAuthStage) -> str:
    return await stage.connect(MethodKind.API_KEY, typed("key-a"), installationId=INSTALLATION)


async def test_an_installation_s_token_for_each_binding(stage: OAuthStage) -> None:
    await install(stage)
    await stage.use(CONNECTION, APP, "acme/one", "acme/two")
    await stage.use(CONNECTION, APP, "acme/three", sandbox_id="sbx_two")
    first = await stage.resolve(CONNECTION, APP)
    other = await stage.resolve(CONNECTION, APP, "sbx_two")
    assert [asked["repositories"] for asked in stage.server.seen] == [["one", "two"], ["three"]]
    assert first["value"] != other["value"]
    assert await stage.resolve(CONNECTION, APP) == first
    assert first["expiresAt"] == int(stage.now) + HOUR
    shown: Any = await stage.desk.get(CONNECTION)
    assert [each["secretType"] for each in shown["credentials"]] == [KEY]
    await stage.desk.rotate(CONNECTION, [typed("key-b")], stage.now)
    assert (await stage.resolve(CONNECTION, APP))["value"] != first["value"]


async def test_one_binding_s_fault_leaves_the_connection_alone(stage: OAuthStage) -> None:
    await install(stage)
    await stage.use(CONNECTION, APP, "acme/missing")
    await stage.use(CONNECTION, APP, sandbox_id="sbx_two")
    assert await refused(stage, CONNECTION, APP) == "refresh_failed_permanent"
    with pytest.raises(Refused, match="no repository is bound"):
        await stage.resolve(CONNECTION, APP, "sbx_two")
    assert (await stage.connection(CONNECTION)).status == "active"


async def test_keys_of_a_role_or_as_they_are(stage: OAuthStage) -> None:
    keys = [typed(ACCESS_KEY_ID, "access_key_id"), typed(SECRET_ACCESS_KEY, "secret_access_key")]
    await stage.connect(MethodKind.API_KEY, typed("key-a"), *keys)
    await stage.use(CONNECTION, AWS)
    static = await stage.resolve(CONNECTION, AWS)
    assert static == {
        "kind": "aws_session",
        "accessKeyId": ACCESS_KEY_ID,
        "secretAccessKey": SECRET_ACCESS_KEY,
        "version": static["version"],
    }
    await stage.desk.change(CONNECTION, config={"roleArn": ROLE}, now=stage.now)
    session = await stage.resolve(CONNECTION, AWS)
    assert session == {
        "kind": "aws_session",
        "accessKeyId": "ASIAsallyport",
        "secretAccessKey": "made",
        "sessionToken": stage.server.issued[-1],
        "expiresAt": int(stage.now) + 900,
        "version": session["version"],
    }
    assert await stage.resolve(CONNECTION, AWS) == session
    stage.now += 601
    assert (await stage.resolve(CONNECTION, AWS))["sessionToken"] != session["sessionToken"]


async def test_nothing_made_is_kept_in_the_clear(stage: OAuthStage) -> None:
    connection_id = await in_use(stage)
    async with stage.base.database.read() as tx:
        rows = await tx.all(select(Credential).where(Credential.connection_id == connection_id))
    assert sorted(row.secret_type for row in rows) == [REFRESH_TOKEN, OAUTH]
    assert all(stage.server.issued[0].encode() not in row.value for row in rows)
