"""One request to a program at the front and its answer, by ASGI. Whoever asked and goes is served no more."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from sallyport.mcp.exchange import SESSION_FIELD, WRITE_SECONDS, McpRequest, Refused
from sallyport.problem import Code

JSON: Final = (b"content-type", b"application/json")
EVENTS: Final = ((b"content-type", b"text/event-stream"), (b"cache-control", b"no-store"))


class FrontExchange:
    """One exchange. Always: only what serves it sends, so what it says stands in order."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, most_body_bytes: int) -> None:
        self._request = Request(scope, receive)
        self._receive = receive
        self._send_message = send
        self._most_body_bytes = most_body_bytes
        self._is_answered = False

    async def run(self, serve: Callable[[McpRequest], Awaitable[None]]) -> None:
        """Read the request and have it served, as long as somebody waits for the answer."""
        # Whoever asks does not read, or is gone.
        with contextlib.suppress(ClientDisconnect, ConnectionError, TimeoutError):
            try:
                request = await self._read()
            except Refused as refused:
                await self._refuse(refused)
                return
            async with asyncio.TaskGroup() as group:
                serving = group.create_task(self._serve(serve, request), name="request to a program")
                watching = group.create_task(self._watch(serving), name="whoever asks a program")
                serving.add_done_callback(lambda _: watching.cancel())

    async def _read(self) -> McpRequest:
        body = bytearray()
        async for part in self._request.stream():
            body += part
            if len(body) > self._most_body_bytes:
                raise Refused.of(Code.BODY_TOO_LARGE, f"a message has at most {self._most_body_bytes} bytes")
        headers = self._request.headers
        return McpRequest(
            method=self._request.method,
            session_id=headers.get(SESSION_FIELD),
            accept=",".join(headers.getlist("accept")),
            body=bytes(body),
        )

    async def _serve(self, serve: Callable[[McpRequest], Awaitable[None]], request: McpRequest) -> None:
        # A group has no other word for them than its own.
        with contextlib.suppress(ConnectionError, TimeoutError):
            try:
                await serve(request)
            except Refused as refused:
                await self._refuse(refused)

    async def _watch(self, serving: asyncio.Task[None]) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        # An answer that is complete is told in the same way, and its last bytes may still be on their way.
        if not self._is_answered:
            serving.cancel()

    # Answers -------------------------------------------------------------------------------------------------------

    async def answer(self, line: bytes, session_id: str | None = None) -> None:
        """Answer with one message."""
        session = () if session_id is None else ((SESSION_FIELD.encode(), session_id.encode("ascii")),)
        await self._whole(200, line, *session)

    async def accept(self) -> None:
        """Answer that a message which wants no answer was taken."""
        await self._whole(202, b"")

    async def confirm_end(self) -> None:
        """Answer that the session is over."""
        await self._whole(200, b"")

    async def begin_events(self) -> None:
        """Answer with events from here on."""
        await self._begin(200, *EVENTS)

    async def event(self, line: bytes) -> None:
        """Send a message as an event."""
        await self._send(b"event: message\ndata: %b\n\n" % line)

    async def still_here(self) -> None:
        """Send what no client shows, so that the answer is not given up for being silent."""
        await self._send(b": \n\n")

    async def end_events(self) -> None:
        """Say that no more events come."""
        await self._send(b"", more=False)

    async def _refuse(self, refused: Refused) -> None:
        later = ((b"retry-after", b"1"),) if refused.status == 503 else ()
        await self._whole(refused.status, refused.to_json(), *later)

    async def _whole(self, status: int, body: bytes, *fields: tuple[bytes, bytes]) -> None:
        await self._begin(status, JSON, (b"content-length", b"%d" % len(body)), *fields)
        await self._send(body, more=False)

    async def _begin(self, status: int, *fields: tuple[bytes, bytes]) -> None:
        await self._send_message({"type": "http.response.start", "status": status, "headers": list(fields)})

    async def _send(self, body: bytes, *, more: bool = True) -> None:
        self._is_answered = not more
        async with asyncio.timeout(WRITE_SECONDS):
            await self._send_message({"type": "http.response.body", "body": body, "more_body": more})
