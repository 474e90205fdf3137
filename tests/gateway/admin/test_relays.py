"""Endpoints and MCP servers of a sandbox, reached through the admin listener and the tunnel by real clients."""

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer

from gateway.admin import pass_on, relays
from sallyport.plan.codec import seal
from tests.gateway.admin.test_sandboxes import problem
from tests.support.in_process import GatewayInProcess, in_process_gateway
from tests.support.plan_documents import plan_document
from tests.support.raw_end import RawEnd
from tests.support.sandbox_end import SandboxEnd
from tests.support.tunnel_client import TunnelClient
from tests.support.until import until

pytestmark = pytest.mark.uvloop

ENDPOINT = "/v1/sandboxes/sbx_one/endpoints/agent/ws"
MCP = "/v1/sandboxes/sbx_one/mcp/files"


def endpoint(key: str, url: str) -> dict[str, object]:
    return {"endpointKey": key, "transport": {"type": "ws", "url": url}, "connectionMode": "shared"}


def mcp_server(server_id: str, transport: dict[str, object]) -> dict[str, object]:
    return {"serverId": server_id, "bindingId": "bnd_one", "name": server_id, "transport": transport}


def the_plan(revision: int = 1, *, port: int = 4500, declared: str = "yes", **further: object) -> bytes:
    return seal(
        plan_document(
            runtimeClients=[
                {
                    "clientId": "agent",
                    "setup": {"env": {}, "files": []},
                    "processes": [],
                    "endpoints": [endpoint("ws", f"ws://127.0.0.1:{port}/session?v=1")],
                }
            ],
            mcpServers=[
                mcp_server(
                    "files",
                    {
                        "type": "streamable-http",
                        "url": f"http://127.0.0.1:{port + 100}/mcp",
                        "headers": {"X-Declared": declared},
                    },
                ),
                mcp_server("shell", {"type": "stdio", "command": "shell", "args": []}),
            ],
            revision=revision,
        )
        | further
    )


PLAN = the_plan()


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[GatewayInProcess]:
    async with in_process_gateway(tmp_path, plan=PLAN) as gateway:
        yield gateway


@pytest.fixture
async def admin(gateway: GatewayInProcess) -> AsyncIterator[aiohttp.ClientSession]:
    base = f"http://127.0.0.1:{gateway.gateway.admin_port}"
    async with aiohttp.ClientSession(base) as session:
        yield session


class Inside:
    """A program in the sandbox; what it was asked is kept."""

    def __init__(self) -> None:
        self.requests: list[web.BaseRequest] = []
        self.release = asyncio.Event()
        self.targets: list[str] = []

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(request)
        if request.headers.get("Upgrade"):
            return await self._echo(request)
        if request.headers.get("Accept") == "text/event-stream":
            return await self._events(request)
        body = await request.read()
        return web.Response(body=b"got " + body, headers={"Mcp-Session-Id": "s1"}, content_type="application/json")

    async def _echo(self, request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=["chat"])
        await socket.prepare(request)
        async for message in socket:
            if message.data == "bye":
                await socket.close(code=4321, message=b"as asked")
            elif isinstance(message.data, bytes):
                await socket.send_bytes(message.data)
            else:
                await socket.send_str(message.data)
        return socket

    async def _events(self, request: web.BaseRequest) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        await answer.write(b"data: first\n\n")
        await self.release.wait()
        await answer.write(b"data: second\n\n")
        return answer


@pytest.fixture
async def inside(gateway: GatewayInProcess) -> AsyncIterator[Inside]:
    """Run a sandbox whose every stream reaches one program, as a sandboxd would join them."""
    program = Inside()
    server = RawTestServer(program.serve)
    await server.start_server()
    assert server.port is not None
    sandbox, port = SandboxEnd(await gateway.tunnel()), server.port

    async def join_all() -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                target, end = await sandbox.opened(patience_seconds=None)
                program.targets.append(target)
                local = await RawEnd.dial(port)
                group.create_task(pump(end, local))
                group.create_task(pump(local, end))

    joining = gateway.parts.tasks.spawn(join_all(), name="a sandboxd")
    yield program
    joining.cancel()
    await asyncio.wait([joining])
    await server.close()


