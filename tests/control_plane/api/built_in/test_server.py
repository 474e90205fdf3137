"""The built-in server as its clients meet it: by the SDK of today and of before, by our own client, by hand."""

import json
from typing import Any

import httpx
import httpx2
import pytest
import structlog
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, TextContent

from control_client.reload import LiveTools
from control_plane.api.built_in.operations import OPERATIONS
from control_plane.store.database import DatabaseUnavailable
from control_plane.targets import TargetDesk
from tests.support.client_keys import make_client_key, make_instance
from tests.support.control_plane import CONNECTION, SANDBOX, SECRET, Replica, client_of
from tests.support.front_stage import session

SQLITE = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
FIELDS = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


@pytest.fixture
async def key(api: Replica) -> str:
    await make_instance(api)
    return await make_client_key(api)


def address(api: Replica) -> str:
    return f"http://127.0.0.1:{api.plane.port}/mcp"


def problem(result: CallToolResult) -> Any:  # noqa: ANN401  JSON
    assert result.is_error
    assert result.structured_content is None
    [content] = result.content
    assert isinstance(content, TextContent)
    return json.loads(content.text)


async def test_a_client_lists_and_calls(api: Replica, key: str) -> None:
    await api.prepare()
    async with session(address(api), key) as client:
        listed = await client.list_tools()
        assert [tool.name for tool in listed.tools] == [each.name for each in OPERATIONS]
        shown = await client.call_tool("show_sandbox", {"sandboxId": SANDBOX})
        assert not shown.is_error
        assert shown.structured_content == await api.ask("GET", f"/v1/sandboxes/{SANDBOX}")
        [content] = shown.content
        assert isinstance(content, TextContent)
        assert json.loads(content.text) == shown.structured_content
        plan = await client.call_tool("show_plan", {"sandboxId": SANDBOX, "revision": 1})
        assert plan.structured_content == await api.ask("GET", f"/v1/sandboxes/{SANDBOX}/plans/1")
        connected = await client.call_tool("list_connections", {})
        assert [each["connectionId"] for each in connected.structured_content["items"]] == [CONNECTION]
        assert SECRET not in str(connected)


@SQLITE
async def test_today_s_protocol_needs_no_handshake(api: Replica, key: str) -> None:
    await api.prepare()
    async with (
        httpx2.AsyncClient(headers={"X-API-Key": key}, trust_env=False) as http,
        Client(streamable_http_client(address(api), http_client=http), mode="2026-07-28") as client,
    ):
        assert len((await client.list_tools()).tools) == len(OPERATIONS)
        shown = await client.call_tool("show_sandbox", {"sandboxId": SANDBOX})
        assert shown.structured_content["sandboxId"] == SANDBOX


