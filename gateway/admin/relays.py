"""Ways into a sandbox: the WebSocket of an endpoint, and the HTTP of an MCP server, each over a stream of the tunnel.

The plan names what may be reached and by which URL; sandboxd connects to that on its own machine and to nothing else.
Of our caller's request only what the protocol needs goes in: a service token of this listener never does.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Final

from aiohttp import web

from gateway.admin.bodies import read_body
from gateway.admin.pass_on import join, pass_on_answer
from gateway.admin.refusals import AdminCode, Refused
from gateway.core.route_table import RouteTable
from gateway.parts import GatewayParts
from gateway.sandbox_streams import NoTunnel, SandboxStream, StreamRefused, open_sandbox_stream
from sallyport.plan.workload import HttpMcpTransport, McpTransport
from sallyport.problem import Code
from sallyport.setup import LocalUrl, split_url
from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.codec import parse_response
from sallyport.wire.http1.head import ResponseHead
from sallyport.wire.http1.scan import HEAD_END

# A JSON-RPC message; tools that move files do it elsewhere.
MAX_MCP_REQUEST_BYTES: Final = 4 * 1024 * 1024
# What sandboxd serves over HTTP itself, for a server that speaks on its standard input and output: any name will do.
STDIO_URL: Final = "http://localhost/mcp"
# 100, 103 and a few 102s; an MCP server has no reason to send any.
MAX_INTERIM_ANSWERS: Final = 8

# How sandboxd refuses what its document does not declare yet, and what is declared and does not run yet.
_NOT_SET_UP: Final = (404, 502)

# Ids as they stand in plans; anything else could be another request line.
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_WEBSOCKET_FIELDS: Final = (
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Version",
    "Sec-WebSocket-Protocol",
    "Sec-WebSocket-Extensions",
)
_MCP_FIELDS: Final = ("accept", "content-type", "last-event-id")
_MCP_PREFIX: Final = "mcp-"


async def opened(
    parts: GatewayParts, sandbox_id: str, target: str, is_declared: Callable[[RouteTable], bool] | None = None
) -> SandboxStream:
    """Open a stream into a sandbox; raises Refused."""
    try:
        return await open_sandbox_stream(parts, sandbox_id, target, is_declared)
    except NoTunnel:
        raise Refused(AdminCode.NO_TUNNEL, "the sandbox has no tunnel to this gateway now") from None
    except StreamRefused as refused:
        raise Refused(AdminCode.SANDBOX_REFUSED, refused.detail, sandboxStatus=refused.status) from None
    except TimeoutError:
        raise Refused(AdminCode.SANDBOX_TIMEOUT, "sandboxd did not answer in time") from None


async def _reached(
    parts: GatewayParts, table: RouteTable, target: str, is_declared: Callable[[RouteTable], bool]
) -> SandboxStream:
    """Open a stream to what the plan declares; raises Refused, by SETUP_PENDING where that is still to be set up."""
    # Before, too: a set-up may come to its end just after the sandbox has refused.
    was_pending = _is_pending(parts, table)
    try:
        return await opened(parts, table.sandbox_id, target, is_declared)
    except Refused as refused:
        is_explained = refused.details.get("sandboxStatus") in _NOT_SET_UP
        if is_explained and (was_pending or _is_pending(parts, table)):
            raise Refused(AdminCode.SETUP_PENDING, refused.detail, **refused.details) from None
        raise


def _is_pending(parts: GatewayParts, table: RouteTable) -> bool:
    """Whether the sandbox has not said of the plan's set-up, or of a later one, that it is applied or has failed."""
    host = parts.tunnels.current(table.sandbox_id)
    match None if host is None else host.setup_status:
        case {"revision": int(revision), "state": "applied" | "failed"}:
            return revision < table.revision
    return True