async def pump(source: RawEnd, sink: RawEnd) -> None:
    try:
        with contextlib.suppress(ConnectionError, TimeoutError):
            while data := await source._reader.read(65536):
                sink.send(data)
        sink.close()
    except asyncio.CancelledError:
        sink.writer.transport.abort()
        raise


# ---- endpoints


async def test_a_websocket_is_joined_with_the_endpoint_s(inside: Inside, admin: aiohttp.ClientSession) -> None:
    headers = {"Authorization": "Bearer of-this-listener", "X-Mine": "1", "Cookie": "a=b"}
    async with admin.ws_connect(f"{ENDPOINT}?token=2", protocols=["chat"], headers=headers) as socket:
        assert socket.protocol == "chat"
        await socket.send_str("hello")
        assert await socket.receive_str() == "hello"
        big = bytes(range(256)) * 8192
        await socket.send_bytes(big)
        assert await socket.receive_bytes() == big
        await socket.send_str("bye")
        message = await socket.receive()
        assert message.type is aiohttp.WSMsgType.CLOSE
        assert message.data == 4321
    assert inside.targets == ["endpoint/agent/ws"]
    (request,) = inside.requests
    assert request.path_qs == "/session?v=1&token=2"
    assert request.headers["Host"] == "127.0.0.1:4500"
    assert not {"Authorization", "X-Mine", "Cookie"} & set(request.headers)


async def test_what_the_caller_leaves_ends_in_the_sandbox_too(
    gateway: GatewayInProcess, inside: Inside, admin: aiohttp.ClientSession
) -> None:
    socket = await admin.ws_connect(ENDPOINT)
    await socket.send_str("hello")
    assert await socket.receive_str() == "hello"
    client = gateway._tunnels[0]
    assert client.tunnel.stream_count == 1
    assert socket._response.connection is not None
    socket._response.connection.transport.abort()  # type: ignore[union-attr]  # it is connected
    await until(lambda: client.tunnel.stream_count == 0)
    await socket.close()


async def test_a_tunnel_that_ends_ends_the_websocket(
    gateway: GatewayInProcess, inside: Inside, admin: aiohttp.ClientSession
) -> None:
    async with admin.ws_connect(ENDPOINT) as socket:
        await socket.send_str("hello")
        assert await socket.receive_str() == "hello"
        gateway._tunnels[0].abort()
        message = await socket.receive()
        assert message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/sandboxes/sbx_one/endpoints/agent/other", 404, "not_found"),
        ("/v1/sandboxes/sbx_one/endpoints/other/ws", 404, "not_found"),
        ("/v1/sandboxes/sbx_one/endpoints/agent/ws%20HTTP", 404, "not_found"),
        ("/v1/sandboxes/sbx_two/endpoints/agent/ws", 503, "plan_unavailable"),
        (ENDPOINT, 409, "no_tunnel"),
    ],
)
async def test_what_the_plan_does_not_name_is_not_reached(
    admin: aiohttp.ClientSession, path: str, status: int, code: str
) -> None:
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": "x"}
    async with admin.get(path, headers=upgrade) as answer:
        assert await problem(answer) == (status, code)


async def test_an_endpoint_is_reached_by_a_websocket_alone(admin: aiohttp.ClientSession) -> None:
    async with admin.get(ENDPOINT) as answer:
        assert await problem(answer) == (400, "invalid_request")


async def test_a_web_page_reaches_no_endpoint(inside: Inside, admin: aiohttp.ClientSession) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await admin.ws_connect(ENDPOINT, headers={"Origin": "https://evil.test"})
    assert caught.value.status == 403
    assert inside.targets == []


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "sandbox_refused"),
        (b"noise\r\n\r\n", "sandbox_refused"),
        (b"HTTP/1.1 102 Processing\r\n\r\n" * 20, "sandbox_refused"),
        (None, "sandbox_refused"),
    ],
)
async def test_an_endpoint_that_is_no_websocket_is_told_as_such(
    gateway: GatewayInProcess, admin: aiohttp.ClientSession, answer: bytes | None, code: str
) -> None:
    sandbox = SandboxEnd(await gateway.tunnel())
    asked = gateway.parts.tasks.spawn(_ask(admin), name="asking")
    _, end = await sandbox.opened()
    await end.head()
    if answer is None:
        end.close()
    else:
        end.send(answer)
    assert await asked == (502, code)


