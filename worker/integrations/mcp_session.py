"""What is said to an MCP server before it counts as running, and which tools it has."""

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import httpx2
from mcp.client.session import ClientSession, IncomingMessage, MessageHandlerFnT
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp_types import (
    METHOD_NOT_FOUND,
    UNSUPPORTED_PROTOCOL_VERSION,
    Implementation,
    PaginatedRequestParams,
    ServerCapabilities,
    ToolListChangedNotification,
)
from mcp_types.version import LATEST_HANDSHAKE_VERSION

from worker.integrations.launch import Call
from worker.integrations.stdio_server import StdioServer, stdio_streams

CLIENT: Final = Implementation(name="sallyport-worker", version="1")
# A server with this many pages of tools repeats itself.
MAX_PAGES: Final = 100

type ToolDocument = dict[str, object]


class SessionRefused(Exception):
    """The server answers, and is not one we can use; str() says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """What a server said of itself, and its tools."""

    protocol_version: str
    server_info: dict[str, object] | None
    capabilities: ServerCapabilities
    tools: tuple[ToolDocument, ...]


@asynccontextmanager
async def stdio_session(server: StdioServer, on_tools_changed: Callable[[], None]) -> AsyncIterator[ClientSession]:
    """Yield a session with a child. The task that enters it has to leave it."""
    async with (
        stdio_streams(server) as (read, write),
        ClientSession(read, write, client_info=CLIENT, message_handler=_listener(on_tools_changed)) as session,
    ):
        yield session


@asynccontextmanager
async def http_session(
    call: Call,
    *,
    trust: ssl.SSLContext,
    timeout_seconds: float,
    most_message_bytes: int,
    on_tools_changed: Callable[[], None],
) -> AsyncIterator[ClientSession]:
    """Yield a session with a server at a URL. The task that enters it has to leave it."""
    timeout = httpx2.Timeout(timeout_seconds, read=None)
    async with (
        # Its own surroundings have no say in where this goes.
        httpx2.AsyncClient(
            headers=dict(call.headers), timeout=timeout, verify=trust, proxy=call.proxy_url, trust_env=False
        ) as http,
        streamable_http_client(call.url, http_client=http, max_sse_event_size=most_message_bytes) as (read, write),
        ClientSession(read, write, client_info=CLIENT, message_handler=_listener(on_tools_changed)) as session,
    ):
        yield session


async def shake_hands(session: ClientSession, most_tools: int) -> Handshake:
    """Initialize (or discover, with a server that only knows that) and read every page of its tools.

    Raises MCPError, SessionRefused, and what pydantic raises for an answer that is none.
    """
    try:
        await session.initialize()
    except MCPError as error:
        if error.code not in (METHOD_NOT_FOUND, UNSUPPORTED_PROTOCOL_VERSION):
            raise
        await session.discover()
    except RuntimeError as error:  # the SDK's word for a version it does not speak
        raise SessionRefused(str(error)) from None
    capabilities = session.server_capabilities or ServerCapabilities()
    info = session.server_info
    return Handshake(
        protocol_version=session.protocol_version or LATEST_HANDSHAKE_VERSION,
        server_info=None if info is None else info.model_dump(mode="json", by_alias=True, exclude_none=True),
        capabilities=capabilities,
        tools=() if capabilities.tools is None else await list_tools(session, most_tools),
    )


async def list_tools(session: ClientSession, most_tools: int) -> tuple[ToolDocument, ...]:
    """Return the tools of every page; raises SessionRefused when there are too many, or the pages go round."""
    tools: list[ToolDocument] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = await session.list_tools(params=PaginatedRequestParams(cursor=cursor))
        tools += [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in page.tools]
        if len(tools) > most_tools:
            raise SessionRefused(f"it has more than {most_tools} tools")
        if page.next_cursor is None:
            return tuple(tools)
        if page.next_cursor == cursor:
            raise SessionRefused("its pages of tools repeat themselves")
        cursor = page.next_cursor
    raise SessionRefused(f"its tools have more than {MAX_PAGES} pages")


def _listener(on_tools_changed: Callable[[], None]) -> MessageHandlerFnT:
    async def hear(message: IncomingMessage) -> None:
        if isinstance(message, ToolListChangedNotification):
            on_tools_changed()

    return hear
