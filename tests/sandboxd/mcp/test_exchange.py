"""One request and its answer on a stream, whatever stands in it."""

import asyncio

import pytest

from sallyport.mcp.exchange import McpRequest, Refused
from sallyport.problem import Code
from sandboxd.mcp import exchange as module
from sandboxd.mcp.exchange import StreamExchange
from tests.support.mcp_requests import ACCEPT, Asked, ask, request
from tests.support.setup_documents import task_set
from tests.support.until import until


class Served:
    """What serves an exchange in a test: it keeps the request and answers with it, or does what it is told."""

    def __init__(self) -> None:
        self.requests: list[McpRequest] = []
        self.ends = 0
        self.was_cancelled = False
        self.hold = False

    async def serve(self, exchange: StreamExchange) -> None:
        self.requests.append(await exchange.request())
        try:
            if self.hold:
                await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        await exchange.answer(self.requests[-1].body, "s1")

    def ended(self) -> None:
        self.ends += 1


async def test_a_request_and_its_answer() -> None:
    served = Served()
    async with task_set() as tasks:
        asked = ask(
            lambda stream: StreamExchange(stream).begin(tasks, served.serve, served.ended),
            message=request("ping"),
            session="s0",
        )
        await asked.done()
        assert (asked.status, asked.field("Mcp-Session-Id"), asked.messages) == (200, "s1", [request("ping")])
        [found] = served.requests
        assert (found.method, found.session_id, found.accept) == ("POST", "s0", ACCEPT)
        assert served.ends == 1


async def test_events_in_their_order() -> None:
    async def serve(exchange: StreamExchange) -> None:
        await exchange.request()
        await exchange.begin_events()
        await exchange.event(b'{"a":1}')
        await exchange.still_here()
        await exchange.event(b'{"a":2}')
        await exchange.end_events()

    async with task_set() as tasks:
        asked = await ask(lambda stream: StreamExchange(stream).begin(tasks, serve, lambda: None)).done()
        assert (asked.field("Content-Type"), asked.messages) == ("text/event-stream", [{"a": 1}, {"a": 2}])


@pytest.mark.parametrize(
    ("fields", "body", "status", "words"),
    [
        ({"Content-Length": "x"}, b"", 400, "this is no HTTP request"),
        ({"Transfer-Encoding": "chunked"}, b"", 400, "this is no HTTP request"),
        ({}, b"x" * (module.MAX_MESSAGE_BYTES + 1), 413, "a message has at most 4194304 bytes"),
        ({"X-Long": "x" * 200_000}, b"", 400, "this is no HTTP request"),
    ],
)
async def test_what_is_refused(fields: dict[str, str], body: bytes, status: int, words: str) -> None:
    served = Served()
    async with task_set() as tasks:
        asked = ask(
            lambda stream: StreamExchange(stream).begin(tasks, served.serve, served.ended), message=body, fields=fields
        )
        await until(lambda: asked.status != 0)
        assert (asked.status, asked.error) == (status, words)
        await until(lambda: served.ends == 1)


async def test_a_request_that_does_not_come_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REQUEST_SECONDS", 0.05)
    served = Served()
    async with task_set() as tasks:
        serve = StreamExchange.begin
        asked = ask(
            lambda stream: serve(StreamExchange(stream), tasks, served.serve, served.ended),
            fields={"Content-Length": "9"},
        )
        await asked.done()
        assert (asked.status, asked.field("X-Sallyport-Error")) == (408, "request_timeout")


async def test_a_refusal_is_what_mcp_clients_show() -> None:
    async def serve(exchange: StreamExchange) -> None:
        await exchange.request()
        refused = Refused.of(Code.UPSTREAM_UNREACHABLE, "it exited")
        refused.identity = '"a"'
        raise refused

    async with task_set() as tasks:
        asked = await ask(lambda stream: StreamExchange(stream).begin(tasks, serve, lambda: None)).done()
        assert (asked.status, asked.field("X-Sallyport-Error")) == (502, "upstream_unreachable")
        data = {"code": "upstream_unreachable", "status": 502}
        error = {"code": -32000, "message": "it exited", "data": data}
        assert asked.messages == [{"jsonrpc": "2.0", "id": "a", "error": error}]


async def test_whoever_is_gone_is_served_no_more() -> None:
    served = Served()
    served.hold = True
    async with task_set() as tasks:
        asked = ask(
            lambda stream: StreamExchange(stream).begin(tasks, served.serve, served.ended), message=request("ping")
        )
        await until(lambda: len(served.requests) == 1)
        asked.transport.abort()
        await until(lambda: served.ends == 1)
        assert served.was_cancelled


async def test_one_that_is_gone_before_it_is_served() -> None:
    served = Served()
    async with task_set() as tasks:

        def begin(stream: asyncio.Transport) -> asyncio.Protocol:
            protocol = StreamExchange(stream).begin(tasks, served.serve, served.ended)
            protocol.connection_lost(None)
            return protocol

        ask(begin)
        await until(lambda: served.ends == 1)
        assert served.requests == []


async def test_one_that_does_not_read_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WRITE_SECONDS", 0.05)
    ends: list[Asked] = []

    async def serve(exchange: StreamExchange) -> None:
        await exchange.request()
        await exchange.begin_events()
        while True:
            await exchange.event(b"x" * 100_000)

    async with task_set() as tasks:
        asked = ask(lambda stream: StreamExchange(stream).begin(tasks, serve, lambda: ends.append(asked)))
        asked.transport.pause_reading()
        await until(lambda: ends == [asked])