async def _ask(admin: aiohttp.ClientSession) -> tuple[int, str]:
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": "x"}
    async with admin.get(ENDPOINT, headers=upgrade) as answer:
        return await problem(answer)


# ---- MCP


async def test_a_request_and_its_answer_are_passed_on(inside: Inside, admin: aiohttp.ClientSession) -> None:
    headers = {
        "Authorization": "Bearer of-this-listener",
        "Content-Type": "application/json",
        "Mcp-Session-Id": "s0",
        "MCP-Protocol-Version": "2025-06-18",
        "X-Mine": "1",
    }
    async with admin.post(MCP, data=b'{"jsonrpc":"2.0"}', headers=headers) as answer:
        assert (answer.status, await answer.read()) == (200, b'got {"jsonrpc":"2.0"}')
        assert answer.headers["Mcp-Session-Id"] == "s1"
        assert answer.content_type == "application/json"
    async with admin.delete(MCP) as answer:
        assert await answer.read() == b"got "
    assert inside.targets == ["mcp/files"] * 2
    first, second = inside.requests
    assert (first.method, first.path, first.headers["Host"]) == ("POST", "/mcp", "127.0.0.1:4600")
    assert (first.headers["Mcp-Session-Id"], first.headers["Mcp-Protocol-Version"]) == ("s0", "2025-06-18")
    assert first.headers["X-Declared"] == "yes"
    assert not {"Authorization", "X-Mine"} & set(first.headers)
    assert second.method == "DELETE"


async def test_an_event_stream_is_not_held_back(inside: Inside, admin: aiohttp.ClientSession) -> None:
    async with admin.get(MCP, headers={"Accept": "text/event-stream"}) as answer:
        assert answer.content_type == "text/event-stream"
        assert await answer.content.readany() == b"data: first\n\n"
        assert not inside.release.is_set()
        inside.release.set()
        assert await answer.content.read() == b"data: second\n\n"


async def test_a_caller_that_leaves_an_event_stream_is_noticed(
    gateway: GatewayInProcess, inside: Inside, admin: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pass_on, "LOOK_SECONDS", 0.01)
    answer = await admin.get(MCP, headers={"Accept": "text/event-stream"})
    assert await answer.content.readany() == b"data: first\n\n"
    answer.close()
    await until(lambda: gateway._tunnels[0].tunnel.stream_count == 0)


@pytest.mark.parametrize(
    ("sent", "is_whole"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole", True),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", True),
        (b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\ncut", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\ncut", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n", False),
    ],
)
async def test_an_answer_that_is_cut_does_not_look_whole(
    gateway: GatewayInProcess, admin: aiohttp.ClientSession, sent: bytes, is_whole: bool
) -> None:
    sandbox = SandboxEnd(await gateway.tunnel())
    asked = gateway.parts.tasks.spawn(_post(admin), name="asking")
    _, end = await sandbox.opened()
    await end.head()
    end.send(sent)
    end.close()
    if is_whole:
        assert (await asked)[1] == sent.partition(b"\r\n\r\n")[2]
    else:
        with pytest.raises(aiohttp.ClientError):
            await asked


async def test_a_stdio_server_is_asked_by_http_too(admin: aiohttp.ClientSession, inside: Inside) -> None:
    """What makes a process of it stands at the other end of the stream."""
    fields = {"Mcp-Session-Id": "s0", "X-Other": "x", "Accept": "application/json"}
    async with admin.post("/v1/sandboxes/sbx_one/mcp/shell", data=b"{}", headers=fields) as answer:
        assert (answer.status, await answer.read()) == (200, b"got {}")
        assert answer.headers["Mcp-Session-Id"] == "s1"
    [asked] = inside.requests
    assert inside.targets == ["mcp/shell"]
    assert (asked.method, asked.path, asked.headers["Host"]) == ("POST", "/mcp", "localhost:80")
    assert (asked.headers["Mcp-Session-Id"], "X-Other" in asked.headers) == ("s0", False)


