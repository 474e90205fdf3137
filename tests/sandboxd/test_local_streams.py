"""Streams of the gateway, to real listeners on this machine. stdio has its own tests."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from sallyport.net.clock import Clock
from sallyport.net.memory import MemoryTransport, memory_pair
from sallyport.setup import setup_digest
from sandboxd import stream_answers
from sandboxd.local_streams import LocalStreams
from sandboxd.setup.setup import Setup
from tests.support.raw_end import raw_origin
from tests.support.refusing_port import refusing_port
from tests.support.setup_documents import ENVIRONMENT, Json, client_document, setup_body, task_set
from tests.support.until import until


class Gateway(asyncio.Protocol):
    """The gateway's end of a stream."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.has_ended = False
        self.lost: list[Exception | None] = []
        self.transport: MemoryTransport

    def data_received(self, data: bytes) -> None:
        self.received += data

    def eof_received(self) -> bool:
        self.has_ended = True
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.append(error)

    @property
    def status(self) -> int:
        return int(self.received.split(b" ")[1]) if b"\r\n\r\n" in self.received else 0

    @property
    def payload(self) -> bytes:
        return bytes(self.received.partition(b"\r\n\r\n")[2])


class Sandbox:
    """Local streams, and a gateway that opens some."""

    def __init__(self, setup: Setup, streams: LocalStreams) -> None:
        self.setup = setup
        self.streams = streams
        self.statuses: list[object] = []

    def open(self, target: str, early: bytes = b"") -> Gateway:
        gateway = Gateway()
        gateway.transport, stream = memory_pair(asyncio.get_running_loop(), gateway, asyncio.Protocol())
        protocol = self.streams.connect(stream, target)
        stream.set_protocol(protocol)
        if early:
            protocol.data_received(early)
        return gateway

    def declare(self, **fields: object) -> None:
        """Have a document with these members in force."""
        body = setup_body(1 if self.setup.document is None else self.setup.document.revision + 1, **fields)
        revision = json.loads(body)["revision"]
        self.setup.announce({"revision": revision, "digest": setup_digest(body), "sizeBytes": len(body)})
        self.setup.document_received(revision, body)


@contextlib.asynccontextmanager
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    clock = Clock(asyncio.get_running_loop())
    async with task_set() as tasks:
        setup = Setup(state_dir=tmp_path, base_environment=ENVIRONMENT, send_status=lambda status: None, tasks=tasks)
        await setup.restore()
        there = Sandbox(setup, LocalStreams(setup, tasks=tasks, clock=clock))
        try:
            yield there
        finally:
            await there.streams.close()
            assert repr(there.streams) == "<LocalStreams: 0 open, <StdioSessions: 0>>"
            await setup.close()
    clock.close()


def endpoint(key: str, url: str) -> Json:
    return {"endpointKey": key, "transport": {"type": "ws", "url": url}, "connectionMode": "dedicated"}


def http_server(server_id: str, url: str, binding: str = "bnd_one") -> Json:
    transport = {"type": "streamable-http", "url": url}
    return {"serverId": server_id, "bindingId": binding, "name": server_id, "transport": transport}


async def answered(gateway: Gateway) -> Json:
    """Wait for a refusal and the end behind it; return its document."""
    await until(lambda: gateway.has_ended)
    problem = json.loads(gateway.payload)
    assert isinstance(problem, dict)
    assert problem["status"] == gateway.status
    return problem


# What is there and what is not ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        *("endpoint/agent/other", "endpoint/other/app", "endpoint/agent", "endpoint/agent/app/x", "mcp/other", "mcp/"),
        *("setup/1", "setup/", "setup/-1", "setup/\u0661", "setup/99999999999999999999", "setup/1/2"),
        *("", "/", "example.com:443", "endpoint/agent/../app", "mcp/twice"),
    ],
)
async def test_what_is_not_declared(tmp_path: Path, target: str) -> None:
    async with sandbox(tmp_path) as there:
        # Announced last, so that no document of revision 1 is awaited.
        for _ in range(2):
            there.declare(
                runtimeClients=[client_document(endpoints=[endpoint("app", "ws://127.0.0.1:9/")])],
                mcpServers=[http_server("twice", "http://127.0.0.1:9/", binding) for binding in ("bnd_a", "bnd_b")],
            )
        problem = await answered(there.open(target))
        assert (problem["status"], problem["code"], problem["retryable"]) == (404, "not_found", False)


