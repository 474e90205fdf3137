"""The way to a provider and back: once, in time, by whoever began it, with PKCE."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import delete, select, update

from control_plane.authorizations import STATE_SECONDS, AuthorizationDesk, Began, Wanted
from control_plane.connections import REFRESH_TOKEN
from control_plane.definitions.contract import MethodKind
from control_plane.definitions.registry import Registry
from control_plane.foundation import Foundation
from control_plane.refusals import Refused
from control_plane.store.models import AuthorizationSession, Credential, Recompilation, Target, TargetSecret
from tests.support.authorization_server import GARBAGE, INSTALLATION, plain
from tests.support.control_plane import CONNECTION, ORGANIZATION
from tests.support.oauth_stage import KEY, OAUTH, PUBLIC_URL, VARIANT, OAuthStage, acme, browse, typed

WANTED = Wanted(VARIANT, ORGANIZATION, None, "Ours", None, "cli")


async def refused(stage: OAuthStage, state: str, code: str, began: Began | None = None) -> str:
    with pytest.raises(Refused) as caught:
        await stage.authorizations.complete_oauth(state, code, stage.now, began)
    assert "canary" not in caught.value.detail
    return caught.value.code.wire


async def sessions(base: Foundation) -> list[AuthorizationSession]:
    async with base.database.read() as tx:
        return list(await tx.all(select(AuthorizationSession)))


# --- authorization codes ----------------------------------------------------------------------------------------------


async def test_there_and_back_makes_a_connection(stage: OAuthStage) -> None:
    started = await stage.authorizations.start_oauth(WANTED, stage.now)
    assert started["expiresAt"] == int(stage.now) + STATE_SECONDS
    query = {name: values[0] for name, values in parse_qs(urlsplit(str(started["authorizationUrl"])).query).items()}
    assert query["redirect_uri"] == PUBLIC_URL + "/p/integration/oauth/callback"
    assert (query["v"], query["scope"], query["prompt"]) == ("2", "read write", "consent")
    assert query["state"] == started["state"] != "never this"
    back = await browse(stage.server, str(started["authorizationUrl"]))
    made: Any = await stage.authorizations.complete_oauth(back["state"], back["code"], stage.now)
    assert made["status"] == "active"
    assert made["method"] == "oauth2-authorization-code"
    assert made["displayName"] == "Ours"
    assert made["config"] == {"workspace": "ws_1"}  # as the provider's answer had it
    [shown] = made["credentials"]
    assert (shown["secretType"], shown["expiresAt"]) == (OAUTH, int(stage.now) + 3600)
    assert await sessions(stage.base) == []


async def test_neither_state_nor_verifier_is_kept_in_the_clear(stage: OAuthStage) -> None:
    started = await stage.authorizations.start_oauth(WANTED, stage.now)
    back = await browse(stage.server, str(started["authorizationUrl"]))
    [session] = await sessions(stage.base)
    assert str(started["state"]) not in str(vars(session))
    await stage.authorizations.complete_oauth(back["state"], back["code"], stage.now)
    verifier = stage.server.seen[-1]["code_verifier"]
    assert session.verifier is not None
    assert verifier.encode() not in session.verifier


async def test_a_state_is_used_once_whatever_comes_of_it(stage: OAuthStage) -> None:
    state, code = await stage.visit()
    stage.server.misbehave(plain(503))
    assert await refused(stage, state, code) == "provider_unavailable"
    assert await refused(stage, state, code) == "authorization_refused"
    state, code = await stage.visit()
    await stage.authorizations.complete_oauth(state, code, stage.now)
    assert await refused(stage, state, code) == "authorization_refused"
    assert await refused(stage, "made-up", code) == "authorization_refused"
    assert stage.server.asked["authorization_code"] == 1


async def test_a_state_ends(stage: OAuthStage) -> None:
    state, code = await stage.visit()
    stage.now += STATE_SECONDS
    assert await refused(stage, state, code) == "authorization_refused"
    assert stage.server.asked["authorization_code"] == 0


@pytest.mark.parametrize("began", [Began("other", ORGANIZATION), Began(VARIANT, "org_two")])
async def test_by_api_only_who_began_comes_back(stage: OAuthStage, began: Began) -> None:
    state, code = await stage.visit()
    assert await refused(stage, state, code, began) == "authorization_refused"
    state, code = await stage.visit()
    await stage.authorizations.complete_oauth(state, code, stage.now, Began(VARIANT, ORGANIZATION))


async def test_what_the_provider_says_of_a_code(stage: OAuthStage) -> None:
    state, _ = await stage.visit()
    assert await refused(stage, state, "another-code") == "authorization_refused"
    state, code = await stage.visit()
    stage.server.misbehave(GARBAGE)
    assert await refused(stage, state, code) == "provider_unavailable"
    stage.server.denies = True
    started = await stage.authorizations.start_oauth(WANTED, stage.now)
    back = await browse(stage.server, str(started["authorizationUrl"]))
    told = await stage.authorizations.give_up(back["state"], back["error"], stage.now)
    assert told.detail == "the provider refused: access_denied"
    assert await sessions(stage.base) == []


async def test_what_came_back_has_to_fit(stage: OAuthStage) -> None:
    stage.server.workspace = 7  # type: ignore[assignment]
    state, code = await stage.visit()
    with pytest.raises(Refused) as caught:
        await stage.authorizations.complete_oauth(state, code, stage.now)
    assert [issue.pointer for issue in caught.value.issues] == ["/config/workspace"]


async def test_a_connection_is_authorised_again(stage: OAuthStage) -> None:
    await stage.connect(MethodKind.API_KEY, typed("key-a"))
    await stage.use(CONNECTION, OAUTH)
    before = await stage.connection(CONNECTION)
    made = await stage.authorize(CONNECTION)
    assert (made["connectionId"], made["method"]) == (CONNECTION, "oauth2-authorization-code")
    assert made["revision"] == before.revision + 1
    async with stage.base.database.read() as tx:
        rows = await tx.all(select(Credential.secret_type).where(Credential.connection_id == CONNECTION))
        assert sorted(rows) == [REFRESH_TOKEN, OAUTH]  # and the key no more
        assert KEY not in rows
        assert [each.profile_id for each in await tx.all(select(Recompilation))] == ["sbp_sbx_one"]


async def test_only_one_s_own_connection_is_authorised_again(stage: OAuthStage) -> None:
    await stage.connect(MethodKind.API_KEY, typed("key-a"))
    known = WANTED._replace(connection_id=CONNECTION)
    for wanted in (known._replace(connection_id="con_none"), known._replace(organization_id="org_two")):
        with pytest.raises(Refused, match="connection_not_found"):
            await stage.authorizations.start_oauth(wanted, stage.now)
    state, code = await stage.visit(CONNECTION)
    await stage.desk.change(CONNECTION, status="revoked", now=stage.now)
    assert await refused(stage, state, code) == "connection_not_active"
    with pytest.raises(Refused, match="connection_not_active"):
        await stage.visit(CONNECTION)


async def test_a_connection_that_was_deleted_meanwhile(stage: OAuthStage) -> None:
    await stage.connect(MethodKind.API_KEY, typed("key-a"))
    state, code = await stage.visit(CONNECTION)
    await stage.desk.remove(CONNECTION, stage.now)
    assert await refused(stage, state, code) == "connection_not_found"


async def test_what_the_operator_does_not_offer(stage: OAuthStage) -> None:
    state, code = await stage.visit()
    with pytest.raises(Refused) as caught:
        await stage.authorizations.start_oauth(WANTED._replace(config={"other": 1, "scopes": 7}), stage.now)
    assert sorted(issue.pointer for issue in caught.value.issues) == ["/config/other", "/config/scopes"]
    async with stage.base.database.write() as tx:
        await tx.run(delete(TargetSecret))
    with pytest.raises(Refused, match="target_not_ready"):
        await stage.authorizations.start_oauth(WANTED, stage.now)
    async with stage.base.database.write() as tx:
        await tx.run(update(Target).values(enabled=False))
    assert await refused(stage, state, code) == "target_disabled"
    with pytest.raises(Refused, match="target_disabled"):
        await stage.authorizations.start_oauth(WANTED, stage.now)


async def test_what_the_integration_does_not_offer(stage: OAuthStage) -> None:
    bare = Registry([acme(connection_methods=[], redirect_handler=None)])
    desk = AuthorizationDesk(stage.base.database, stage.base.vault, bare, stage.session, PUBLIC_URL)
    for start in (desk.start_oauth, desk.start_redirect):
        with pytest.raises(Refused, match="method_not_offered"):
            await start(WANTED, stage.now)


# --- redirects --------------------------------------------------------------------------------------------------------


async def redirected(stage: OAuthStage, organization_id: str = ORGANIZATION, connection_id: str | None = None) -> str:
    wanted = WANTED._replace(organization_id=organization_id, connection_id=connection_id)
    started = await stage.authorizations.start_redirect(wanted, stage.now)
    url = urlsplit(str(started["authorizationUrl"]))
    assert url.path == "/install"
    assert parse_qs(url.query) == {"custom_state": [started["state"]]}
    return str(started["state"])


async def test_a_redirect_makes_a_connection(stage: OAuthStage) -> None:
    state = await redirected(stage)
    query = {"custom_state": state, "installation_id": INSTALLATION, "setup_action": "install"}
    assert stage.authorizations.state_of(query) == state
    assert stage.authorizations.state_of({"state": "x"}) is None
    made: Any = await stage.authorizations.complete_redirect(state, query, stage.now)
    assert (made["method"], made["config"]) == ("github-app-installation", {"installationId": INSTALLATION})
    with pytest.raises(Refused, match="authorization_refused"):
        await stage.authorizations.complete_redirect(state, query, stage.now)
    again = await redirected(stage, connection_id=made["connectionId"])
    changed = await stage.authorizations.complete_redirect(again, query | {"installation_id": "8"}, stage.now)
    assert (changed["connectionId"], changed["config"]) == (made["connectionId"], {"installationId": "8"})


async def test_a_redirect_s_issues_are_told(stage: OAuthStage) -> None:
    state = await redirected(stage)
    with pytest.raises(Refused, match="authorization_refused") as caught:
        await stage.authorizations.complete_redirect(state, {"installation_id": "x"}, stage.now)
    assert [issue.code for issue in caught.value.issues] == ["acme.no_installation"]


async def test_nobody_takes_the_installation_of_another_organization(stage: OAuthStage) -> None:
    """A browser can come back with any number."""
    query = {"installation_id": INSTALLATION}
    await stage.authorizations.complete_redirect(await redirected(stage), query, stage.now)
    state = await redirected(stage, "org_two")
    with pytest.raises(Refused, match="connected by another organization"):
        await stage.authorizations.complete_redirect(state, query, stage.now)
    await stage.authorizations.complete_redirect(await redirected(stage), query, stage.now)


async def test_a_way_back_that_is_proved_by_the_member_s_own_token(stage: OAuthStage) -> None:
    query = {"installation_id": INSTALLATION, "code": stage.server.offer_code()}
    made = await stage.authorizations.complete_redirect(await redirected(stage), query, stage.now)
    assert made["config"] == {"installationId": INSTALLATION}
    assert stage.server.asked["member"] == 1
    assert made["credentials"] == []  # the member's token is thrown away
    # What is proved may be another organization's too.
    query = {"installation_id": INSTALLATION, "code": stage.server.offer_code()}
    await stage.authorizations.complete_redirect(await redirected(stage, "org_two"), query, stage.now)
    for code, installation in ((stage.server.offer_code(), "778"), ("made-up", INSTALLATION)):
        query = {"installation_id": installation, "code": code}
        with pytest.raises(Refused, match="authorization_refused"):
            await stage.authorizations.complete_redirect(await redirected(stage), query, stage.now)
    stage.server.misbehave(plain(500))
    with pytest.raises(Refused, match="provider_unavailable"):
        await stage.authorizations.complete_redirect(await redirected(stage), query, stage.now)
    async with stage.base.database.write() as tx:
        await tx.run(delete(TargetSecret))
    with pytest.raises(Refused, match="target_not_ready"):
        await stage.authorizations.complete_redirect(await redirected(stage), query, stage.now)


async def test_what_the_provider_said_of_the_account_before_is_not_kept(stage: OAuthStage) -> None:
    made = await stage.authorize()
    stage.server.workspace = "ws_2"
    known = WANTED._replace(connection_id=str(made["connectionId"]), config={"note": "n", "workspace": "ws_1"})
    started = await stage.authorizations.start_oauth(known, stage.now)
    [session] = await sessions(stage.base)
    assert session.config == '{"note":"n"}'
    back = await browse(stage.server, str(started["authorizationUrl"]))
    again = await stage.authorizations.complete_oauth(back["state"], back["code"], stage.now)
    assert again["config"] == {"note": "n", "workspace": "ws_2"}
    with pytest.raises(Refused, match="invalid_request"):
        await stage.authorizations.start_oauth(known._replace(config={"workspace": "ws_1"}), stage.now)


async def test_a_state_is_for_its_own_way(stage: OAuthStage) -> None:
    state, code = await stage.visit()
    with pytest.raises(Refused, match="authorization_refused"):
        await stage.authorizations.complete_redirect(state, {"installation_id": "1"}, stage.now)
    assert await refused(stage, await redirected(stage), code) == "authorization_refused"
