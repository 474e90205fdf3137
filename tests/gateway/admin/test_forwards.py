"""What a parent forwards: recordings of several processes as one, and where a request may not go."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gateway.admin.forwards import forward_routes
from gateway.admin.refusals import answer_refusals
from tests.support.stub_fleet import StubFleet, stub_fleet

type Client = TestClient[web.Request, web.Application]


@pytest.fixture
async def stubs(tmp_path: Path) -> AsyncIterator[StubFleet]:
    async with stub_fleet(tmp_path) as stubs:
        yield stubs


@pytest.fixture
async def client(stubs: StubFleet) -> AsyncIterator[Client]:
    app = web.Application(middlewares=[answer_refusals])
    app.add_routes(forward_routes(stubs.fleet, stubs.tasks))
    async with TestClient(TestServer(app)) as client:
        yield client


def flows(*documents: dict[str, object]) -> str:
    return "".join(json.dumps(document, separators=(",", ":")) + "\n" for document in documents)


def exchange(number: int, name: str) -> dict[str, object]:
    return {"kind": "exchange", "number": number, "requestId": name}


async def test_the_exchanges_of_all_are_numbered_anew_and_losses_stay_losses(stubs: StubFleet, client: Client) -> None:
    begin = {"kind": "recording", "formatVersion": 1, "maxBodyBytes": 64}
    for number, exchanges in ((1, [exchange(1, "a"), exchange(4, "b")]), (2, [exchange(1, "c")])):
        dropped = {"kind": "dropped", "dropped": 2 * (2 - number)}
        end = {"kind": "end", "recorded": len(exchanges), "dropped": 2 * (2 - number)}
        stubs.write(f"flows-{number}", flows(begin, *exchanges, dropped, {"kind": "alive", "recorded": 0}, end))
    stubs.start()
    await stubs.serving()
    async with client.get("/v1/flows?maxBody=64") as answer:
        assert answer.status == 200
        lines = [json.loads(line) for line in (await answer.read()).splitlines()]
    assert lines[0] == begin
    assert lines[-1] == {"kind": "end", "recorded": 3, "dropped": 2}
    assert [line for line in lines if line["kind"] == "recording"] == [begin]
    found = {line["requestId"]: line["number"] for line in lines if line["kind"] == "exchange"}
    assert found.keys() == {"a", "b", "c"}
    assert max(found.values()) == 5
    assert found["b"] - found["a"] >= 3
    for number in (1, 2):
        assert stubs.orders(number)[-1] == "GET /v1/flows?maxBody=64"


async def test_nobody_records_while_nobody_serves(client: Client) -> None:
    for path in ("/v1/flows", "/v1/sandboxes/sbx_one/setup"):
        async with client.get(path) as answer:
            assert (answer.status, (await answer.json(content_type=None))["code"]) == (503, "overloaded")
    async with client.get("/v1/sandboxes") as answer:
        assert await answer.json() == {"items": []}


async def test_a_refusal_of_one_is_the_answer(stubs: StubFleet, client: Client) -> None:
    stubs.start()
    await stubs.serving()
    stubs.write("refuses", "/v1/flows")
    async with client.get("/v1/flows") as answer:
        assert answer.status == 500


async def test_the_token_of_this_listener_goes_no_further(stubs: StubFleet, client: Client) -> None:
    stubs.start()
    await stubs.serving()
    fields = {"Authorization": "Bearer ours", "Mcp-Session-Id": "one", "Accept": "text/event-stream"}
    async with client.post("/v1/sandboxes/sbx_one/mcp/m", data=b"{}", headers=fields) as answer:
        seen = {name.lower(): value for name, value in (await answer.json())["fields"].items()}
    assert (seen["mcp-session-id"], seen["accept"], seen["host"]) == ("one", "text/event-stream", "localhost")
    assert "authorization" not in seen


async def test_a_process_that_dies_meanwhile_is_told(stubs: StubFleet, client: Client) -> None:
    stubs.start()
    await stubs.serving()
    stubs.fleet.processes[0].socket = Path("/nowhere")
    async with client.get("/v1/sandboxes/sbx_one/setup") as answer:
        assert (answer.status, (await answer.json(content_type=None))["code"]) == (502, "sandbox_refused")