async def test_before_the_first_document(tmp_path: Path) -> None:
    async with sandbox(tmp_path) as there:
        assert (await answered(there.open("endpoint/agent/app")))["code"] == "not_found"
        assert (await answered(there.open("mcp/files")))["code"] == "not_found"


@pytest.mark.parametrize(
    "url",
    [
        *(
            "ws://192.0.2.1:80/",
            "ws://0.0.0.0:80/",
            "ws://example.com/",
            "wss://127.0.0.1:80/",
            "ws://[::ffff:127.0.0.1]/",
        ),
        *("ws://169.254.169.254/", "ws://localhost.example.com/"),
    ],
)
async def test_nothing_off_this_machine_is_reached(tmp_path: Path, url: str) -> None:
    async with sandbox(tmp_path) as there:
        there.declare(
            runtimeClients=[client_document(endpoints=[endpoint("app", url)])],
            mcpServers=[http_server("web", url.replace("ws", "http", 1))],
        )
        for target in ("endpoint/agent/app", "mcp/web"):
            problem = await answered(there.open(target))
            assert (problem["status"], problem["code"]) == (403, "address_refused")


async def test_nobody_listens(tmp_path: Path) -> None:
    with refusing_port() as port:
        async with sandbox(tmp_path) as there:
            there.declare(mcpServers=[http_server("web", f"http://localhost:{port}/mcp")])
            problem = await answered(there.open("mcp/web", b"early"))
            assert (problem["status"], problem["code"], problem["retryable"]) == (502, "upstream_unreachable", True)


async def test_there_is_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_answers, "MAX_LOCAL_STREAMS", 2)
    async with raw_origin() as origin, sandbox(tmp_path) as there:
        there.declare(mcpServers=[http_server("web", f"http://127.0.0.1:{origin.port}/")])
        first, second = there.open("mcp/web"), there.open("mcp/web")
        assert (await answered(there.open("mcp/web")))["code"] == "overloaded"
        await until(lambda: first.status == second.status == 200)
        first.transport.abort()
        await until(lambda: "1 open" in repr(there.streams))
        third = there.open("mcp/web")
        await until(lambda: third.status == 200)


# Bytes both ways -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["endpoint/agent/app", "mcp/web"])
async def test_bytes_go_both_ways_and_each_half_ends_by_itself(tmp_path: Path, target: str) -> None:
    async with raw_origin() as origin, sandbox(tmp_path) as there:
        there.declare(
            runtimeClients=[client_document(endpoints=[endpoint("app", f"ws://localhost:{origin.port}/app")])],
            mcpServers=[http_server("web", f"http://127.0.0.1:{origin.port}/mcp")],
        )
        gateway = there.open(target, b"GET / HTTP/1.1\r\n")
        link = await origin.link()
        gateway.transport.write(b"\r\n")
        assert await link.head() == b"GET / HTTP/1.1\r\n\r\n"
        await until(lambda: gateway.status == 200)
        gateway.transport.write_eof()
        assert await link.rest() == b""
        link.send(b"answer")
        link.close()
        await until(lambda: gateway.has_ended)
        assert gateway.payload == b"answer"
        await until(lambda: "0 open" in repr(there.streams))


async def test_a_program_that_speaks_first(tmp_path: Path) -> None:
    async with raw_origin() as origin, sandbox(tmp_path) as there:
        there.declare(mcpServers=[http_server("web", f"http://127.0.0.1:{origin.port}/")])
        gateway = there.open("mcp/web")
        (await origin.link()).send(b"hello")
        await until(lambda: gateway.payload == b"hello")


