"""The front over real HTTP: who is let in, to what, and that what passes arrives as it was sent."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import TextContent

from tests.support.front_stage import ADMIN_KEY, OTHER_KEY, STANDARD_KEY, ListeningFront, listening_front
from tests.support.integration_stage import IntegrationStage, integration_stage

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}
ACCEPT = {"Accept": "application/json, text/event-stream"}


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[IntegrationStage]:
    async with integration_stage(tmp_path) as stage:
        yield stage


@pytest.fixture
async def front(stage: IntegrationStage, tmp_path: Path) -> AsyncIterator[ListeningFront]:
    async with listening_front(stage, tmp_path) as front:
        yield front


async def post(front: ListeningFront, name: str, key: str | None, **headers: str) -> httpx.Response:
    given = ACCEPT | ({} if key is None else {"X-API-Key": key}) | headers
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.post(front.path(name), json=INITIALIZE, headers=given)


async def test_a_server_is_shown_as_it_is(stage: IntegrationStage, front: ListeningFront) -> None:
    await stage.started("pages")
    async with front.session("tester") as session:
        assert session.server_info is not None
        assert (session.server_info.name, session.server_info.version) == ("test-server", "1.2")
        assert session.server_capabilities is not None
        assert (session.server_capabilities.tools is not None, session.server_capabilities.prompts) == (True, None)
        first = await session.list_tools()
        assert ([tool.name for tool in first.tools], first.next_cursor) == (["tool_0", "tool_1"], "1")


async def test_calls_and_their_progress_are_passed_on(stage: IntegrationStage, front: ListeningFront) -> None:
    await stage.started()
    seen = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        seen.append(progress)

    async with front.session("tester") as session:
        result = await session.call_tool("grow", {}, progress_callback=note)
        assert result.content == [TextContent(text="grown")]
        echoed = await session.call_tool("echo", {"a": ["é", 1]})
        assert echoed.content == [TextContent(text='{"a": ["\\u00e9", 1]}')]
    assert seen == [0, 1, 2]


@pytest.mark.parametrize(("faults", "version"), [((), "2025-11-25"), (("discover-only",), "2026-07-28")])
async def test_a_client_of_the_newest_protocol(
    stage: IntegrationStage, front: ListeningFront, faults: tuple[str, ...], version: str
) -> None:
    """It begins a session with a server that knows them, and asks one that does not without."""
    integration = await stage.started(*faults)
    seen = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        seen.append(progress)

    async with (
        httpx2.AsyncClient(headers={"X-API-Key": ADMIN_KEY}, trust_env=False) as http,
        Client(streamable_http_client(front.path("tester"), http_client=http), cache=None) as client,
    ):
        assert client.protocol_version == version
        assert len((await client.list_tools()).tools) == len(integration.stored.tools) == 4
        assert (await client.call_tool("grow", {}, progress_callback=note)).content == [TextContent(text="grown")]
        assert seen == [0, 1, 2]


async def test_who_has_no_key_is_told_nothing(stage: IntegrationStage, front: ListeningFront) -> None:
    await stage.started()
    for key in (None, "x", f"sp_sk_{'d' * 64}"):
        for name in ("tester", "nothing"):
            answer = await post(front, name, key)
            assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
            assert answer.json()["error"]["category"] == "Unauthorized"
    assert (await post(front, "tester", None, Authorization="Bearer \x7f")).status_code == 401


async def test_an_admin_server_is_not_there_for_a_standard_key(stage: IntegrationStage, front: ListeningFront) -> None:
    await stage.started(name="secret-tool")
    await stage.started(name="open-tool", tier="standard")
    assert (await post(front, "open-tool", STANDARD_KEY)).status_code == 200
    hidden, missing = await post(front, "secret-tool", STANDARD_KEY), await post(front, "no-such-tool", STANDARD_KEY)
    assert (hidden.status_code, hidden.content) == (404, missing.content)
    assert (await post(front, "secret-tool", ADMIN_KEY)).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example:80"}, 421),
        ({"Host": "mcp.example.com"}, 200),
        ({"Host": "MCP.example.com:4201"}, 200),
        ({"Host": "localhost:1"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://app.example.com"}, 200),
    ],
)
async def test_host_and_origin(
    stage: IntegrationStage, front: ListeningFront, headers: dict[str, str], status: int
) -> None:
    await stage.started()
    assert (await post(front, "tester", ADMIN_KEY, **headers)).status_code == status


async def test_a_session_is_its_keys(stage: IntegrationStage, front: ListeningFront) -> None:
    await stage.started()
    session_id = (await post(front, "tester", ADMIN_KEY)).headers["Mcp-Session-Id"]
    assert (await post(front, "tester", OTHER_KEY, **{"Mcp-Session-Id": session_id})).status_code == 404


async def test_bodies_have_a_limit(stage: IntegrationStage, front: ListeningFront) -> None:
    await stage.started()
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(front.path("tester"), content=b"x" * 70_000, headers={"X-API-Key": ADMIN_KEY})
    assert answer.status_code == 413
    assert answer.json()["error"]["message"] == "a message has at most 65536 bytes"


async def test_one_that_does_not_run_is_told_and_its_health_is_open(
    stage: IntegrationStage, front: ListeningFront
) -> None:
    await stage.install()
    answer = await post(front, "tester", ADMIN_KEY)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{front.url}/healthz")).json() == {"status": "ok"}
        assert (await client.get(f"{front.url}/elsewhere", headers={"X-API-Key": ADMIN_KEY})).status_code == 404