async def _post(admin: aiohttp.ClientSession) -> tuple[int, bytes]:
    async with admin.post(MCP, data=b"x") as answer:
        return answer.status, await answer.read()


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/sandboxes/sbx_one/mcp/other", 404, "not_found"),
        ("/v1/sandboxes/sbx_two/mcp/files", 503, "plan_unavailable"),
        (MCP, 409, "no_tunnel"),
    ],
)
async def test_which_servers_there_are_is_the_plan_s_to_say(
    admin: aiohttp.ClientSession, path: str, status: int, code: str
) -> None:
    async with admin.post(path, data=b"{}") as answer:
        assert await problem(answer) == (status, code)


async def test_a_request_body_has_a_limit(admin: aiohttp.ClientSession) -> None:
    async with admin.post(MCP, data=io.BytesIO(b"x" * (relays.MAX_MCP_REQUEST_BYTES + 1))) as answer:
        assert await problem(answer) == (413, "body_too_large")
    async with admin.put(MCP, data=b"x") as answer:
        assert await problem(answer) == (405, "method_not_allowed")


async def test_a_server_that_does_not_answer_has_its_time(tmp_path: Path) -> None:
    further = {"timeouts": {"answer_head": "1s"}}
    async with in_process_gateway(tmp_path, plan=PLAN, further=further) as gateway:
        sandbox = SandboxEnd(await gateway.tunnel())
        base = f"http://127.0.0.1:{gateway.gateway.admin_port}"
        async with aiohttp.ClientSession(base) as admin:
            asked = gateway.parts.tasks.spawn(_post(admin), name="asking")
            _, end = await sandbox.opened()
            assert (await asked)[0] == 504
            await end.gone()


# ---- what is withdrawn

EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
WITHDRAWN = {
    "plan removed": ("DELETE", "/v1/sandboxes/sbx_one/plan", None),
    "sandbox revoked": ("POST", "/v1/tokens/revoke", b'{"kind":"sandbox","id":"sbx_one","until":2000000000}'),
    "no longer declared": ("PUT", "/v1/sandboxes/sbx_one/plan", the_plan(2, runtimeClients=[], mcpServers=[])),
    "at another address": ("PUT", "/v1/sandboxes/sbx_one/plan", the_plan(2, port=4501)),
    "another organization": ("PUT", "/v1/sandboxes/sbx_one/plan", the_plan(2, organizationId="org_two")),
}


async def order(admin: aiohttp.ClientSession, what: tuple[str, str, bytes | None]) -> None:
    method, path, body = what
    async with admin.request(method, path, data=body) as answer:
        assert answer.status in (200, 204), await answer.text()


@pytest.mark.parametrize("what", WITHDRAWN.values(), ids=WITHDRAWN.keys())
async def test_what_is_withdrawn_ends_an_endpoint_s_websocket(
    gateway: GatewayInProcess, inside: Inside, admin: aiohttp.ClientSession, what: tuple[str, str, bytes | None]
) -> None:
    async with admin.ws_connect(ENDPOINT) as socket:
        await socket.send_str("hello")
        assert await socket.receive_str() == "hello"
        await order(admin, what)
        assert gateway.parts.streams.of_sandboxes == 0
        with contextlib.suppress(ConnectionError):
            await socket.send_str("after it")
        assert (await socket.receive()).type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
        await until(lambda: gateway._tunnels[0].tunnel.stream_count == 0)


@pytest.mark.parametrize(
    "framing", [b"Transfer-Encoding: chunked\r\n\r\n9\r\n", b"\r\n"], ids=["chunked", "to its end"]
)
@pytest.mark.parametrize("what", WITHDRAWN.values(), ids=WITHDRAWN.keys())
async def test_what_is_withdrawn_ends_an_answer_of_an_mcp_server(
    gateway: GatewayInProcess, admin: aiohttp.ClientSession, what: tuple[str, str, bytes | None], framing: bytes
) -> None:
    sandbox = SandboxEnd(await gateway.tunnel())
    asking = gateway.parts.tasks.spawn(_post_begun(admin), name="asking")
    _, end = await sandbox.opened()
    await end.head()
    end.send(EVENTS + framing + b"data: 1\n\n")
    answer = await asking
    assert await answer.content.readany() == b"data: 1\n\n"
    await order(admin, what)
    end.send(b"data: 2\n\n")
    with pytest.raises(aiohttp.ClientError):
        await answer.read()
    assert await end.gone() == b""