@pytest.mark.parametrize("who", ["gateway", "program"])
async def test_a_reset_goes_through(tmp_path: Path, who: str) -> None:
    async with raw_origin() as origin, sandbox(tmp_path) as there:
        there.declare(mcpServers=[http_server("web", f"http://127.0.0.1:{origin.port}/")])
        gateway = there.open("mcp/web")
        link = await origin.link()
        await until(lambda: gateway.status == 200)
        if who == "gateway":
            gateway.transport.abort()
            assert await link.gone() == b""
        else:
            link.abort()
            await until(lambda: bool(gateway.lost) or gateway.has_ended)
        await until(lambda: "0 open" in repr(there.streams))


async def test_a_stream_that_ends_while_it_is_dialled(tmp_path: Path) -> None:
    async with raw_origin() as origin, sandbox(tmp_path) as there:
        there.declare(mcpServers=[http_server("web", f"http://127.0.0.1:{origin.port}/")])
        there.open("mcp/web").transport.abort()
        await until(lambda: "0 open" in repr(there.streams))


async def test_a_slow_program_slows_the_gateway_and_the_other_way_round(tmp_path: Path) -> None:
    size = 16 * 1024 * 1024
    async with raw_origin() as origin, sandbox(tmp_path) as there:
        there.declare(mcpServers=[http_server("web", f"http://127.0.0.1:{origin.port}/")])
        gateway = there.open("mcp/web")
        link = await origin.link()
        link.pause()
        await until(lambda: gateway.status == 200)
        gateway.transport.write(bytes(size))
        await _settled(gateway.transport.get_write_buffer_size)
        assert gateway.transport.get_write_buffer_size() > size // 2  # it stays where it came from
        link.resume()
        assert await link.exactly(size) == bytes(size)

        gateway.transport.pause_reading()
        link.send(bytes(size))
        await _settled(link.writer.transport.get_write_buffer_size)
        assert link.writer.transport.get_write_buffer_size() > size // 4
        gateway.transport.resume_reading()
        await until(lambda: len(gateway.payload) == size)


async def _settled(look: Callable[[], int]) -> None:
    """Wait until nothing moves any more."""
    before = -1
    while before != (before := look()):  # noqa: ASYNC110  nothing announces that nothing happens
        await asyncio.sleep(0.03)


# Setup documents -----------------------------------------------------------------------------------------------------


async def test_a_document_comes_in(tmp_path: Path) -> None:
    body = setup_body(3, environment={"A": "b" * 1000})
    async with sandbox(tmp_path) as there:
        there.setup.announce({"revision": 3, "digest": setup_digest(body), "sizeBytes": len(body)})
        gateway = there.open("setup/3", body[:10])
        gateway.transport.write(body[10:500])
        gateway.transport.write(body[500:])
        await until(lambda: gateway.status == 200)
        assert there.setup.document is None
        gateway.transport.write_eof()
        await until(lambda: there.setup.document is not None)
        await until(lambda: gateway.has_ended)
        assert gateway.payload == b""


async def test_a_document_that_is_cut_or_too_long_is_none(tmp_path: Path) -> None:
    body = setup_body(3)
    async with sandbox(tmp_path) as there:
        there.setup.announce({"revision": 3, "digest": setup_digest(body), "sizeBytes": len(body)})
        cut = there.open("setup/3", body)
        cut.transport.abort()
        long = there.open("setup/3", body + b"x")
        await until(lambda: bool(long.lost))
        await until(lambda: "0 open" in repr(there.streams))
        assert there.setup.document is None


# sandboxd runs on uvloop, whose sockets are its own.
@pytest.mark.uvloop
class TestOnUvloop:
    test_both_ways = staticmethod(test_bytes_go_both_ways_and_each_half_ends_by_itself)
    test_speaks_first = staticmethod(test_a_program_that_speaks_first)
    test_reset = staticmethod(test_a_reset_goes_through)
    test_slow = staticmethod(test_a_slow_program_slows_the_gateway_and_the_other_way_round)
    test_document = staticmethod(test_a_document_comes_in)
