"""One request of streamable HTTP and its answer, on a stream of the tunnel: one JSON document, or a run of events."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from sallyport.net.tasks import TaskSet
from sallyport.problem import Code
from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.answers import plain_answer
from sallyport.wire.http1.body import frame_chunk, frame_end
from sallyport.wire.http1.codec import parse_request
from sallyport.wire.http1.framing import request_reader
from sallyport.wire.http1.head import RequestHead
from sallyport.wire.http1.scan import HEAD_END
from sandboxd.core.json_rpc import SERVER_ERROR, error_response

SESSION_FIELD: Final = b"mcp-session-id"
MAX_HEAD_BYTES: Final = 64 * 1024
MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024  # the SDKs' limit for a request, the gateway's and the worker's
REQUEST_SECONDS: Final = 10.0  # the gateway has the whole request when it opens the stream
# What a caller that does not read may hold up its session for.
WRITE_SECONDS: Final = 30.0
# Between two events: proxies and clients on the way give up answers that say nothing for a minute.
ALIVE_SECONDS: Final = 15.0


class Refused(Exception):
    """A request that is not carried out; `identity` is its JSON-RPC id where it has one."""

    def __init__(self, status: int, code: str, detail: str, identity: str | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.identity = identity

    @classmethod
    def of(cls, code: Code, detail: str, identity: str | None = None) -> "Refused":
        """Refuse with an answer of the data path."""
        return cls(code.status, code.wire, detail, identity)

    def to_answer(self) -> bytes:
        """Write it so that an MCP client shows the words: they read JSON-RPC, whatever the status."""
        data = {"code": self.code, "status": self.status}
        body = error_response(self.identity, SERVER_ERROR, self.detail, data)
        return (
            _head(self.status, b"application/json", len(body), b"X-Sallyport-Error: %b\r\n" % self.code.encode()) + body
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class McpRequest:
    """What of a request counts."""

    method: str
    session_id: str | None
    body: bytes


class Exchange:
    """One stream: read `request` once, then answer once. Losing the stream cancels `serve`.

    Always: `_writer` is written to by `serve` alone, so what it says stands in order.
    """

    def __init__(self, stream: asyncio.Transport) -> None:
        loop = asyncio.get_running_loop()
        self._reader = asyncio.StreamReader(limit=MAX_HEAD_BYTES, loop=loop)
        self.protocol = _Protocol(self._reader)
        self.protocol.connection_made(stream)
        self._writer = asyncio.StreamWriter(stream, self.protocol, self._reader, loop)

    def begin(
        self, tasks: TaskSet, serve: Callable[["Exchange"], Awaitable[None]], on_end: Callable[[], None]
    ) -> asyncio.Protocol:
        """Have the stream served in a task, and return its protocol. `on_end` is called once, when it is over."""
        task = tasks.spawn(self._run(serve), name="request to an MCP server")
        self.protocol.on_lost = task.cancel

        def over(_: asyncio.Task[None]) -> None:
            if not self._writer.is_closing():
                self._writer.transport.abort()
            on_end()

        # No part of the task: one that is cancelled before it begins does nothing.
        task.add_done_callback(over)
        return self.protocol

    async def _run(self, serve: Callable[["Exchange"], Awaitable[None]]) -> None:
        # Whoever asked does not read, or is gone: the stream is aborted.
        with contextlib.suppress(ConnectionError, TimeoutError):
            try:
                await serve(self)
            except Refused as refused:
                await self.send(refused.to_answer())
            self._writer.close()

    async def request(self) -> McpRequest:
        """Read the request; raises Refused."""
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                block = await self._reader.readuntil(HEAD_END)
                head = parse_request(block[: -len(HEAD_END)])
                body = await self._body(head)
        except TimeoutError:
            raise Refused.of(Code.REQUEST_TIMEOUT, "the request did not come whole") from None
        except (RemoteProtocolError, asyncio.LimitOverrunError, asyncio.IncompleteReadError):
            raise Refused.of(Code.INVALID_REQUEST, "this is no HTTP request") from None
        if head.method in ("GET", "POST") and not _takes_events(_field(head, b"accept")):
            raise Refused(406, "not_acceptable", "say Accept: application/json, text/event-stream")
        return McpRequest(
            method=head.method, session_id=_field(head, SESSION_FIELD).decode("latin-1") or None, body=body
        )

    async def _body(self, head: RequestHead) -> bytes:
        body, reader = bytearray(), request_reader(head)
        while not reader.done:
            data = await self._reader.read(MAX_HEAD_BYTES)
            if not data:
                raise asyncio.IncompleteReadError(bytes(body), None)
            body += reader.feed(data)
            if len(body) > MAX_MESSAGE_BYTES:
                raise Refused.of(Code.BODY_TOO_LARGE, f"a message has at most {MAX_MESSAGE_BYTES} bytes")
        return bytes(body)

    # Answers -------------------------------------------------------------------------------------------------------

    async def send(self, data: bytes) -> None:
        """Write; raises ConnectionError or TimeoutError where nobody reads."""
        self._writer.write(data)
        async with asyncio.timeout(WRITE_SECONDS):
            await self._writer.drain()

    async def answer(self, line: bytes, session_id: str | None = None) -> None:
        """Answer with one message."""
        session = b"" if session_id is None else b"Mcp-Session-Id: %b\r\n" % session_id.encode("ascii")
        await self.send(_head(200, b"application/json", len(line), session) + line)

    async def accept(self) -> None:
        """Answer that a message which wants no answer was taken."""
        await self.send(plain_answer(202, "application/json", b"", close=True))

    async def begin_events(self) -> None:
        """Answer with events from here on."""
        await self.send(_head(200, b"text/event-stream", None, b"Cache-Control: no-store\r\n"))

    async def event(self, line: bytes) -> None:
        """Send a message as an event."""
        await self.send(frame_chunk(b"event: message\ndata: %b\n\n" % line))

    async def still_here(self) -> None:
        """Send what no client shows, so that the answer is not given up for being silent."""
        await self.send(frame_chunk(b": \n\n"))

    async def end_events(self) -> None:
        """Say that no more events come."""
        await self.send(frame_end([]))


class _Protocol(asyncio.StreamReaderProtocol):
    """Hears of the stream's end, whoever ended it."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        super().__init__(reader)
        self.on_lost: Callable[[], object] = lambda: None

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever asked is gone, or has its answer."""
        super().connection_lost(exc)
        self.on_lost()


def _field(head: RequestHead, name: bytes) -> bytes:
    """The values of a field, joined; empty where it does not stand."""
    pairs = zip(head.names, head.lines, strict=True)
    return b",".join(line.partition(b":")[2].strip(b" \t") for each, line in pairs if each == name)


def _takes_events(accept: bytes) -> bool:
    return any(kind in accept.lower() for kind in (b"text/event-stream", b"text/*", b"*/*"))


def _head(status: int, content_type: bytes, length: int | None, fields: bytes = b"") -> bytes:
    framing = b"Transfer-Encoding: chunked" if length is None else b"Content-Length: %d" % length
    phrase = HTTPStatus(status).phrase.encode("ascii")
    return b"HTTP/1.1 %d %b\r\nContent-Type: %b\r\n%b\r\n%bConnection: close\r\n\r\n" % (
        status,
        phrase,
        content_type,
        framing,
        fields,
    )