async def _post_begun(admin: aiohttp.ClientSession) -> aiohttp.ClientResponse:
    return await admin.post(MCP, data=b"x")


NOT_DECLARED = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
NOT_RUNNING = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"
FULL = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("status", "answer", "expected"),
    [
        (None, NOT_DECLARED, (503, "setup_pending")),
        ({"revision": 1, "state": "applying"}, NOT_RUNNING, (503, "setup_pending")),
        ({"revision": 1, "state": "applied"}, NOT_DECLARED, (502, "sandbox_refused")),
        ({"revision": 2, "state": "failed"}, NOT_RUNNING, (502, "sandbox_refused")),
        ({"revision": 0, "state": "applied"}, NOT_DECLARED, (503, "setup_pending")),
        # What sandboxd says is no more than what it says.
        ({"revision": "1", "state": "applied"}, NOT_DECLARED, (503, "setup_pending")),
        # Nothing that a set-up would change.
        (None, FULL, (502, "sandbox_refused")),
        (None, b"noise\r\n\r\n", (502, "sandbox_refused")),
    ],
)
@pytest.mark.parametrize("way", ["endpoint", "mcp"])
async def test_what_is_declared_and_not_set_up_yet_is_to_be_asked_again(
    gateway: GatewayInProcess,
    admin: aiohttp.ClientSession,
    status: dict[str, object] | None,
    answer: bytes,
    expected: tuple[int, str],
    way: str,
) -> None:
    client = await gateway.tunnel()
    sandbox = SandboxEnd(client)
    await _tell(gateway, client, status)
    asked = gateway.parts.tasks.spawn(_asked(admin, way), name="asking")
    await sandbox.opened(answer=answer)
    assert await asked == (*expected, "1" if expected[0] == 503 else None)


async def test_a_set_up_that_ends_after_the_refusal_does_not_make_it_a_failure(
    gateway: GatewayInProcess, admin: aiohttp.ClientSession
) -> None:
    client = await gateway.tunnel()
    sandbox = SandboxEnd(client)
    asked = gateway.parts.tasks.spawn(_asked(admin, "mcp"), name="asking")
    _, end = await sandbox.opened(answer=b"")
    await _tell(gateway, client, {"revision": 1, "state": "applied"})
    end.send(NOT_DECLARED)
    assert await asked == (503, "setup_pending", "1")


async def _tell(gateway: GatewayInProcess, client: TunnelClient, status: dict[str, object] | None) -> None:
    host = gateway.parts.tunnels.current("sbx_one")
    assert host is not None
    if status is not None:
        client.tunnel.send_control({"type": "setup.status", **status, "steps": []})
        await until(lambda: host.setup_status is not None)


async def _asked(admin: aiohttp.ClientSession, way: str) -> tuple[int, str, str | None]:
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": "x"}
    asking = admin.get(ENDPOINT, headers=upgrade) if way == "endpoint" else admin.post(MCP, data=b"x")
    async with asking as answer:
        return *await problem(answer), answer.headers.get("Retry-After")


async def test_what_is_withdrawn_ends_what_still_opens(gateway: GatewayInProcess, admin: aiohttp.ClientSession) -> None:
    sandbox = SandboxEnd(await gateway.tunnel())
    asking = gateway.parts.tasks.spawn(_ask(admin), name="asking")
    _, end = await sandbox.opened(answer=b"")
    await order(admin, WITHDRAWN["plan removed"])
    assert await asking == (502, "sandbox_refused")
    assert await end.gone() == b""


async def test_what_a_newer_plan_still_declares_goes_on(
    gateway: GatewayInProcess, inside: Inside, admin: aiohttp.ClientSession
) -> None:
    async with (
        admin.ws_connect(ENDPOINT) as socket,
        admin.get(MCP, headers={"Accept": "text/event-stream"}) as answer,
    ):
        assert await answer.content.readany() == b"data: first\n\n"
        await order(admin, ("PUT", "/v1/sandboxes/sbx_one/plan", the_plan(2, declared="otherwise")))
        await socket.send_str("hello")
        assert await socket.receive_str() == "hello"
        inside.release.set()
        assert await answer.content.read() == b"data: second\n\n"
