"""Shared tools and installations over HTTP, without a worker; tests/flow/test_client_feed.py has one."""

import pytest

from tests.support.control_plane import ORGANIZATION, Replica

SHARED, INSTALLED = "/api/shared-tools", "/api/installations"
# Nobody listens there.
REPORT = {"epoch": 1, "apiUrl": "http://127.0.0.1:9", "frontUrl": "http://127.0.0.1:9", "servers": []}
TOOL = {"instanceId": "default", "toolId": "search", "tier": "standard", "source": "time"}
NOTES = {"instanceId": "default", "toolId": "notes", "userId": "u@x", "source": "npm:notes"}


async def prepare(api: Replica) -> None:
    await api.ask("POST", "/api/instances", {"organizationId": ORGANIZATION, "instanceId": "default"}, status=201)
    await api.ask("PUT", "/internal/v1/workers/wrk_1", REPORT)


async def test_a_shared_tool_whose_worker_does_not_answer_is_still_to_be_done(api: Replica) -> None:
    await prepare(api)
    made = await api.ask("POST", SHARED, TOOL | {"arguments": ["-x"]}, status=202)
    path = f"{SHARED}/{made['sharedToolId']}"
    assert (made["status"], made["desired"], made["workerId"]) == ("pending", "running", "wrk_1")
    assert await api.ask("GET", path) == made
    assert await api.ask("GET", f"{SHARED}?instanceId=default") == {"items": [made]}
    assert (await api.ask("POST", f"{path}/stop"))["desired"] == "stopped"
    assert (await api.ask("POST", f"{path}/start"))["desired"] == "running"
    declared = await api.ask("GET", "/internal/v1/workers/wrk_1/declared")
    assert [(each["serverId"], each["arguments"]) for each in declared["servers"]] == [(made["sharedToolId"], ["-x"])]
    assert await api.refused("DELETE", "/api/instances/default") == "409 instance_in_use"
    await api.ask("DELETE", path, status=204)
    lingering = await api.ask("GET", "/internal/v1/workers/wrk_1/declared")
    assert lingering == declared
    assert await api.refused("GET", path) == "404 mcp_server_not_found"
    assert await api.refused("POST", f"{path}/stop?atOnce=true") == "404 mcp_server_not_found"
    again = await api.ask("POST", SHARED, TOOL, status=202)
    await api.ask("DELETE", f"{SHARED}/{again['sharedToolId']}?atOnce=true", status=204)
    assert await api.ask("GET", "/internal/v1/workers/wrk_1/declared") == declared


async def test_what_a_user_has_installed(api: Replica) -> None:
    await prepare(api)
    made = await api.ask("POST", INSTALLED, NOTES, status=202)
    path = f"{INSTALLED}/{made['installationId']}"
    assert (made["name"], made["tier"]) == (f"notes__user_u@x__{made['installationId']}", "standard")
    assert await api.ask("GET", path) == made
    for query, found in (("", [made]), ("&userId=u%40x", [made]), ("&userId=v", [])):
        assert (await api.ask("GET", f"{INSTALLED}?instanceId=default{query}"))["items"] == found
    assert (await api.ask("GET", f"{SHARED}?instanceId=default"))["items"] == []
    await api.ask("DELETE", path, status=204)
    assert await api.refused("DELETE", path) == "404 mcp_server_not_found"


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_the_same_request_by_its_key_is_done_once(api: Replica) -> None:
    await prepare(api)
    headers = {"Idempotency-Key": "k1"}
    answers = [await api.client.post(SHARED, json=TOOL, headers=headers) for _ in range(2)]
    assert [each.status_code for each in answers] == [202, 202]
    assert answers[0].json() == answers[1].json()
    assert answers[1].headers["idempotency-replayed"] == "true"
    assert await api.refused("POST", SHARED, TOOL) == "409 already_exists"


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_a_member_reads_what_is_of_the_standard_tier(api: Replica) -> None:
    await prepare(api)
    open_tool = await api.ask("POST", SHARED, TOOL, status=202)
    ops = await api.ask("POST", SHARED, TOOL | {"toolId": "ops", "tier": "admin"}, status=202)
    installed = await api.ask("POST", INSTALLED, NOTES, status=202)
    async with api.caller("member", ORGANIZATION) as member:
        assert (await member.ask("GET", f"{SHARED}?instanceId=default"))["items"] == [open_tool]
        assert await member.refused("GET", f"{SHARED}/{ops['sharedToolId']}") == "404 mcp_server_not_found"
        assert (await member.ask("GET", f"{INSTALLED}?instanceId=default"))["items"] == [installed]
        assert await member.refused("POST", SHARED, TOOL) == "403 forbidden"
        assert await member.refused("POST", INSTALLED, NOTES) == "403 forbidden"
    async with api.caller("member", "org_two") as stranger:
        for path in (f"{SHARED}?instanceId=default", f"{INSTALLED}?instanceId=default"):
            assert await stranger.refused("GET", path) == "404 instance_not_found"
        path = f"{INSTALLED}/{installed['installationId']}"
        assert await stranger.refused("GET", path) == "404 mcp_server_not_found"


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_without_a_worker_nothing_is_made(api: Replica) -> None:
    await api.ask("POST", "/api/instances", {"organizationId": ORGANIZATION, "instanceId": "default"}, status=201)
    assert await api.refused("POST", SHARED, TOOL) == "503 worker_unavailable"
    assert await api.refused("POST", SHARED, TOOL | {"workerId": "wrk_none"}) == "404 worker_not_found"
    assert (await api.ask("GET", f"{SHARED}?instanceId=default"))["items"] == []


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)  # no database is asked
@pytest.mark.parametrize(
    ("path", "body", "pointers"),
    [
        (SHARED, {}, ["/instanceId", "/source", "/tier", "/toolId"]),
        (SHARED, TOOL | {"toolId": "a b", "desired": "gone"}, ["/desired", "/toolId"]),
        (SHARED, TOOL | {"toolId": "a__b"}, ["/toolId"]),
        (SHARED, TOOL | {"toolId": "sallyport"}, ["/toolId"]),
        (INSTALLED, NOTES | {"userId": "a__b"}, ["/userId"]),
        (INSTALLED, NOTES | {"userId": "", "tier": "admin"}, ["/tier", "/userId"]),
        (INSTALLED, NOTES | {"secrets": {"A": "value"}}, ["/secrets/A"]),
    ],
)
async def test_faulty_bodies(api: Replica, path: str, body: dict[str, object], pointers: list[str]) -> None:
    answer = await api.client.post(path, json=body)
    assert answer.status_code == 400, answer.text
    assert sorted(issue["pointer"] for issue in answer.json()["issues"]) == pointers


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_ids_of_another_form_are_malformed(api: Replica) -> None:
    for path in (f"{SHARED}/inl_{'0' * 32}", f"{INSTALLED}/stl_{'0' * 32}", f"{SHARED}/x"):
        assert await api.refused("GET", path) == "400 invalid_request"
