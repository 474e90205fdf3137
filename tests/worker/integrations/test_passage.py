"""Requests passed on to a server at a URL: the front of one worker calls the front of another, each with its keys."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.support.front_stage import ADMIN_KEY, OTHER_KEY, STANDARD_KEY, ListeningFront, listening_front
from tests.support.integration_stage import IntegrationStage, integration_stage

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}
ACCEPT = {"Accept": "application/json, text/event-stream"}


@dataclass
class Two:
    """A worker elsewhere with the server, and the one whose front is called."""

    far: IntegrationStage
    far_front: ListeningFront
    near: IntegrationStage
    front: ListeningFront

    async def post(self, key: str, body: object = INITIALIZE, **headers: str) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
            return await client.post(self.front.path("far"), json=body, headers=ACCEPT | {"X-API-Key": key} | headers)


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Two]:
    for name in ("far", "near"):
        (tmp_path / name).mkdir()
    async with (
        integration_stage(tmp_path / "far") as far,
        listening_front(far, tmp_path / "far", sessions=8) as far_front,
        integration_stage(tmp_path / "near", {"KEY": OTHER_KEY}) as near,
        listening_front(near, tmp_path / "near", sessions=2) as front,
    ):
        await far.started(name="far")
        secrets = {"Authorization": {"env": "KEY", "prefix": "Bearer "}}
        transport = {"type": "streamable-http", "url": far_front.path("far")}
        await near.started(name="far", transport=transport, secrets=secrets)
        yield Two(far, far_front, near, front)


async def test_calls_and_progress_go_through(two: Two) -> None:
    seen = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        seen.append(progress)

    async with two.front.session("far") as session:
        assert session.server_info is not None
        assert session.server_info.name == "test-server"
        assert len((await session.list_tools()).tools) == 4
        assert not (await session.call_tool("grow", {}, progress_callback=note)).is_error
    assert seen == [0, 1, 2]
    assert repr(two.front.front) == "<Front 1 passages>"


async def test_a_session_is_its_keys_and_there_are_so_many(two: Two) -> None:
    session = {"Mcp-Session-Id": (await two.post(ADMIN_KEY)).headers["Mcp-Session-Id"]}
    ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
    assert (await two.post(ADMIN_KEY, ping, **session)).status_code == 200
    assert (await two.post(OTHER_KEY, ping, **session)).status_code == 404
    for _ in range(2):
        await two.post(OTHER_KEY)
    assert (await two.post(ADMIN_KEY, ping, **session)).status_code == 404


async def test_a_standard_key_gets_no_further_than_here(two: Two) -> None:
    assert (await two.post(STANDARD_KEY)).status_code == 404


async def test_what_is_no_request_or_too_much_of_one(two: Two) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        put = await client.put(two.front.path("far"), headers={"X-API-Key": ADMIN_KEY})
        assert (put.status_code, put.headers["Allow"]) == (405, "POST, GET, DELETE")
    assert (await two.post(ADMIN_KEY, "x" * (5 * 1024 * 1024))).status_code == 413


async def test_what_the_server_says_of_our_key_is_not_the_callers_business(two: Two) -> None:
    # Its key is good for the worker elsewhere no more.
    (two.far_front.keys).write_text("# none\n")
    answer = await two.post(ADMIN_KEY)
    assert (answer.status_code, answer.json()["error"]["message"]) == (502, "the server answers 401")
    assert OTHER_KEY not in answer.text
    assert "www-authenticate" not in answer.headers


async def test_one_that_is_stopped_is_called_no_more_and_its_streams_end(two: Two) -> None:
    session = {"Mcp-Session-Id": (await two.post(ADMIN_KEY)).headers["Mcp-Session-Id"]}
    headers = {"Accept": "text/event-stream", "X-API-Key": ADMIN_KEY} | session
    async with (
        httpx.AsyncClient(trust_env=False, timeout=10) as client,
        client.stream("GET", two.front.path("far"), headers=headers) as stream,
    ):
        assert stream.status_code == 200
        await two.near.integrations.find("far").stop()
        async with asyncio.timeout(5):
            with pytest.raises(httpx.RemoteProtocolError):
                await stream.aread()
    assert (await two.post(ADMIN_KEY)).status_code == 503
    assert repr(two.front.front) == "<Front 0 passages>"