class Relays:
    """The handlers."""

    def __init__(self, parts: Callable[[], GatewayParts]) -> None:
        self._parts = parts

    # Endpoints --------------------------------------------------------------------------------------

    async def endpoint(self, request: web.Request) -> web.StreamResponse:
        """Join our caller's WebSocket with the endpoint's: its handshake is passed on, then bytes, both ways."""
        parts, names = self._parts(), request.match_info
        if request.headers.get("Upgrade", "").lower() != "websocket":
            raise Refused(Code.INVALID_REQUEST, "an endpoint is reached by a WebSocket")
        asked = names["client_id"], names["endpoint_key"]
        table = _plan(parts, names["sandbox_id"])
        declared = _endpoint_url(table, *asked)
        if declared is None:
            raise Refused(AdminCode.NOT_FOUND, "the sandbox's plan has no such endpoint")
        url, target = split_url(declared), f"endpoint/{'/'.join(map(_id, asked))}"
        stream = await _reached(parts, table, target, lambda newer: _endpoint_url(newer, *asked) == declared)
        try:
            fields = [(name, value) for name in _WEBSOCKET_FIELDS for value in request.headers.getall(name, [])]
            fields += [("Connection", "Upgrade"), ("Upgrade", "websocket")]
            stream.writer.write(_request_head("GET", url, fields, request.query_string))
            head = await _answer_head(stream, parts.timeouts.handshake)
            if head.status != 101:
                raise Refused(AdminCode.SANDBOX_REFUSED, f"the endpoint answered {head.status}, no WebSocket")
            return await join(parts.tasks, request, stream, head)
        finally:
            stream.abort()

    # MCP --------------------------------------------------------------------------------------------

    async def mcp(self, request: web.Request) -> web.StreamResponse:
        """Forward one request of streamable HTTP, and its answer as it comes."""
        parts, names = self._parts(), request.match_info
        server_id = names["server_id"]
        table = _plan(parts, names["sandbox_id"])
        server = _mcp_server(table, server_id)
        if server is None:
            raise Refused(AdminCode.NOT_FOUND, "the sandbox's plan has no such MCP server")
        body = await read_body(request, MAX_MCP_REQUEST_BYTES)
        stream = await _reached(
            parts,
            table,
            f"mcp/{_id(server_id)}",
            lambda newer: _is_same_place(_mcp_server(newer, server_id), server),
        )
        try:
            url, fields = _http_place(server)
            declared = {name.lower() for name, _ in fields}
            asked = [(name, value) for name, value in request.headers.items() if _is_mcp_field(name)]
            fields += [(name, value) for name, value in asked if name.lower() not in declared]
            fields += [("Content-Length", str(len(body)))] if body or request.method == "POST" else []
            fields += [("Connection", "close")]
            stream.writer.write(_request_head(request.method, split_url(url), fields) + body)
            head = await _answer_head(stream, parts.timeouts.answer_head)
            return await pass_on_answer(request, stream, head)
        finally:
            stream.abort()


# What the plan knows ----------------------------------------------------------------------------------


def _plan(parts: GatewayParts, sandbox_id: str) -> RouteTable:
    table = parts.plans.table(sandbox_id)
    if table is None:
        raise Refused(Code.PLAN_UNAVAILABLE, "no plan is loaded for this sandbox")
    return table


def _endpoint_url(table: RouteTable, client_id: str, endpoint_key: str) -> str | None:
    for client in table.plan.runtime_clients:
        for endpoint in client.endpoints:
            if (client.client_id, endpoint.endpoint_key) == (client_id, endpoint_key):
                return str(endpoint.transport.url)
    return None


def _mcp_server(table: RouteTable, server_id: str) -> McpTransport | None:
    for server in table.plan.mcp_servers:
        if server.server_id == server_id:
            return server.transport
    return None


def _http_place(server: McpTransport) -> tuple[str, list[tuple[str, str]]]:
    """Where requests to a server go, and the fields that the plan has written into them."""
    if isinstance(server, HttpMcpTransport):
        return server.url, list((server.headers or {}).items())
    return STDIO_URL, []


def _is_same_place(now: McpTransport | None, before: McpTransport) -> bool:
    """Whether a session with what a plan named before may go on; fields of requests are written anew for each."""
    if isinstance(now, HttpMcpTransport) and isinstance(before, HttpMcpTransport):
        return now.url == before.url
    return now == before


def _id(text: str) -> str:
    assert _ID.fullmatch(text), "an id that the plan has"
    return text


# Heads ----------------------------------------------------------------------------------------------


def _is_mcp_field(name: str) -> bool:
    return name.lower().startswith(_MCP_PREFIX) or name.lower() in _MCP_FIELDS


def _request_head(method: str, url: LocalUrl, fields: Sequence[tuple[str, str]], query: str = "") -> bytes:
    target = url.target + (("&" if "?" in url.target else "?") + query if query else "")
    host = f"[{url.host}]" if ":" in url.host else url.host
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}:{url.port}", *(f"{name}: {value}" for name, value in fields)]
    return "\r\n".join((*lines, "", "")).encode("latin-1")


async def _answer_head(stream: SandboxStream, seconds: float) -> ResponseHead:
    """Read the final head of an answer; raises Refused."""
    try:
        async with asyncio.timeout(seconds):
            for _ in range(MAX_INTERIM_ANSWERS + 1):
                block = await stream.reader.readuntil(HEAD_END)
                head = parse_response(block[: -len(HEAD_END)])
                if head.status >= 200 or head.status == 101:
                    return head
        raise RemoteProtocolError("too many interim answers")
    except TimeoutError:
        raise Refused(AdminCode.SANDBOX_TIMEOUT, "what was asked in the sandbox did not answer in time") from None
    except (RemoteProtocolError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError) as error:
        reason = f"what was asked in the sandbox gave no HTTP answer ({type(error).__name__})"
        raise Refused(AdminCode.SANDBOX_REFUSED, reason) from None
