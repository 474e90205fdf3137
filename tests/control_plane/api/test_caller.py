"""Who may ask: a good credential, a role that the table names, and nothing of another organization."""

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt
import pytest

from control_plane.api.openapi import path_shape
from control_plane.authorizations import OAUTH_CALLBACK, REDIRECT_CALLBACK
from control_plane.callers import CLIENT_FEED, PERMISSIONS, Role
from control_plane.connections import HAND_MADE
from control_plane.ownership import OWNED, UNOWNED
from control_plane.webhooks.endpoints import PATH as WEBHOOKS
from tests.support.control_plane import ORGANIZATION, SANDBOX, Replica, client_of, replica, settings

# What is tested here knows no database: one is enough.
pytestmark = pytest.mark.parametrize("url", ["sqlite"], indirect=True)

ROUTES = sorted(PERMISSIONS)
PUBLIC = {
    *("/healthz", "/readyz", "/.well-known/jwks.json", OAUTH_CALLBACK, REDIRECT_CALLBACK),
    f"{WEBHOOKS}{{endpoint_key}}",
    CLIENT_FEED,
}
UNKNOWN = {
    "sandbox_id": "sbx_none",
    "connection_id": "con_none",
    "profile_id": "sbp_none",
    "instance_id": "inst_none",
    "client_key_id": "ckey_none",
    "shared_tool_id": "stl_none",
    "installation_id": "inl_none",
    "push_subscriber_id": "psb_none",
}


def filled(path: str, **values: str) -> str:
    """Return a path with its parameters filled in, `x` or 1 where none is given."""
    values = {"version": "1", "revision": "1"} | values
    return re.sub(r"{(\w+)}", lambda found: values.get(found[1], "x"), path)


async def test_every_path_of_the_api_is_in_the_table_and_no_other(api: Replica) -> None:
    document: dict[str, Any] = (await api.client.get("/openapi.json")).json()
    served = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert {path for _, path in served if not path.startswith(("/v1/", "/api/", "/internal/"))} == PUBLIC - {
        CLIENT_FEED
    }
    permitted = {(method, path_shape(path)) for method, path in PERMISSIONS}
    assert {(method, path_shape(path)) for method, path in served if path not in PUBLIC} == permitted
    assert len(permitted) == len(PERMISSIONS)


@pytest.mark.parametrize("route", ROUTES, ids=" ".join)
def test_every_parameter_is_known_to_be_somebody_s_or_nobody_s(route: tuple[str, str], url: str) -> None:
    for name in re.findall(r"{(\w+)}", route[1]):
        assert (name in OWNED) != (name in UNOWNED), name


