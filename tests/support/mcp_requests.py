"""Requests of streamable HTTP as the gateway sends them on streams of a tunnel, and their answers as they come."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

from sallyport.net.memory import MemoryTransport, memory_pair
from sallyport.wire.http1.answers import ESTABLISHED
from sallyport.wire.http1.codec import parse_response
from sallyport.wire.http1.framing import answer_reader
from sallyport.wire.http1.scan import HEAD_END
from tests.support.until import until

type Json = dict[str, Any]
ACCEPT = "application/json, text/event-stream"


class Asked(asyncio.Protocol):
    """The gateway's end of one such stream."""

    def __init__(self) -> None:
        self._received = bytearray()
        self.is_over = False
        self.transport: MemoryTransport

    def data_received(self, data: bytes) -> None:
        self._received += data

    def connection_lost(self, error: Exception | None) -> None:
        self.is_over = True

    @property
    def _answer(self) -> bytes:
        return bytes(self._received).removeprefix(ESTABLISHED)

    @property
    def status(self) -> int:
        """0 while there is no answer."""
        return parse_response(self._answer.partition(HEAD_END)[0]).status if HEAD_END in self._answer else 0

    def field(self, name: str) -> str | None:
        """Return the value of a field of the answer."""
        for line in self._answer.partition(HEAD_END)[0].decode().split("\r\n")[1:]:
            if line.lower().startswith(f"{name.lower()}: "):
                return line.partition(": ")[2]
        return None

    @property
    def body(self) -> bytes:
        head, _, rest = self._answer.partition(HEAD_END)
        return answer_reader("POST", parse_response(head)).feed(rest)

    @property
    def messages(self) -> list[Json]:
        """What has come so far: of the one document, or of the events."""
        if not self.status or not self.body:
            return []
        if self.field("Content-Type") == "application/json":
            return [json.loads(self.body)]
        events = [event for event in self.body.split(b"\n\n") if event.startswith(b"event: message\ndata: ")]
        return [json.loads(event.partition(b"data: ")[2]) for event in events]

    @property
    def error(self) -> str:
        """The words of an error."""
        return str(self.messages[-1]["error"]["message"])

    async def done(self) -> "Asked":
        """Wait for the end of the answer."""
        await until(lambda: self.is_over)
        return self


def ask(
    serve: Callable[[asyncio.Transport], asyncio.Protocol],
    method: str = "POST",
    message: Json | bytes = b"",
    *,
    session: str | None = None,
    fields: Mapping[str, str] | None = None,
) -> Asked:
    """Send one request on a stream of its own."""
    asked = Asked()
    asked.transport, stream = memory_pair(asyncio.get_running_loop(), asked, asyncio.Protocol())
    stream.set_protocol(serve(stream))
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    given = {"Host": "localhost", "Accept": ACCEPT, "Content-Length": str(len(body)), **(fields or {})}
    given |= {} if session is None else {"Mcp-Session-Id": session}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    asked.transport.write(f"{method} /mcp HTTP/1.1\r\n{lines}\r\n".encode() + body)
    return asked


def request(method: str, number: int | str = 1, **params: object) -> Json:
    """Return a request."""
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


def notification(method: str, **params: object) -> Json:
    """Return a notification."""
    return {"jsonrpc": "2.0", "method": method, "params": params}


INITIALIZE = request(
    "initialize", 0, protocolVersion="2025-06-18", capabilities={}, clientInfo={"name": "t", "version": "1"}
)
