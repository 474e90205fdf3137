"""Compile, explain, diff and simulate over HTTP, and sandboxes that follow what they are made of."""

from typing import Any

import pytest

from sallyport.plan.codec import parse_plan, seal
from tests.support.bound_versions import LINEAR_CONNECTION, LINEAR_KEY, linear_version
from tests.support.control_plane import ORGANIZATION, Replica

pytestmark = pytest.mark.parametrize("url", ["sqlite"], indirect=True)  # the logic is tested on both
GRAPHQL = "https://api.linear.app/graphql"


@pytest.fixture
async def version(api: Replica) -> str:
    """Version 1 of a profile that binds Linear; version 2 binds nothing."""
    path = await linear_version(api)
    await api.ask("POST", path.removesuffix("/1"), {}, status=201)
    await bind(api, path, "bnd_a")
    return path


def binding(binding_id: str) -> dict[str, object]:
    return {"bindingId": binding_id, "connectionId": LINEAR_CONNECTION, "kind": "connector", "config": {"mcp": False}}


async def bind(api: Replica, version: str, *binding_ids: str) -> None:
    body = {"bindings": [binding(each) for each in binding_ids]}
    await api.ask("PUT", f"{version}/integration-bindings", body)


async def make_sandbox(api: Replica, version: str, sandbox_id: str) -> Any:  # noqa: ANN401  JSON
    profile_id, _, number = version.removeprefix("/v1/sandbox/profiles/").partition("/versions/")
    body = {
        "organizationId": ORGANIZATION,
        "sandboxId": sandbox_id,
        "sandboxProfileId": profile_id,
        "version": int(number),
    }
    return await api.ask("POST", "/v1/sandboxes", body, status=201)


async def test_a_version_compiles_to_a_plan(api: Replica, version: str) -> None:
    answer = await api.ask("POST", f"{version}/compile", {})
    plan = parse_plan(seal(answer["plan"]))
    assert plan.digest == answer["plan"]["digest"]
    assert [route.egress_rule_id for route in plan.egress_routes] == ["bnd_a.api"]
    assert LINEAR_KEY not in str(answer)


async def test_a_version_that_makes_no_plan_says_everything(api: Replica, version: str) -> None:
    await bind(api, version, "bnd_a", "bnd_b")
    bodies: dict[str, object] = {"compile": {}, "diff": {"version": 2}, "simulate": {"requests": []}}
    for path, body in bodies.items():
        answer = await api.client.post(f"{version}/{path}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "not_compilable")
        [issue] = answer.json()["issues"]
        assert (issue["code"], issue["pointer"]) == ("compile.route_conflict", "/bindings/1")
        assert f"POST {GRAPHQL}" in issue["message"]


async def test_compiling_a_sandbox_puts_the_plan_in_force(api: Replica, version: str) -> None:
    made = await make_sandbox(api, version, "sbx_1")
    assert made["plan"]["revision"] == 1
    answer = await api.ask("POST", f"{version}/compile", {"sandboxId": "sbx_1"})
    assert (answer["revision"], answer["changed"], answer["digest"]) == (1, False, made["plan"]["digest"])
    stored = await api.client.get("/v1/sandboxes/sbx_1/plans/1")
    assert stored.json() == answer["plan"]
    await bind(api, version)
    answer = await api.ask("POST", f"{version}/compile", {"sandboxId": "sbx_1"})
    assert answer["revision"] == 2
    assert await api.refused("POST", f"{version}/compile", {"sandboxId": "sbx_none"}) == "404 sandbox_not_found"


async def test_a_changed_binding_reaches_every_gateway_that_watches(api: Replica, version: str) -> None:
    await make_sandbox(api, version, "sbx_1")
    async with api.watch() as reader:
        snapshot = await reader.next("snapshot")
        await bind(api, version, "bnd_b")
        told = await reader.next("plan")
    assert told.id > snapshot.id
    assert (told.data["sandboxId"], told.data["revision"]) == ("sbx_1", 2)
    plan = await api.ask("GET", "/v1/sandboxes/sbx_1/plans/2")
    assert [route["bindingId"] for route in plan["egressRoutes"]] == ["bnd_b"]


async def test_a_request_is_explained(api: Replica, version: str) -> None:
    answer = await api.client.get(f"{version}/explain", params={"method": "POST", "url": GRAPHQL})
    assert (answer.json()["decision"], answer.json()["egressRuleId"]) == ("inject", "bnd_a.api")
    answer = await api.client.get(f"{version}/explain", params={"method": "GET", "url": "https://elsewhere.example"})
    assert (answer.json()["decision"], answer.json()["code"]) == ("deny", "denied_by_plan")
    assert await api.refused("GET", f"{version}/explain") == "400 invalid_request"


async def test_a_diff_tells_the_requests_that_change(api: Replica, version: str) -> None:
    bodies: list[dict[str, object]] = [{"version": 2}, {"bindings": []}]
    for body in bodies:
        answer = await api.ask("POST", f"{version}/diff", body)
        [change] = [each for each in answer["changes"] if each["before"]["decision"] == "inject"]
        assert (change["requests"], change["after"]["decision"]) == ([f"POST {GRAPHQL}"], "deny")
        assert answer["complete"] is True
    same = await api.ask("POST", f"{version}/diff", {"bindings": [binding("bnd_z")]})
    assert same["changes"] == [], "a binding by another name does the same"
    for faulty in ({}, {"version": 2, "bindings": []}, {"version": 0}):
        assert await api.refused("POST", f"{version}/diff", faulty) == "400 invalid_request"
    assert await api.refused("POST", f"{version}/diff", {"version": 7}) == "404 profile_not_found"


async def test_recorded_requests_are_asked_of_a_candidate(api: Replica, version: str) -> None:
    recorded = [{"method": "GET", "url": "https://elsewhere.example/"}, {"method": "POST", "url": GRAPHQL}]
    answer = await api.ask("POST", f"{version}/simulate", {"requests": recorded, "bindings": []})
    assert [(each["url"], each["changed"]) for each in answer["items"]] == [
        (GRAPHQL, True),
        ("https://elsewhere.example/", False),
    ]
    assert (answer["changed"], answer["items"][0]["before"]["decision"]) == (1, "inject")
    alone = await api.ask("POST", f"{version}/simulate", {"requests": recorded})
    assert "before" not in alone["items"][0]


async def test_a_har_is_compared_with_the_plan_in_force(api: Replica, version: str) -> None:
    await make_sandbox(api, version, "sbx_1")
    entry = {"request": {"method": "POST", "url": GRAPHQL, "x": None}, "time": 1.5}
    body = {"har": {"log": {"entries": [entry, entry]}}, "sandboxId": "sbx_1", "bindings": []}
    [item] = (await api.ask("POST", f"{version}/simulate", body))["items"]
    assert (item["count"], item["changed"], item["before"]["decision"], item["after"]["decision"]) == (
        *(2, True),
        *("inject", "deny"),
    )
    assert await api.refused("POST", f"{version}/simulate", {"har": {}}) == "400 invalid_request"
    assert await api.refused("POST", f"{version}/simulate", content=b"{") == "400 invalid_request"
    many = {"requests": [{"method": "GET", "url": "https://a.example"}] * 1001}
    assert await api.refused("POST", f"{version}/simulate", many) == "400 invalid_request"
