"""Requests to a program that knows no sessions: what it is asked, and what comes of that."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from mcp.shared.dispatcher import ProgressFnT
from mcp.shared.exceptions import MCPError

from sallyport.mcp.exchange import McpRequest, Refused
from tests.support.mcp_exchanges import KeptExchange
from tests.support.mcp_requests import ACCEPT, Json, notification, request
from worker.integrations.sessionless import answer_alone


class Program:
    """Keeps what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Mapping[str, object] | None]] = []

    async def ask(
        self, method: str, params: Mapping[str, object] | None, on_progress: ProgressFnT | None
    ) -> dict[str, Any]:
        self.asked.append((method, params))
        if method == "refused":
            raise MCPError(-32602, "not like this", {"why": 1})
        if on_progress is not None:
            await on_progress(1, 2, None)
        return {"resultType": "complete", "é": 1}


async def answered(program: Program, message: Json | bytes, method: str = "POST") -> KeptExchange:
    exchange = KeptExchange()
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    await answer_alone(exchange, McpRequest(method=method, session_id=None, accept=ACCEPT, body=body), program.ask)
    assert exchange.is_over
    return exchange


async def test_what_is_of_the_protocol_itself_is_for_one_hop() -> None:
    program = Program()
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "example.com/trace": "t"}
    exchange = await answered(program, request("tools/call", "a", name="echo", _meta=meta))
    assert program.asked == [("tools/call", {"name": "echo", "_meta": {"example.com/trace": "t"}})]
    assert exchange.messages == [{"jsonrpc": "2.0", "id": "a", "result": {"resultType": "complete", "é": 1}}]
    await answered(program, {"jsonrpc": "2.0", "id": 1, "method": "server/discover"})
    assert program.asked[1] == ("server/discover", None)


async def test_progress_comes_as_events_before_the_result() -> None:
    exchange = await answered(Program(), request("tools/call", 1, _meta={"progressToken": "t"}))
    told = notification("notifications/progress", progressToken="t", progress=1, total=2)
    assert exchange.messages == [told, {"jsonrpc": "2.0", "id": 1, "result": {"resultType": "complete", "é": 1}}]
    assert exchange.began_events.is_set()


async def test_half_of_a_surrogate_pair_goes_both_ways() -> None:
    program = Program()
    exchange = await answered(
        program, b'{"jsonrpc": "2.0", "id": "\\ud800", "method": "x", "params": {"a": "\\udfff"}}'
    )
    assert program.asked == [("x", {"a": "\udfff"})]
    assert exchange.messages[0]["id"] == "\ud800"


async def test_an_error_is_passed_on() -> None:
    exchange = await answered(Program(), request("refused"))
    assert exchange.messages[0]["error"] == {"code": -32602, "message": "not like this", "data": {"why": 1}}


async def test_a_notification_is_taken_and_goes_nowhere() -> None:
    program = Program()
    assert (await answered(program, notification("notifications/cancelled"))).messages == []
    assert program.asked == []


@pytest.mark.parametrize(
    ("method", "message", "status"),
    [
        ("POST", b"no message", 400),
        ("POST", b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": [1]}', 400),
        ("POST", b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"_meta": "m"}}', 400),
        ("GET", b"", 405),
        ("DELETE", b"", 405),
    ],
)
async def test_what_is_refused(method: str, message: bytes, status: int) -> None:
    with pytest.raises(Refused) as caught:
        await answered(Program(), message, method)
    assert caught.value.status == status