@SQLITE
async def test_our_own_client_calls_it(api: Replica, key: str) -> None:
    async def fields(url: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {key}"}

    tools = LiveTools(fields)
    try:
        tools.apply({"sallyport": address(api)})
        view = await tools.settled()
        listed = {tool.name: tool for tool in view.toolsets["sallyport"].tools}
        assert set(listed) == {each.name for each in OPERATIONS}
        answer = await tools.call("sallyport", "list_sandboxes", {"limit": 1})
        assert not answer.is_error
    finally:
        await tools.close()


async def test_a_key_opens_its_own_organization_alone(api: Replica, key: str) -> None:
    await api.prepare()
    await make_instance(api, "inst_2", "org_two")
    other = await make_client_key(api, instance_id="inst_2")
    async with session(address(api), other) as client:
        for tool, arguments in (
            ("show_sandbox", {"sandboxId": SANDBOX}),
            ("show_plan", {"sandboxId": SANDBOX, "revision": 1}),
            ("show_connection", {"connectionId": CONNECTION}),
            ("list_resolutions", {"connectionId": CONNECTION}),
        ):
            assert problem(await client.call_tool(tool, arguments))["status"] == 404
        for tool in ("list_sandboxes", "list_connections", "list_profiles"):
            assert (await client.call_tool(tool, {})).structured_content == {"items": []}


async def test_a_key_opens_its_own_instance_alone(api: Replica, key: str) -> None:
    """Tools are shared within an instance, and another one of the same organization is another one's."""
    await make_instance(api, "inst_2")
    worker = {"epoch": 1, "apiUrl": "http://127.0.0.1:1", "servers": []}
    await api.ask("PUT", "/internal/v1/workers/wrk_1", worker)
    ids = {}
    for instance_id in ("inst_1", "inst_2"):
        body = {"instanceId": instance_id, "toolId": "files", "tier": "admin", "source": "everything"}
        made = await api.ask("POST", "/api/shared-tools", body | {"workerId": "wrk_1"}, status=202)
        ids[instance_id] = made["sharedToolId"]
    async with session(address(api), key) as client:
        listed = await client.call_tool("list_shared_tools", {})
        assert [each["sharedToolId"] for each in listed.structured_content["items"]] == [ids["inst_1"]]
        shown = await client.call_tool("show_shared_tool", {"sharedToolId": ids["inst_1"]})
        assert shown.structured_content["toolId"] == "files"
        for tool in ("show_shared_tool", "start_shared_tool", "stop_shared_tool"):
            foreign = problem(await client.call_tool(tool, {"sharedToolId": ids["inst_2"]}))
            nobody_s = problem(await client.call_tool(tool, {"sharedToolId": "stl_" + "0" * 32}))
            assert foreign | {"requestId": ""} == nobody_s | {"requestId": ""}
        await client.call_tool("stop_shared_tool", {"sharedToolId": ids["inst_1"]})
    wanted = {
        name: (await api.ask("GET", f"/api/shared-tools/{shared_tool_id}"))["desired"]
        for name, shared_tool_id in ids.items()
    }
    assert wanted == {"inst_1": "stopped", "inst_2": "running"}


@SQLITE
async def test_a_refusal_is_a_tool_error_with_code_and_words(api: Replica, key: str) -> None:
    async with session(address(api), key) as client:
        gone = problem(await client.call_tool("show_sandbox", {"sandboxId": "sbx_none"}))
        assert (gone["code"], gone["retryable"]) == ("sandbox_not_found", False)
        assert gone["detail"] == "it was never made, or was deleted"
        wrong = problem(await client.call_tool("show_sandbox", {"sandboxId": "sbx_1/plans"}))
        assert (wrong["code"], [issue["pointer"] for issue in wrong["issues"]]) == ("invalid_request", ["/sandboxId"])
        limit = problem(await client.call_tool("list_sandboxes", {"limit": 1_000}))
        assert limit["code"] == "invalid_request"
        with pytest.raises(MCPError, match="no tool 'rm'"):
            await client.call_tool("rm", {})


@SQLITE
@pytest.mark.parametrize(
    ("error", "code"),
    [(DatabaseUnavailable("away"), "database_unavailable"), (RuntimeError("canary"), "internal_error")],
)
async def test_failures_of_ours_are_told_without_their_cause(
    api: Replica, key: str, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(TargetDesk, "page", fail)
    with structlog.testing.capture_logs() as told:
        async with session(address(api), key) as client:
            result = await client.call_tool("list_targets", {})
    assert problem(result)["code"] == code
    assert "canary" not in str(result)
    [failed] = [each for each in told if each["event"] in ("request_failed", "database_unavailable")]
    assert failed.get("request_id", problem(result)["requestId"]) == problem(result)["requestId"]


@SQLITE
async def test_what_was_called_is_logged_by_whom(api: Replica, key: str) -> None:
    with structlog.testing.capture_logs() as told:
        async with session(address(api), key) as client:
            await client.call_tool("show_sandbox", {"sandboxId": "sbx_none"})
    [called] = [each for each in told if each["event"] == "tool_called"]
    assert (called["tool"], called["status"]) == ("show_sandbox", 404)
    assert called["caller"].startswith("ckey_")
    assert key not in str(told)


# --- who may --------------------------------------------------------------------------------------------------------


async def posted(client: httpx.AsyncClient, **fields: str) -> str:
    answer = await client.post("/mcp", json=CALL, headers=FIELDS | fields)
    document = answer.json() if "json" in answer.headers.get("content-type", "") else {}
    return f"{answer.status_code} {document.get('code', '')}".strip()


@SQLITE
async def test_only_a_key_of_the_tier_admin_opens_it(api: Replica, key: str) -> None:
    standard = await make_client_key(api, "standard")
    none = httpx.AsyncClient(base_url=f"http://127.0.0.1:{api.plane.port}", trust_env=False)
    async with client_of(api.plane.port, key) as admin, client_of(api.plane.port, standard) as other, none as nobody:
        assert await posted(admin) == "200"
        assert await posted(other) == "403 forbidden"
        # An operator's own key or token is no client's.
        assert await posted(api.client) == "401 unauthorized"
        assert await posted(nobody) == "401 unauthorized"
        assert await posted(nobody, Authorization="Bearer sp_sk_" + "0" * 64) == "401 unauthorized"
        assert await posted(admin, **{"X-API-Key": key}) == "401 unauthorized"
        answer = await other.post("/mcp", json=CALL, headers=FIELDS)
        assert not any(each.name in answer.text for each in OPERATIONS)


@SQLITE
async def test_a_revoked_key_opens_nothing(api: Replica, key: str) -> None:
    async with client_of(api.plane.port, key) as client:
        assert await posted(client) == "200"
        [made] = (await api.ask("GET", "/api/auth/keys?instanceId=inst_1"))["items"]
        await api.ask("DELETE", f"/api/auth/keys/{made['clientKeyId']}", status=204)
        assert await posted(client) == "401 unauthorized"


@SQLITE
async def test_pages_of_the_web_are_kept_out(api: Replica, key: str) -> None:
    async with client_of(api.plane.port, key) as client:
        assert await posted(client, Host="evil.example.com") == "421"
        assert await posted(client, Host="127.0.0.1.evil.example.com:1") == "421"
        assert await posted(client, Origin="https://evil.example.com") == "403"
        assert await posted(client, Host="localhost:1") == "200"


@SQLITE
async def test_there_is_no_stream_and_a_body_has_a_limit(api: Replica, key: str) -> None:
    async with client_of(api.plane.port, key) as client:
        for method in ("GET", "DELETE", "PUT"):
            answer = await client.request(method, "/mcp", headers=FIELDS)
            assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
        answer = await client.post("/mcp", content=b"x" * (1024 * 1024 + 1), headers=FIELDS)
        assert answer.status_code == 413
        assert (await client.post("/mcp", content=b"{", headers=FIELDS)).status_code == 400
