"""One request of streamable HTTP and its answer, on a stream of the tunnel."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from sallyport.mcp.exchange import SESSION_FIELD, WRITE_SECONDS, McpRequest, Refused
from sallyport.net.tasks import TaskSet
from sallyport.problem import Code
from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.answers import plain_answer
from sallyport.wire.http1.body import frame_chunk, frame_end
from sallyport.wire.http1.codec import parse_request
from sallyport.wire.http1.framing import request_reader
from sallyport.wire.http1.head import RequestHead
from sallyport.wire.http1.scan import HEAD_END

MAX_HEAD_BYTES: Final = 64 * 1024
MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024  # the SDKs' limit for a request, the gateway's and the worker's
REQUEST_SECONDS: Final = 10.0  # the gateway has the whole request when it opens the stream


class StreamExchange:
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
        self, tasks: TaskSet, serve: Callable[["StreamExchange"], Awaitable[None]], on_end: Callable[[], None]
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

    async def _run(self, serve: Callable[["StreamExchange"], Awaitable[None]]) -> None:
        # Whoever asked does not read, or is gone: the stream is aborted.
        with contextlib.suppress(ConnectionError, TimeoutError):
            try:
                await serve(self)
            except Refused as refused:
                await self.send(_refusal(refused))
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
        return McpRequest(
            method=head.method,
            session_id=_field(head, SESSION_FIELD) or None,
            accept=_field(head, "accept"),
            body=body,
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

    async def confirm_end(self) -> None:
        """Answer that the session is over."""
        await self.send(plain_answer(200, "application/json", b"", close=True))

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


def _field(head: RequestHead, name: str) -> str:
    """The values of a field, joined; empty where it does not stand."""
    pairs = zip(head.names, head.lines, strict=True)
    values = [line.partition(b":")[2].strip(b" \t") for each, line in pairs if each == name.encode()]
    return b",".join(values).decode("latin-1")


def _refusal(refused: Refused) -> bytes:
    body = refused.to_json()
    fields = b"X-Sallyport-Error: %b\r\n" % refused.code.encode()
    return _head(refused.status, b"application/json", len(body), fields) + body


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
