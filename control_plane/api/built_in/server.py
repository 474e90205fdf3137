"""The built-in server's application: who may speak to it, and what its tools do. Open operations.py for the tools.

It has no sessions: whatever an exchange needs is in its request, so any replica answers any of them. It asks nothing of
its clients and tells them nothing unasked, so there is no stream to open either.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import orjson
import structlog
from fastapi import Request
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
)
from starlette.types import ASGIApp, Receive, Scope, Send

from control_plane.api.built_in.tools import BuiltInTool, built_in_tools
from control_plane.api.caller import identify_client
from control_plane.api.own_api import OwnApi
from control_plane.api.parts import Parts
from control_plane.api.problems import problem, problem_document
from control_plane.callers import Caller
from control_plane.feed.keys import KeyHolder
from control_plane.feed.tiers import Tier
from control_plane.refusals import ControlCode, Refused

PATH: Final = "/mcp"
NAME: Final = "sallyport"
# A recorded request is some hundred bytes, and a thousand of them are simulated at once.
MAX_BODY_BYTES: Final = 1024 * 1024
LOOPBACK_HOSTS: Final = ("127.0.0.1", "localhost", "[::1]")
INSTRUCTIONS: Final = (
    "Sallyport's control plane, for one organization. Sandboxes have plans, which say what may leave them and with "
    "which credential; plans are compiled from the bindings of a version of a sandbox profile; bindings lead to "
    "connections, which are accounts at targets. Lists have pages: give back nextCursor as cursor. A refusal says its "
    "code, what is wrong, and whether asking again may help."
)
# Where a request keeps who shows its key.
_CLIENT: Final = "sallyport.client"

_log = structlog.get_logger(__name__)


class BuiltInServer:
    """The application at PATH, within the one that its tools ask. run() holds what it runs on."""

    def __init__(self, api: ASGIApp, document: Mapping[str, Any], parts: Parts) -> None:
        """document is the OpenAPI document of the API."""
        self._api = OwnApi(api)
        self._parts = parts
        self._tools = built_in_tools(document)
        self._ready = asyncio.Event()
        server = Server[Any](
            NAME,
            title="Sallyport",
            version=str(document["info"]["version"]),
            instructions=INSTRUCTIONS,
            on_list_tools=self._list,
            on_call_tool=self._call,
        )
        self._manager = StreamableHTTPSessionManager(
            server,
            json_response=True,
            stateless=True,
            security_settings=_security(parts.public_url),
            max_request_body_size=MAX_BODY_BYTES,
        )

    async def run(self) -> None:
        """Serve until cancelled."""
        async with self._manager.run():
            self._ready.set()
            await asyncio.get_running_loop().create_future()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI); raises Refused and DatabaseUnavailable, which the application around it tells."""
        request = Request(scope, receive)
        client = await identify_client(request, self._parts)
        if client.tier is not Tier.ADMIN:
            raise Refused(ControlCode.FORBIDDEN, "a key of the tier admin may ask this")
        if request.method != "POST":
            answer = problem(request, Refused(ControlCode.METHOD_NOT_ALLOWED, "there is no stream; ask by POST"))
            answer.headers["Allow"] = "POST"
            await answer(scope, receive, send)
            return
        scope[_CLIENT] = client
        await self._ready.wait()
        await self._manager.handle_request(scope, receive, send)

    async def _list(self, _: ServerRequestContext[Any], __: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=[each.shown for each in self._tools.values()])

    async def _call(self, context: ServerRequestContext[Any], params: CallToolRequestParams) -> CallToolResult:
        request, tool = context.request, self._tools.get(params.name)
        assert isinstance(request, Request), "it came by HTTP"
        if tool is None:
            raise MCPError(INVALID_PARAMS, f"there is no tool {params.name!a}")
        client: KeyHolder = request.scope[_CLIENT]
        try:
            status, document = await self._ask(request, client, tool, params.arguments or {})
        except Refused as refused:
            status, document = refused.code.status, problem_document(request.scope["sallyport.request_id"], refused)
        _log.info(
            "tool_called",
            tool=params.name,
            caller=client.key_id,
            status=status,
            request_id=request.scope["sallyport.request_id"],
        )
        content = [TextContent(text=orjson.dumps(document).decode())]
        if status >= 400:
            return CallToolResult(content=list(content), is_error=True)
        return CallToolResult(content=list(content), structured_content=document)

    async def _ask(
        self, request: Request, client: KeyHolder, tool: BuiltInTool, arguments: Mapping[str, Any]
    ) -> tuple[int, dict[str, Any]]:
        asked = tool.asked(arguments, {"organizationId": client.organization_id, "instanceId": client.instance_id})
        caller = Caller(
            id=client.key_id,
            roles=frozenset({tool.operation.role}),
            organization_id=client.organization_id,
            instance_id=client.instance_id,
        )
        answer = await self._api.ask(request, caller, asked.method, asked.path, body=asked.body, query=asked.query)
        return answer.status, answer.document

    def __repr__(self) -> str:
        return f"<BuiltInServer {len(self._tools)} tools>"


def _security(public_url: str) -> TransportSecuritySettings:
    """Answer by the names that this control plane has; a web page whose name was rebound to it asks by another."""
    host = urlsplit(public_url).hostname or ""
    names = {*LOOPBACK_HOSTS, f"[{host}]" if ":" in host else host}
    return TransportSecuritySettings(
        allowed_hosts=[form for name in sorted(names) for form in (name, f"{name}:*")],
        allowed_origins=[public_url],
    )
