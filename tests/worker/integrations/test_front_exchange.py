"""One request by ASGI and its answer, and who is served no more."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sallyport.mcp.exchange import McpRequest, Refused
from tests.support.until import until
from worker.integrations import front_exchange as module
from worker.integrations.front_exchange import FrontExchange


class Asked:
    """Who asks, as a server of ASGI tells of them."""

    def __init__(self, *parts: bytes, headers: dict[str, str] | None = None) -> None:
        self.sent: list[Any] = []
        self.requests: list[McpRequest] = []
        self.is_gone = asyncio.Event()
        self.does_not_read = False
        self._incoming = [
            {"type": "http.request", "body": part, "more_body": number < len(parts) - 1}
            for number, part in enumerate(parts)
        ]
        fields = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        scope = {"type": "http", "method": "POST", "path": "/", "headers": fields}
        self.exchange = FrontExchange(scope, self._receive, self._send, most_body_bytes=10)

    async def run(self, serve: Callable[[FrontExchange], Awaitable[None]]) -> "Asked":
        async def served(request: McpRequest) -> None:
            self.requests.append(request)
            await serve(self.exchange)

        await self.exchange.run(served)
        return self

    async def _receive(self) -> Any:  # noqa: ANN401  a message of ASGI
        if self._incoming:
            return self._incoming.pop(0)
        await self.is_gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:  # noqa: ANN401  likewise
        if self.does_not_read:
            await asyncio.get_running_loop().create_future()
        self.sent.append(message)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def fields(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def body(self) -> bytes:
        assert [part["more_body"] for part in self.sent[1:]] == [True] * (len(self.sent) - 2) + [False]
        return b"".join(part["body"] for part in self.sent[1:])


async def test_a_request_and_its_answer() -> None:
    asked = Asked(b"ab", b"c", headers={"Accept": "text/event-stream", "Mcp-Session-Id": "s0"})
    await asked.run(lambda exchange: exchange.answer(b"{}", "s1"))
    assert asked.requests == [McpRequest(method="POST", session_id="s0", accept="text/event-stream", body=b"abc")]
    assert (asked.status, asked.body) == (200, b"{}")
    assert asked.fields == {b"content-type": b"application/json", b"content-length": b"2", b"mcp-session-id": b"s1"}


async def test_events_in_their_order() -> None:
    async def serve(exchange: FrontExchange) -> None:
        await exchange.begin_events()
        await exchange.event(b"1")
        await exchange.still_here()
        await exchange.event(b"2")
        await exchange.end_events()

    asked = await Asked(b"").run(serve)
    assert (asked.status, asked.fields[b"content-type"]) == (200, b"text/event-stream")
    assert asked.body == b"event: message\ndata: 1\n\n: \n\nevent: message\ndata: 2\n\n"


@pytest.mark.parametrize(("confirms", "status"), [(FrontExchange.accept, 202), (FrontExchange.confirm_end, 200)])
async def test_answers_without_a_message(confirms: Callable[[FrontExchange], Awaitable[None]], status: int) -> None:
    asked = await Asked(b"").run(confirms)
    assert (asked.status, asked.body) == (status, b"")


@pytest.mark.parametrize(("status", "later"), [(503, b"1"), (404, None)])
async def test_a_refusal(status: int, later: bytes | None) -> None:
    async def serve(exchange: FrontExchange) -> None:
        raise Refused(status, "why", "these words")

    asked = await Asked(b"").run(serve)
    assert (asked.status, asked.fields.get(b"retry-after")) == (status, later)
    assert b'"message": "these words"' in asked.body


async def test_too_much_of_a_request_is_not_served() -> None:
    asked = await Asked(b"123456", b"12345").run(FrontExchange.accept)
    assert (asked.status, asked.requests) == (413, [])


async def test_whoever_is_gone_is_served_no_more() -> None:
    ends: list[str] = []

    async def serve(exchange: FrontExchange) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ends.append("cancelled")

    asked = Asked(b"")
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(asked.run(serve))
        await until(lambda: len(asked.requests) == 1)
        asked.is_gone.set()
    assert (ends, asked.sent) == (["cancelled"], [])


async def test_one_that_is_gone_before_it_has_asked() -> None:
    asked = Asked()
    asked.is_gone.set()
    await asked.run(FrontExchange.accept)
    assert (asked.requests, asked.sent) == ([], [])


async def test_an_answer_that_is_complete_is_not_cut_short() -> None:
    done: list[str] = []

    async def serve(exchange: FrontExchange) -> None:
        await exchange.accept()
        # As a server does: it says of who has its whole answer that they are gone.
        asked.is_gone.set()
        for _ in range(5):
            await asyncio.sleep(0)
        done.append("all")

    asked = Asked(b"")
    await asked.run(serve)
    assert done == ["all"]


async def test_one_that_does_not_read_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WRITE_SECONDS", 0.05)

    async def serve(exchange: FrontExchange) -> None:
        await exchange.begin_events()
        asked.does_not_read = True
        await exchange.event(b"1")

    asked = Asked(b"")
    await asked.run(serve)
    assert len(asked.sent) == 1