async def test_nothing_is_answered_without_a_credential(api: Replica) -> None:
    assert len(ROUTES) > 25
    told = []
    async with client_of(api.plane.port, "nonsense") as client:
        for method, path in ROUTES:
            answer = await client.request(method, filled(path))
            assert answer.status_code in (401, 429), (method, path, answer.text)
            told.append(answer.status_code)
            assert answer.status_code == 429 or answer.headers["www-authenticate"] == "Bearer"
    # There are more paths than an address may fail at in a minute.
    assert told.count(401) >= 60


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Basic x", "Bearer a b", "bearer nonsense", "Bearer sp_ak_", "Bearer sp_ak_\xe9"]
)
async def test_headers_that_carry_no_credential(api: Replica, header: str | None) -> None:
    headers = {} if header is None else {b"Authorization": header.encode("latin-1")}
    async with client_of(api.plane.port, "x") as client:
        del client.headers["authorization"]
        answer = await client.get("/v1/sandboxes", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


async def test_tokens_of_sandboxes_open_nothing(api: Replica) -> None:
    await api.prepare(plan=False)
    minted = await api.ask("POST", f"/v1/sandboxes/{SANDBOX}/tokens", {"kind": "tunnel"}, status=201)
    for token in (minted["token"], minted["renewalToken"]):
        async with client_of(api.plane.port, token) as client:
            assert (await client.get("/v1/sandboxes")).status_code == 401


async def test_a_revoked_service_token_opens_nothing(api: Replica) -> None:
    token = api.client.headers["authorization"].removeprefix("Bearer ")
    claims = jwt.decode(token, options={"verify_signature": False})
    body = {"kind": "jti", "id": claims["jti"], "until": claims["exp"]}
    await api.ask("POST", "/v1/revocations", body, status=201)
    assert await api.refused("GET", "/v1/sandboxes") == "401 unauthorized"


async def test_a_key_in_either_header_and_not_in_both(api: Replica) -> None:
    key = (await api.ask("POST", "/v1/api-keys", {"role": "operator"}, status=201))["key"]
    async with client_of(api.plane.port, key) as client:
        assert (await client.get("/v1/sandboxes")).status_code == 200
        assert (await client.get("/v1/sandboxes", headers={"X-API-Key": key})).status_code == 401
        del client.headers["authorization"]
        assert (await client.get("/v1/sandboxes", headers={"X-API-Key": key})).status_code == 200
        assert (await client.get("/v1/sandboxes", headers={"X-API-Key": key[:-1]})).status_code == 401


@pytest.mark.parametrize("role", list(Role))
async def test_each_role_is_answered_what_the_table_gives_it(api: Replica, role: Role) -> None:
    async with api.caller(role, ORGANIZATION if role is Role.MEMBER else None) as caller:
        for (method, path), roles in PERMISSIONS.items():
            async with caller.client.stream(method, filled(path)) as answer:
                content = b"" if answer.headers["content-type"].startswith("text/") else await answer.aread()
                assert answer.status_code != 401, path
            assert (b'"forbidden"' in content) == (role not in roles), (method, path, content)


# --- a member and another organization's things -----------------------------------------------------------------------


@pytest.fixture
async def foreign(api: Replica) -> dict[str, str]:
    """One of everything of org_two, by the names of parameters, and as much of org_one's."""
    profile_id = ""
    for organization_id, name in (("org_two", "theirs"), (ORGANIZATION, "ours")):
        body = {"organizationId": organization_id}
        await api.ask("POST", "/v1/sandboxes", body | {"sandboxId": f"sbx_{name}"}, status=201)
        await api.connect(f"con_{name}", organizationId=organization_id)
        made = await api.ask("POST", "/v1/sandbox/profiles", body, status=201)
        await api.ask("POST", f"/v1/sandbox/profiles/{made['sandboxProfileId']}/versions", {}, status=201)
        profile_id = profile_id or made["sandboxProfileId"]
    body = {"organizationId": "org_two", "instanceId": "inst_theirs"}
    await api.ask("POST", "/api/instances", body, status=201)
    ours = await api.ask("POST", "/api/instances", {"organizationId": ORGANIZATION}, status=201)
    told = [
        await api.ask("POST", "/api/push-subscribers", {"instanceId": each, "url": "https://hooks.test/x"}, status=201)
        for each in ("inst_theirs", ours["instanceId"])
    ]
    key = await api.ask("POST", "/api/auth/keys", {"instanceId": "inst_theirs", "tier": "standard"}, status=201)
    report = {"epoch": 1, "apiUrl": "http://127.0.0.1:9", "servers": []}
    await api.ask("PUT", "/internal/v1/workers/wrk_1", report)
    tool = {"instanceId": "inst_theirs", "toolId": "x", "source": "time"}
    shared = await api.ask("POST", "/api/shared-tools", tool | {"tier": "standard"}, status=202)
    installed = await api.ask("POST", "/api/installations", tool | {"userId": "u"}, status=202)
    return {
        "sandbox_id": "sbx_theirs",
        "connection_id": "con_theirs",
        "profile_id": profile_id,
        "instance_id": "inst_theirs",
        "client_key_id": key["clientKeyId"],
        "shared_tool_id": shared["sharedToolId"],
        "installation_id": installed["installationId"],
        "push_subscriber_id": told[0]["pushSubscriberId"],
    }


@pytest.fixture
async def member(api: Replica, foreign: dict[str, str]) -> AsyncIterator[Replica]:
    """A member of org_one."""
    async with api.caller("member", ORGANIZATION) as caller:
        yield caller


def told(answer: httpx.Response) -> tuple[int, dict[str, object]]:
    """Return an answer but for what is another each time."""
    document = answer.json()
    return answer.status_code, {name: value for name, value in document.items() if name != "requestId"}


OWNED_ROUTES = [
    route for route in ROUTES if Role.MEMBER in PERMISSIONS[route] and any(f"{{{name}}}" in route[1] for name in OWNED)
]


async def test_what_is_foreign_is_answered_like_what_is_not_there(member: Replica, foreign: dict[str, str]) -> None:
    assert len(OWNED_ROUTES) > 10
    for method, path in OWNED_ROUTES:
        answer = told(await member.client.request(method, filled(path, **foreign), json={}))
        assert answer == told(await member.client.request(method, filled(path, **UNKNOWN), json={})), (method, path)
        assert answer[0] == 404, (method, path)


# What is listed there is everybody's, or of one instance, which is somebody's.
NOT_BY_ORGANIZATION = (
    *("/v1/integration/targets", "/v1/integration/webhook-endpoints", "/v1/integration/webhook-events"),
    *("/api/auth/keys", "/api/shared-tools", "/api/installations"),
)


async def test_lists_hold_what_is_the_member_s_own(member: Replica) -> None:
    lists = [
        path
        for method, path in ROUTES
        if method == "GET"
        and Role.MEMBER in PERMISSIONS[method, path]
        and "{" not in path
        and path not in NOT_BY_ORGANIZATION
    ]
    assert len(lists) > 1
    for path in lists:
        own = await member.ask("GET", path)
        assert {item["organizationId"] for item in own["items"]} == {ORGANIZATION}, path
        assert await member.ask("GET", f"{path}?organizationId={ORGANIZATION}") == own
        for organization_id in ("org_two", "org_none"):
            assert await member.refused("GET", f"{path}?organizationId={organization_id}") == "403 forbidden"


async def test_a_body_names_nothing_foreign(member: Replica, foreign: dict[str, str]) -> None:
    sandboxes: list[tuple[dict[str, object], str]] = [
        ({"organizationId": "org_two"}, "403 forbidden"),
        ({"organizationId": "org_none"}, "403 forbidden"),
        ({"sandboxId": "sbx_theirs"}, "404 sandbox_not_found"),
        ({"sandboxId": "sbx_new"}, "404 sandbox_not_found"),
        ({"sandboxProfileId": foreign["profile_id"]}, "404 profile_not_found"),
        ({"sandboxProfileId": "sbp_none"}, "404 profile_not_found"),
    ]
    for body, answer in sandboxes:
        assert await member.refused("POST", "/v1/sandboxes", body) == answer, body
    assert await member.refused("POST", "/v1/sandbox/profiles", {"organizationId": "org_two"}) == "403 forbidden"


async def test_a_connection_is_added_to_by_its_own_members_alone(member: Replica) -> None:
    path = "/v1/integration/connections/openai-default/api-key"
    body = {"secretType": "api_key", "value": f"sk-{'a1' * 24}"}
    for connection_id in ("con_theirs", "con_none"):
        assert await member.refused("POST", path, body | {"connectionId": connection_id}) == "404 connection_not_found"
    made = await member.ask("POST", path, body, status=201)
    assert made["organizationId"] == ORGANIZATION
    more = body | {"connectionId": made["connectionId"], "slotKey": "second"}
    assert len((await member.ask("POST", path, more, status=201))["credentials"]) == 2


async def test_a_member_goes_to_a_provider_for_its_own_organization_alone(member: Replica) -> None:
    bodies: dict[str, dict[str, object]] = {
        "oauth2/start": {},
        "oauth2/complete": {"state": "x", "code": "x"},
        "redirect/start": {},
        "redirect/complete": {"state": "x", "parameters": {}},
        "oauth2/client-credentials": {"secretType": "client_secret", "value": "x"},
    }
    for way, body in bodies.items():
        path = f"/v1/integration/connections/openai-default/{way}"
        assert await member.refused("POST", path, body | {"organizationId": "org_two"}) == "403 forbidden", way
        assert (await member.refused("POST", path, body)).startswith("409 "), way
        if not way.endswith("/complete"):
            theirs = body | {"connectionId": "con_theirs"}
            assert await member.refused("POST", path, theirs) == "404 connection_not_found", way


async def test_what_is_hand_made_is_no_target_for_a_member(member: Replica) -> None:
    body = {"secretType": "api_key", "value": "x"}
    for way in ("api-key", "oauth2/client-credentials", "oauth2/start", "redirect/start"):
        given = {} if way.endswith("start") else body
        answers = [
            told(await member.client.post(f"/v1/integration/connections/{target}/{way}", json=given))
            for target in (HAND_MADE, "none")
        ]
        assert answers[0] == answers[1], way
        assert (answers[0][0], answers[0][1]["code"]) == (404, "target_not_found"), way
    ours = body | {"connectionId": "con_ours", "slotKey": "second"}
    path = f"/v1/integration/connections/{HAND_MADE}/api-key"
    assert await member.refused("POST", path, ours) == "404 target_not_found"


async def test_an_organization_is_a_member_s_by_default(member: Replica) -> None:
    assert (await member.ask("POST", "/v1/sandboxes", {}, status=201))["organizationId"] == ORGANIZATION
    assert (await member.ask("POST", "/v1/sandbox/profiles", {}, status=201))["organizationId"] == ORGANIZATION


# --- how often --------------------------------------------------------------------------------------------------------


async def test_a_caller_that_asks_too_often_is_told_when_to_come_again(url: str, tmp_path_factory: Any) -> None:  # noqa: ANN401  pytest's own
    limits = {"SALLYPORT_LIMITS_REQUESTS_PER_MINUTE": "2", "SALLYPORT_LIMITS_FAILED_LOGINS_PER_MINUTE": "1"}
    async with replica(settings(tmp_path_factory.mktemp("data"), url, **limits)) as api:
        async with api.caller("operator") as caller:
            for _ in range(2):
                await caller.ask("GET", "/v1/sandboxes")
            answer = await caller.client.get("/v1/sandboxes")
            assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
            assert 25 <= int(answer.headers["retry-after"]) <= 30
        async with client_of(api.plane.port, "nonsense") as client:
            statuses = [(await client.get("/v1/sandboxes")).status_code for _ in range(3)]
        assert statuses == [401, 429, 429]
        await api.ask("GET", "/v1/sandboxes")  # a good credential is heard, whoever fails beside it
