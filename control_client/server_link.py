"""One server of the feed, spoken to by one task: it enters the SDK's client, makes the calls, and leaves it again.

Callers put a call into the link's queue and wait for its future. So no caller's end, and no other server's, is ever
inside the SDK's scopes; and a link is closed where it was opened, by the task that opened it.
"""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

import httpx2
import structlog
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CONNECTION_CLOSED, CallToolResult, Implementation
from mcp_types import Tool as ListedTool

from control_client.call_faults import CUT_OFF, NOT_ACCEPTED, NOT_BEGUN, AnsweredFaults
from control_client.tool_errors import (
    BUSY,
    CUT,
    GONE,
    REFUSED,
    TIMEOUT,
    UNAUTHORIZED,
    UNREACHABLE,
    UNSENDABLE,
    ServerError,
    ToolCallError,
)
from control_client.toolset import CallResult, Progress, Tool, Toolset

CONNECT_SECONDS: Final = 5.0
# Shorter than any server's own: one that closes an idle connection just as it is used again would cut a call.
IDLE_SECONDS: Final = 3.0
# Calls of one link at once, each on an HTTP connection; the others wait in the queue.
MAX_CALLS: Final = 256
# Beyond it a caller is refused at once: the server is not keeping up.
MAX_WAITING: Final = 1_024
# A server that lists more is broken, or means harm.
MAX_PAGES: Final = 100
MAX_TOOLS: Final = 2_000
# One message of an event stream. The SDK holds it whole.
MAX_EVENT_BYTES: Final = 16 * 1024 * 1024

# What an error of the protocol means for the call that it answers.
_MEANING: Final = {NOT_BEGUN: UNREACHABLE, NOT_ACCEPTED: UNAUTHORIZED, CUT_OFF: CUT, CONNECTION_CLOSED: CUT}
# After these the server behind the link is not the one that was listed.
_BROKEN: Final = frozenset({UNREACHABLE, UNAUTHORIZED, CUT})

