"""Sandboxes, profiles, plans and tokens as operators use them."""

import json
import time

import jwt

from tests.support.control_plane import ORGANIZATION, SANDBOX, Replica, sealed_plan
from tests.support.plan_documents import plan_document


async def test_profiles_and_their_versions(api: Replica) -> None:
    made = await api.ask("POST", "/v1/sandbox/profiles", {"organizationId": "org_one", "displayName": "A"}, status=201)
    path = f"/v1/sandbox/profiles/{made['sandboxProfileId']}"
    assert "latestVersion" not in await api.ask("GET", path)
    image = {"source": "base", "imageRef": "sandbox-base:1"}
    egress = {
        "default": "deny",
        "managedPassthrough": "deny",
        "rules": [{"ruleId": "r", "action": "allow", "hosts": ["*.example.com"]}],
    }
    version = await api.ask("POST", f"{path}/versions", {"image": image, "egress": egress}, status=201)
    assert (version["version"], version["image"], version["egress"]) == (1, image, egress)
    assert await api.ask("GET", f"{path}/versions/1") == version
    assert (await api.ask("GET", path))["latestVersion"] == 1
    assert await api.refused("GET", f"{path}/versions/2") == "404 profile_not_found"
    assert await api.refused("GET", "/v1/sandbox/profiles/sbp_none") == "404 profile_not_found"
    faulty = {"image": {"source": "base"}, "egress": {"default": "deny", "rules": [], "x": 1}}
    answer = await api.client.post(f"{path}/versions", json=faulty)
    pointers = [issue["pointer"] for issue in answer.json()["issues"]]
    assert sorted(pointers) == ["/egress/managedPassthrough", "/egress/x", "/image/imageRef"]
    body = {"organizationId": ORGANIZATION, "sandboxProfileId": made["sandboxProfileId"]}
    assert (await api.ask("POST", "/v1/sandboxes", body, status=201))["version"] == 1
    assert await api.refused("POST", "/v1/sandboxes", {"organizationId": "o", "version": 1}) == "400 invalid_request"


async def test_lists_go_on_where_they_stopped(api: Replica) -> None:
    made = [
        (await api.ask("POST", "/v1/sandboxes", {"organizationId": organization}, status=201))["sandboxId"]
        for organization in ("org_one", "org_two", "org_one", "org_one", "org_one")
    ]
    seen: list[str] = []
    query = "?limit=2&organizationId=org_one"
    page = await api.ask("GET", f"/v1/sandboxes{query}")
    while True:
        seen += [item["sandboxId"] for item in page["items"]]
        if "nextCursor" not in page:
            break
        page = await api.ask("GET", f"/v1/sandboxes{query}&cursor={page['nextCursor']}")
    assert seen == sorted([made[0], *made[2:]])
    await api.ask("DELETE", f"/v1/sandboxes/{made[0]}", status=204)
    assert len((await api.ask("GET", "/v1/sandboxes"))["items"]) == 4
    assert await api.refused("GET", f"/v1/sandboxes/{made[0]}") == "404 sandbox_not_found"
    for faulty in ("limit=0", "limit=201", "limit=x", "cursor=%C3%A4", "organizationid=org_one", "cursor=AAA"):
        assert await api.refused("GET", f"/v1/sandboxes?{faulty}") == "400 invalid_request", faulty


async def test_plans_over_http(api: Replica) -> None:
    await api.prepare(plan=False)
    path = f"/v1/sandboxes/{SANDBOX}/plans"
    unsealed = await api.ask("POST", path, content=json.dumps(plan_document()).encode(), status=201)
    assert await api.ask("POST", path, content=json.dumps(plan_document()).encode()) == unsealed
    second = await api.ask("POST", path, content=sealed_plan(2), status=201)
    assert await api.refused("POST", path, content=sealed_plan(1)) == "409 plan_conflict"
    listed = await api.ask("GET", f"{path}?limit=1")
    assert listed["items"] == [
        {"revision": 2, "digest": second["digest"], "createdAt": listed["items"][0]["createdAt"]}
    ]
    rest = await api.ask("GET", f"{path}?limit=1&cursor={listed['nextCursor']}")
    assert [item["revision"] for item in rest["items"]] == [1]
    assert "nextCursor" not in rest
    assert (await api.client.get(f"{path}/2")).content == sealed_plan(2)
    assert await api.refused("GET", f"{path}/3") == "404 plan_not_found"
    assert await api.refused("GET", f"{path}/0") == "400 invalid_request"
    answer = await api.client.post(path, content=b'{"revision": 1}')
    assert answer.status_code == 422
    assert len(answer.json()["issues"]) > 10
    assert (await api.ask("GET", f"/v1/sandboxes/{SANDBOX}"))["plan"]["revision"] == 2


