"""The front over real HTTP: who is let in, to what, and that what passes arrives as it was sent."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import TextContent

from control_client.reload import LiveTools
from sallyport.net.orphans import find_marked
from tests.support.front_stage import ADMIN_KEY, OTHER_KEY, STANDARD_KEY, ListeningFront, listening_front
from tests.support.integration_stage import SECRET, IntegrationStage, integration_stage
from tests.support.mcp_program import PROGRAM
from tests.support.setup_documents import is_alive
from tests.support.until import until
from worker.integrations.integration import Integration, Status
from worker.integrations.launch import MARK

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


async def post(
    front: ListeningFront, name: str, key: str | None, message: object = INITIALIZE, **headers: str
) -> httpx.Response:
    given = ACCEPT | ({} if key is None else {"X-API-Key": key}) | headers
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        return await client.post(front.path(name), json=message, headers=given)


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


# Sessions are processes ----------------------------------------------------------------------------------


def session_pids(stage: IntegrationStage) -> list[int]:
    """Return the processes that sessions have, whatever has become of their groups."""
    found = find_marked(MARK, f"{stage.integrations.mark}.")
    return [pid for mark, pids in found.items() if "/" in mark for pid in pids if is_alive(pid)]


async def begun(front: ListeningFront, name: str = "tester", key: str = ADMIN_KEY) -> dict[str, str]:
    """Begin a session and return what names it."""
    answer = await post(front, name, key)
    assert answer.status_code == 200, answer.text
    return {"Mcp-Session-Id": answer.headers["Mcp-Session-Id"]}


async def call(front: ListeningFront, session: dict[str, str], tool: str = "echo") -> httpx.Response:
    """Call a tool in a session."""
    message = {"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {"name": tool, "arguments": {}}}
    return await post(front, "tester", ADMIN_KEY, message, **session)


async def test_each_session_has_a_process_of_its_own(stage: IntegrationStage, front: ListeningFront) -> None:
    integration = await stage.started()
    one, two = await begun(front), await begun(front)
    await until(lambda: len(session_pids(stage)) == 2)
    assert integration.pid not in session_pids(stage)
    crashed = await call(front, one, "crash")
    assert "the server exited with code 4" in crashed.text
    assert "I was told to crash" not in crashed.text  # that is for operators
    assert "[session 1] I was told to crash" in integration.log.tail(10)
    assert "[session 1] [worker] it exited with code 4" in integration.log.tail(10)
    assert (await call(front, one)).status_code == 404
    assert (await call(front, two)).status_code == 200
    assert (integration.status, integration.restart_count) == (Status.RUNNING, 0)
    await begun(front)


async def test_a_session_outlives_a_crash_of_the_process_that_is_watched(
    stage: IntegrationStage, front: ListeningFront
) -> None:
    integration = await stage.started()
    session = await begun(front)
    assert integration.pid is not None
    os.kill(integration.pid, signal.SIGKILL)
    await until(lambda: integration.restart_count == 1 and integration.status is Status.RUNNING)
    assert (await call(front, session)).status_code == 200


@pytest.mark.parametrize("end", ["stop", "restart", "remove", "crash loop", "leave the worker"])
async def test_they_end_with_their_server(tmp_path: Path, end: str) -> None:
    async with (
        integration_stage(tmp_path, LIMITS_CRASHES="1") as stage,
        listening_front(stage, tmp_path) as front,
    ):
        integration = await stage.started("escape", environment={"PIDS": str(tmp_path / "pid")})
        session = await begun(front)
        # A program that was just started has no environment for a moment.
        await until(lambda: len(session_pids(stage)) == 2)
        match end:
            case "stop":
                await integration.stop()
            case "restart":
                await integration.restart()
            case "remove":
                await stage.integrations.remove("tester")
            case "crash loop":
                assert integration.pid is not None
                os.kill(integration.pid, signal.SIGKILL)
                await until(lambda: integration.status is Status.CRASH_LOOP)
            case "leave the worker":
                await integration.end()
        await until(lambda: session_pids(stage) == [])
        assert (await call(front, session)).status_code == 404
        assert (await post(front, "tester", ADMIN_KEY)).status_code == {"restart": 200, "remove": 404}.get(end, 503)


async def test_a_deleted_session_leaves_nothing(stage: IntegrationStage, front: ListeningFront, tmp_path: Path) -> None:
    await stage.started("escape", environment={"PIDS": str(tmp_path / "pid")})
    session = await begun(front)
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.delete(front.path("tester"), headers={"X-API-Key": ADMIN_KEY} | session)
    assert answer.status_code == 200
    await until(lambda: session_pids(stage) == [])


async def test_a_new_session_waits_for_a_server_that_is_being_started_again(tmp_path: Path) -> None:
    async with (
        integration_stage(tmp_path, TIMEOUTS_FIRST_RESTART="5m", TIMEOUTS_LONGEST_RESTART="5m") as stage,
        listening_front(stage, tmp_path) as front,
    ):
        integration = await stage.started()
        assert integration.pid is not None
        os.kill(integration.pid, signal.SIGKILL)
        await until(lambda: integration.status is Status.RESTARTING)
        beginning = stage.tasks.spawn(begun(front), name="begin")
        await asyncio.sleep(0.1)
        assert not beginning.done()
        await integration.start()
        assert (await call(front, await beginning)).status_code == 200


@pytest.mark.full
async def test_it_waits_no_longer_than_for_a_handshake(tmp_path: Path) -> None:
    async with (
        integration_stage(
            tmp_path, TIMEOUTS_FIRST_RESTART="5m", TIMEOUTS_LONGEST_RESTART="5m", TIMEOUTS_HANDSHAKE="1s"
        ) as stage,
        listening_front(stage, tmp_path) as front,
    ):
        integration = await stage.started()
        assert integration.pid is not None
        os.kill(integration.pid, signal.SIGKILL)
        await until(lambda: integration.status is Status.RESTARTING)
        answer = await post(front, "tester", ADMIN_KEY)
        assert answer.status_code == 503
        assert answer.json()["error"]["message"] == "the server tester is restarting"


async def turned_bad(stage: IntegrationStage, folder: Path, *faults: str) -> Integration:
    """Start a server whose processes have these faults from then on."""
    program, listed = folder / "program", folder / "faults"
    program.touch(0o755)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -IS {PROGRAM} $(cat "{listed}")\n')
    listed.touch()
    integration = await stage.started(transport={"type": "stdio", "command": str(program)})
    listed.write_text(" ".join(faults))
    return integration


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        ("crash-now", 502, "the server exited with code 3"),
        ("garbage", 502, "more than 1000 lines that are no messages"),
        ("endless-line", 502, "a line of more than 65536 bytes"),
        ("hang", 504, "the server did not answer initialize within 1 s"),
        ("refuse", 200, "not today"),
    ],
)
async def test_a_process_that_does_not_begin_is_told_and_ended(
    tmp_path: Path, fault: str, status: int, words: str
) -> None:
    limits = {"LIMITS_MESSAGE_BYTES": "64KiB", "TIMEOUTS_HANDSHAKE": "1s" if fault == "hang" else "5s"}
    async with integration_stage(tmp_path, **limits) as stage, listening_front(stage, tmp_path) as front:
        integration = await turned_bad(stage, tmp_path, fault)
        answer = await post(front, "tester", ADMIN_KEY)
        assert (answer.status_code, "Mcp-Session-Id" in answer.headers) == (status, False)
        assert words in answer.json()["error"]["message"]
        assert "cannot open the database" not in answer.text
        await until(lambda: session_pids(stage) == [])
        assert integration.status is Status.RUNNING


async def test_a_program_that_is_no_more_is_told_to_operators(
    stage: IntegrationStage, front: ListeningFront, tmp_path: Path
) -> None:
    integration = await turned_bad(stage, tmp_path)
    (tmp_path / "program").unlink()
    answer = await post(front, "tester", ADMIN_KEY)
    assert (answer.status_code, answer.json()["error"]["message"]) == (502, "the server tester cannot be started")
    assert "there is no program" in integration.log.tail(1)[0]


async def test_a_flood_of_errors_costs_a_ring(tmp_path: Path) -> None:
    async with (
        integration_stage(tmp_path, LIMITS_LOG_LINES="10", LIMITS_LOG_LINE_BYTES="256B") as stage,
        listening_front(stage, tmp_path) as front,
    ):
        integration = await turned_bad(stage, tmp_path, "flood")
        await begun(front)
        lines = integration.log.tail(1000)
        assert (len(lines), lines[-1]) == (10, "[session 1] after the flood")


async def test_a_secret_is_blank_in_the_log_of_a_session(stage: IntegrationStage, front: ListeningFront) -> None:
    integration = await stage.started("secret", secrets={"TOKEN": {"env": "TOKEN_OF_A_SERVER"}})
    told = await call(front, await begun(front), "whoami")
    assert SECRET in told.text
    assert integration.log.tail(2) == ["[session 1] my token is <Secret>", "[session 1] and so it is"]


async def test_who_goes_while_a_session_begins_leaves_no_process(
    stage: IntegrationStage, front: ListeningFront, tmp_path: Path
) -> None:
    await turned_bad(stage, tmp_path, "hang")
    for _ in range(3):
        async with httpx.AsyncClient(trust_env=False, timeout=0.5) as client:
            headers = ACCEPT | {"X-API-Key": ADMIN_KEY}
            with pytest.raises(httpx.ReadTimeout):
                await client.post(front.path("tester"), json=INITIALIZE, headers=headers)
    await until(lambda: session_pids(stage) == [])


@pytest.mark.parametrize("limit", ["LIMITS_SESSION_PROCESSES", "LIMITS_SESSION_PROCESSES_OF_ONE"])
async def test_at_a_limit_the_one_that_has_been_idle_longest_gives_way(tmp_path: Path, limit: str) -> None:
    async with integration_stage(tmp_path, **{limit: "2"}) as stage, listening_front(stage, tmp_path) as front:
        await stage.started()
        one, two = await begun(front), await begun(front)
        await call(front, one)
        three = await begun(front)
        assert [(await call(front, each)).status_code for each in (one, two, three)] == [200, 404, 200]
        await until(lambda: len(session_pids(stage)) == 2)


async def test_a_client_of_the_feed_begins_a_new_session_where_its_own_is_over(
    stage: IntegrationStage, front: ListeningFront
) -> None:
    await stage.started()

    async def fields(url: str) -> dict[str, str]:
        return {"X-API-Key": ADMIN_KEY}

    tools = LiveTools(fields)
    tools.apply({"tester": front.path("tester")})
    await tools.settled()
    assert not (await tools.call("tester", "echo", {})).is_error
    for pid in session_pids(stage):
        os.kill(pid, signal.SIGKILL)
    await until(lambda: session_pids(stage) == [])
    assert not (await tools.call("tester", "echo", {})).is_error
    await tools.close()
    # And it leaves none behind.
    await until(lambda: session_pids(stage) == [])