_log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True, eq=False)
class _Call:
    tool: str
    arguments: dict[str, Any]
    progress: Progress | None
    answer: asyncio.Future[CallResult]
    task: asyncio.Task[None] | None = field(default=None)

    def fail(self, error: ToolCallError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class ServerLink:
    """A link to one server. run() is its task; ready() waits for its tools; retire() ends it kindly."""

    def __init__(
        self,
        server: str,
        url: str,
        fields: Mapping[str, str],
        *,
        on_broken: Callable[["ServerLink"], None],
        call_seconds: float,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        """on_broken hears, once, that the server answers no more as it did."""
        self.server = server
        self.url = url
        self._fields = fields
        self._on_broken = on_broken
        self._call_seconds = call_seconds
        self._trust = trust
        self._queue: asyncio.Queue[_Call | None] = asyncio.Queue()
        self._open: set[_Call] = set()
        self._drained = asyncio.Event()
        self._drained.set()
        self._ready: asyncio.Future[Toolset] = asyncio.get_running_loop().create_future()
        self._is_closed = False
        # The server answers no more as it did.
        self.is_broken = False

    # What callers do ---------------------------------------------------------------------------------

    async def call(self, tool: str, arguments: Mapping[str, Any], progress: Progress | None) -> CallResult:
        """Call a tool; raises ToolCallError. A caller that is cancelled takes its call back."""
        if self._is_closed:
            raise ToolCallError(GONE, self.server)
        if len(self._open) >= MAX_CALLS + MAX_WAITING:
            raise ToolCallError(BUSY, self.server)
        answer: asyncio.Future[CallResult] = asyncio.get_running_loop().create_future()
        call = _Call(tool=tool, arguments=_sendable(arguments), progress=progress, answer=answer)
        self._open.add(call)
        self._drained.clear()
        self._queue.put_nowait(call)
        try:
            return await answer
        finally:
            # Also where the caller was cancelled: then its task is still at it, and takes the call back.
            if call.task is not None:
                call.task.cancel()
            self._open.discard(call)
            if not self._open:
                self._drained.set()

    @property
    def open_calls(self) -> int:
        """How many calls are being made or wait."""
        return len(self._open)

    # What its owner does -----------------------------------------------------------------------------

    async def ready(self) -> Toolset:
        """Wait for the server's tools, all of them; raises ServerError."""
        return await asyncio.shield(self._ready)

    async def retire(self, grace_seconds: float) -> None:
        """Wait until the calls have drained, or for so long, then have the task end."""
        try:
            async with asyncio.timeout(grace_seconds):
                await self._drained.wait()
        except TimeoutError:
            _log.warning("calls_cut", server=self.server, calls=len(self._open))
        self.close()

    def close(self) -> None:
        """Take no more calls, cut those that are open, and have the task end."""
        self._is_closed = True
        self._cut_calls()
        self._queue.put_nowait(None)

    async def run(self) -> None:
        """Be the link, until close() or until the server cannot be spoken to."""
        why = "closed"
        try:
            async with self._client() as client:
                toolset = await self._list(client)
                if not self._ready.done():
                    self._ready.set_result(toolset)
                await self._serve(client)
        except ServerError as error:
            why = str(error)
        except Exception as error:
            # The SDK raises what its parts raise, in groups: all of it means that this link is over.
            why = _words(error)
        finally:
            self._end(why)

    # Its life ----------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _client(self) -> AsyncIterator[Client]:
        transport = httpx2.AsyncHTTPTransport(
            verify=True if self._trust is None else self._trust,
            trust_env=False,  # a proxy that this process happens to use has no say in how a server is reached
            limits=httpx2.Limits(
                # One more for the stream on which a server speaks unasked, and for what the SDK says beside the calls.
                max_connections=MAX_CALLS + 8,
                max_keepalive_connections=8,
                keepalive_expiry=IDLE_SECONDS,
            ),
        )
        http = httpx2.AsyncClient(
            transport=AnsweredFaults(transport),
            headers={"Accept-Encoding": "identity", **self._fields},  # a small answer stays a small answer
            timeout=httpx2.Timeout(CONNECT_SECONDS, read=None),  # the calls' own time bounds the answers
            trust_env=False,
        )
        async with http:
            wire = streamable_http_client(self.url, http_client=http, max_sse_event_size=MAX_EVENT_BYTES)
            async with Client(wire, client_info=Implementation(name="sallyport", version="1"), cache=None) as client:
                yield client

    async def _list(self, client: Client) -> Toolset:
        tools: list[Tool] = []
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            page = await client.list_tools(cursor=cursor)
            tools += [self._tool(each) for each in page.tools]
            cursor = page.next_cursor
            if len(tools) > MAX_TOOLS:
                raise ServerError(f"more than {MAX_TOOLS} tools")
            if len({each.name for each in tools}) != len(tools):
                raise ServerError("two tools of one name")
            if cursor is None:
                return Toolset(server=self.server, url=self.url, tools=tuple(tools))
        raise ServerError(f"more than {MAX_PAGES} pages of tools")

    def _tool(self, listed: ListedTool) -> Tool:
        hints = listed.annotations
        return Tool(
            server=self.server,
            name=listed.name,
            description=listed.description or "",
            input_schema=listed.input_schema,
            is_repeatable=hints is not None and bool(hints.read_only_hint or hints.idempotent_hint),
            line=self,
        )

    async def _serve(self, client: Client) -> None:
        """Make the calls in the order they came, so many at once, until there is a None."""
        free = asyncio.Semaphore(MAX_CALLS)
        async with asyncio.TaskGroup() as calls:
            while (call := await self._queue.get()) is not None:
                await free.acquire()
                if call.answer.done():  # its caller has gone
                    free.release()
                    continue
                call.task = calls.create_task(self._make(client, call), name=f"{self.server}: {call.tool}")
                call.task.add_done_callback(lambda _: free.release())

    async def _make(self, client: Client, call: _Call) -> None:
        try:
            async with asyncio.timeout(self._call_seconds):
                result = await client.call_tool(call.tool, call.arguments, progress_callback=call.progress)
        except TimeoutError:
            call.fail(ToolCallError(TIMEOUT, f"{self.server}: {self._call_seconds:g} s"))
        except MCPError as error:
            code = _MEANING.get(error.code, REFUSED)
            if code in _BROKEN:
                self._break()
            call.fail(ToolCallError(code, f"{self.server}: {error.message}", rpc_code=error.code))
        except (ValueError, RuntimeError) as error:
            # An answer that is no result of this protocol, or one that does not fit the tool's own schema.
            call.fail(ToolCallError(REFUSED, f"{self.server}: {type(error).__name__}"))
        else:
            if not call.answer.done():
                call.answer.set_result(_result(result))

    def _break(self) -> None:
        if not self.is_broken and not self._is_closed:
            self.is_broken = True
            self._on_broken(self)

    def _end(self, why: str) -> None:
        if self._ready.done():
            self._break()
        else:
            self._ready.set_exception(ServerError(why))
            self._ready.exception()  # heard, also where nobody waits any more
        self._is_closed = True
        self._cut_calls()

    def _cut_calls(self) -> None:
        for call in list(self._open):
            call.fail(ToolCallError(GONE if call.task is None else CUT, self.server))

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "broken" if self.is_broken else "open"
        return f"<ServerLink {self.server}: {state}, {len(self._open)} calls>"


def _sendable(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain JSON; raises ToolCallError. What the SDK cannot write ends its whole connection as it is sent."""
    try:
        text = json.dumps(dict(arguments), allow_nan=False, ensure_ascii=False).encode("utf-8")
        return cast(dict[str, Any], json.loads(text))
    except (TypeError, ValueError, RecursionError) as error:
        raise ToolCallError(UNSENDABLE, type(error).__name__) from None


def _result(result: CallToolResult) -> CallResult:
    content = tuple(block.model_dump(mode="json", by_alias=True, exclude_none=True) for block in result.content)
    return CallResult(content=content, structured=result.structured_content, is_error=bool(result.is_error))


def _words(error: BaseException) -> str:
    """Say what was raised, by the first that is in it; texts of MCPError are the server's, and are cut short."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, MCPError):
        return f"the server answered {error.code}: {error.message[:200]!a}"
    return type(error).__name__
