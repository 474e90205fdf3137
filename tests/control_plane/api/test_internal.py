"""What gateways and workers ask, over HTTP."""

import asyncio
from pathlib import Path

from sqlalchemy import update

from control_plane.definitions.registry import Registry
from control_plane.foundation import foundation
from control_plane.store.models import Credential
from control_plane.vault.master_keys import make_master_keys
from sallyport.plan.codec import parse_plan
from tests.support.authorization_server import AuthorizationServer
from tests.support.control_plane import (
    CONNECTION,
    NOW,
    ORGANIZATION,
    SANDBOX,
    SECRET,
    Replica,
    replica,
    resolve_body,
    sealed_plan,
    settings,
)
from tests.support.oauth_stage import OAUTH, VARIANT, acme, browse, offer_target_of
from tests.support.plan_documents import route_document

RESOLVE = "/internal/integration-credentials/resolve"


async def test_resolve_gives_the_value_and_a_version_that_changes_with_rotation(api: Replica) -> None:
    await api.prepare()
    first = await api.ask("POST", RESOLVE, resolve_body())
    assert first == {"kind": "value", "value": SECRET, "version": first["version"]}
    assert (await api.ask("POST", RESOLVE, resolve_body()))["version"] == first["version"]
    await api.ask("PUT", f"/v1/integration/connections/{CONNECTION}/api-key", {"value": "another"})
    second = await api.ask("POST", RESOLVE, resolve_body())
    assert second["value"] == "another"
    assert second["version"] != first["version"]


async def test_two_replicas_refresh_a_token_once(
    postgres_url: str, tmp_path: Path, provider: AuthorizationServer
) -> None:
    keys = tmp_path / "master.keys"
    make_master_keys(keys)
    given = {
        "SALLYPORT_MASTER_KEY_FILE": str(keys),
        "SALLYPORT_OUTBOUND_ALLOW": "127.0.0.0/8",
        "SALLYPORT_OUTBOUND_CA_FILE": str(provider.ca_file),
    }
    first, second = (settings(tmp_path / name, postgres_url, **given) for name in ("one", "two"))
    registry = Registry([acme()])
    async with replica(first, registry) as one, replica(second, registry) as two:
        await offer_target_of(first, provider.url)
        path = f"/v1/integration/connections/{VARIANT}/oauth2"
        started = await one.ask("POST", f"{path}/start", {"organizationId": ORGANIZATION})
        back = await browse(provider, started["authorizationUrl"])
        came = {"organizationId": ORGANIZATION, "state": back["state"], "code": back["code"]}
        made = await two.ask("POST", f"{path}/complete", came)  # the way back may lead to another replica
        how = {"kind": "integration_connection", "connectionId": made["connectionId"], "secretType": OAUTH}
        await one.ask("POST", "/v1/sandboxes", {"organizationId": ORGANIZATION, "sandboxId": SANDBOX}, status=201)
        plan = sealed_plan(routes=[route_document(credentialResolver=how)])
        await one.ask("POST", f"/v1/sandboxes/{SANDBOX}/plans", content=plan, status=201)
        async with foundation(first, now=NOW, prepare=False) as base, base.database.write() as tx:
            await tx.run(update(Credential).values(expires_at=1))
        body = resolve_body(connectionId=made["connectionId"], secretType=OAUTH)
        async with asyncio.TaskGroup() as group:
            asking = [group.create_task(each.ask("POST", RESOLVE, body)) for each in (one, two) * 5]
        assert {task.result()["value"] for task in asking} == {provider.issued[1]}
    assert provider.asked["refresh_token"] == 1


REFUSED: list[tuple[dict[str, object], str]] = [
    ({"sandboxId": "sbx_none"}, "404 sandbox_not_found"),
    ({"egressRuleId": "other"}, "403 binding_not_in_plan"),
    ({"bindingId": "bnd_other"}, "403 binding_not_in_plan"),
    ({"connectionId": "con_other"}, "403 binding_not_in_plan"),
    ({"secretType": "other"}, "403 binding_not_in_plan"),
    ({"slotKey": "other"}, "403 binding_not_in_plan"),
    ({"resolverKey": "other"}, "403 binding_not_in_plan"),
    ({"planRevision": 0}, "400 invalid_request"),
    ({"sandboxId": None}, "400 invalid_request"),
    ({"extra": 1}, "400 invalid_request"),
]


async def test_resolve_refuses_what_is_not_in_the_current_plan(api: Replica) -> None:
    await api.prepare()
    for changes, answer in REFUSED:
        assert await api.refused("POST", RESOLVE, resolve_body(**changes)) == answer, changes
    await api.ask("POST", RESOLVE, resolve_body(planRevision=77))  # for the record only


async def test_resolve_follows_the_current_revision_only(api: Replica) -> None:
    await api.prepare()
    await api.ask("POST", f"/v1/sandboxes/{SANDBOX}/plans", content=sealed_plan(2, routes=[]), status=201)
    assert await api.refused("POST", RESOLVE, resolve_body()) == "403 binding_not_in_plan"