async def test_tokens_over_http(api: Replica) -> None:
    await api.prepare(plan=False)
    path = f"/v1/sandboxes/{SANDBOX}/tokens"

    def lives(answer: dict[str, str]) -> int:
        claims = jwt.decode(answer["token"], options={"verify_signature": False})
        return int(claims["exp"]) - int(claims["iat"])

    assert lives(await api.ask("POST", path, {"kind": "proxy"}, status=201)) == 24 * 3600
    assert lives(await api.ask("POST", path, {"kind": "proxy", "ttlSeconds": 7}, status=201)) == 7
    tunnel = await api.ask("POST", path, {"kind": "tunnel"}, status=201)
    assert lives(tunnel) == 900
    assert set(tunnel) == {"token", "expiresAt", "renewalToken", "renewalExpiresAt"}
    for body in (
        {"kind": "tunnel", "ttlSeconds": 901},
        {"kind": "other"},
        {"kind": "proxy", "ttlSeconds": 0},
        {"kind": "proxy", "ttlSeconds": 2_592_001},
    ):
        assert await api.refused("POST", path, body) == "400 invalid_request"
    assert await api.refused("POST", "/v1/sandboxes/sbx_none/tokens", {"kind": "proxy"}) == "404 sandbox_not_found"


async def test_revocations_over_http(api: Replica) -> None:
    body = {"kind": "jti", "id": "jti_1", "until": 4_000_000_000}
    assert await api.refused("POST", "/v1/revocations", body) == "400 invalid_request"  # decades away
    soon = time.time_ns() // 10**9 + 100
    of_one = {"kind": "binding", "id": "bnd_1", "until": soon, "organizationId": "org_one"}
    assert await api.ask("POST", "/v1/revocations", of_one, status=201) == of_one
    assert await api.refused("POST", "/v1/revocations", of_one | {"kind": "sid"}) == "400 invalid_request"
    for faulty in ({"kind": "jti", "id": "jti_1"}, {"kind": "other", "id": "x", "until": 1}):
        assert await api.refused("POST", "/v1/revocations", faulty) == "400 invalid_request"


async def test_ids_that_are_none(api: Replica) -> None:
    for path in ("sbx_%00", "sbx_a%2Fb", "SBX_one", "sbx_" + "a" * 125, "con_one"):
        assert (await api.refused("GET", f"/v1/sandboxes/{path}")).split()[1] in ("invalid_request", "not_found"), path


async def test_profiles_are_listed_with_their_newest_version(api: Replica) -> None:
    path = "/v1/sandbox/profiles"
    made = [
        await api.ask("POST", path, {"organizationId": organization_id}, status=201)
        for organization_id in (ORGANIZATION, "org_two", ORGANIZATION)
    ]
    for _ in range(2):
        await api.ask("POST", f"{path}/{made[0]['sandboxProfileId']}/versions", {}, status=201)
    made[0] |= {"latestVersion": 2}
    listed = (await api.ask("GET", path))["items"]
    assert listed == sorted(made, key=lambda each: each["sandboxProfileId"])
    first = await api.ask("GET", f"{path}?organizationId={ORGANIZATION}&limit=1")
    rest = await api.ask("GET", f"{path}?organizationId={ORGANIZATION}&cursor={first['nextCursor']}")
    assert first["items"] + rest["items"] == [each for each in listed if each["organizationId"] == ORGANIZATION]