async def test_the_plan_comes_byte_for_byte_with_its_digest(api: Replica) -> None:
    await api.prepare(plan=False)
    path = f"/internal/sandboxes/{SANDBOX}/plan"
    assert await api.refused("GET", path) == "404 plan_not_found"
    # Not canonical: the bytes have to survive all the same.
    sent = sealed_plan().replace(b'"revision":1', b'"revision" : 1')
    digest = parse_plan(sent).digest
    posted = await api.ask("POST", f"/v1/sandboxes/{SANDBOX}/plans", content=sent, status=201)
    assert posted == {"sandboxId": SANDBOX, "revision": 1, "digest": digest}
    answer = await api.client.get(path)
    assert (answer.content, answer.headers["etag"]) == (sent, f'"{digest}"')
    again = await api.client.get(path, headers={"If-None-Match": f'W/"x", "{digest}"'})
    assert (again.status_code, again.content) == (304, b"")


async def test_the_interception_ca_is_one_for_all_who_ask(api: Replica) -> None:
    await api.prepare(plan=False)
    path = f"/internal/sandboxes/{SANDBOX}/interception-ca"
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(api.ask("GET", path)) for _ in range(4)]
    answers = [each.result() for each in asked]
    assert all(each == answers[0] for each in answers)
    assert set(answers[0]) == {"certificatePem", "privateKeyPem", "notAfter"}
    pem = await api.client.get(f"/v1/sandboxes/{SANDBOX}/ca.pem")
    assert pem.text == answers[0]["certificatePem"]
    assert "PRIVATE" not in pem.text
    assert await api.refused("GET", "/internal/sandboxes/sbx_none/interception-ca") == "404 sandbox_not_found"


async def test_leases_place_sandboxes_and_name_older_tunnels(api: Replica) -> None:
    await api.prepare()

    def lease(epoch: int, tunnel_epoch: int) -> dict[str, object]:
        held = {"sandboxId": SANDBOX, "tunnel": True, "tunnelEpoch": tunnel_epoch}
        return {
            "epoch": epoch,
            "adminUrl": "http://127.0.0.1:9900",
            "sandboxes": [held],
            "planRevisions": {SANDBOX: 1},
        }

    nothing = {"expiresInSeconds": 30, "superseded": []}
    assert await api.ask("PUT", "/internal/gateways/gw_1/lease", lease(1, 5)) == nothing
    assert await api.ask("PUT", "/internal/gateways/gw_2/lease", lease(1, 6)) == nothing
    assert await api.ask("PUT", "/internal/gateways/gw_1/lease", lease(1, 5)) == nothing | {"superseded": [SANDBOX]}
    placed = await api.ask("GET", f"/internal/sandboxes/{SANDBOX}/placement")
    admin = {"adminUrl": "http://127.0.0.1:9900", "revision": 1}
    assert placed == {"gateways": [{"id": "gw_1", "tunnel": False, **admin}, {"id": "gw_2", "tunnel": True, **admin}]}
    listed = await api.ask("GET", "/internal/gateways")
    assert [(each["id"], each["epoch"], each["planRevisions"]) for each in listed["items"]] == [
        ("gw_1", 1, {SANDBOX: 1}),
        ("gw_2", 1, {SANDBOX: 1}),
    ]
    assert await api.refused("PUT", "/internal/gateways/gw_1/lease", lease(0, 5)) == "409 lease_conflict"


async def test_tokens_are_renewed_once_and_repeated_for_the_same_request(api: Replica) -> None:
    await api.prepare(plan=False)
    minted = await api.ask("POST", f"/v1/sandboxes/{SANDBOX}/tokens", {"kind": "tunnel"}, status=201)
    path = f"/internal/sandboxes/{SANDBOX}/tokens"
    body = {"requestId": "req_1", "renewalToken": minted["renewalToken"]}
    first = await api.ask("POST", path, body)
    assert set(first) == {"requestId", "token", "expiresAt", "renewalToken", "renewalExpiresAt"}
    assert await api.ask("POST", path, body) == first
    assert await api.refused("POST", path, {"requestId": "req_1"}) == "409 request_conflict"
    vouched = await api.ask("POST", path, {"requestId": "req_2"})
    assert vouched["token"] != first["token"]


async def test_a_plan_with_two_secrets_on_a_route_resolves_both(api: Replica) -> None:
    await api.prepare(plan=False)
    second = {"kind": "integration_connection", "connectionId": "con_two", "secretType": "session"}
    route = route_document(additionalCredentialHeaders=[{"header": "X-Session", "credentialResolver": second}])
    await api.connect("con_two", secretType="session", value="second")
    await api.ask("POST", f"/v1/sandboxes/{SANDBOX}/plans", content=sealed_plan(routes=[route]), status=201)
    answer = await api.ask("POST", RESOLVE, resolve_body(connectionId="con_two", secretType="session"))
    assert answer["value"] == "second"
