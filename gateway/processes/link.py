"""Requests to the admin surface of a serving process, one connection each: HTTP/1.1 over its socket."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from sallyport.net.unix_stream import UnixStream, connect_unix
from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.codec import parse_response
from sallyport.wire.http1.framing import answer_reader
from sallyport.wire.http1.head import ResponseHead
from sallyport.wire.http1.scan import HEAD_END

# Heads of our own admin surface are a few hundred bytes; what an MCP server adds is bounded by limits.head_bytes.
MAX_HEAD_BYTES: Final = 1024 * 1024
# Lists of sandboxes are the longest: 150 bytes each, and there are at most a million.
MAX_ANSWER_BYTES: Final = 256 * 1024 * 1024
READ_BYTES: Final = 64 * 1024


class LinkError(Exception):
    """A serving process gave no answer: it has gone, or is going."""


class Answered(NamedTuple):
    """A whole answer."""

    status: int
    body: bytes


async def open_answer(
    path: Path, method: str, target: str, fields: Sequence[tuple[str, str]] = (), body: bytes = b""
) -> tuple[UnixStream, ResponseHead]:
    """Send a request and return the stream behind its answer's head, which the caller closes; raises LinkError."""
    try:
        stream = await connect_unix(path, limit=MAX_HEAD_BYTES)
    except OSError as error:
        raise LinkError(f"{method} {target}: {error.strerror}") from None
    try:
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in fields]
        stream.writer.write("\r\n".join((*lines, "", "")).encode("latin-1") + body)
        while True:
            block = await stream.reader.readuntil(HEAD_END)
            head = parse_response(block[: -len(HEAD_END)])
            if head.status >= 200 or head.status == 101:
                return stream, head
    except (RemoteProtocolError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError) as error:
        stream.abort()
        raise LinkError(f"{method} {target}: {type(error).__name__}") from None
    except BaseException:
        stream.abort()
        raise


async def read_answer(stream: UnixStream, head: ResponseHead, method: str) -> AsyncGenerator[bytes]:
    """Yield an answer's body as it comes; raises LinkError where it breaks off."""
    body = answer_reader(method, head)
    while not body.done:
        try:
            data = await stream.reader.read(READ_BYTES)
            payload = body.feed(data) if data else b""
        except (RemoteProtocolError, OSError) as error:
            raise LinkError(f"an answer broke off: {type(error).__name__}") from None
        if payload:
            yield payload
        elif not data:
            if head.body is None:
                return
            raise LinkError("an answer broke off")


async def read_lines(stream: UnixStream, head: ResponseHead, *, most_line_bytes: int) -> AsyncGenerator[bytes]:
    """Yield the lines of an answer, each without its end; raises LinkError."""
    rest = bytearray()
    async with contextlib.aclosing(read_answer(stream, head, "GET")) as payloads:
        async for payload in payloads:
            rest += payload
            *lines, rest = rest.split(b"\n")
            if len(rest) > most_line_bytes:
                raise LinkError("a line without an end")
            for line in lines:
                yield bytes(line)


async def ask(path: Path, method: str, target: str, body: bytes = b"") -> Answered:
    """Send a request and return its whole answer; raises LinkError."""
    stream, head = await open_answer(path, method, target, body=body)
    answer = bytearray()
    try:
        async with contextlib.aclosing(read_answer(stream, head, method)) as payloads:
            async for payload in payloads:
                answer += payload
                if len(answer) > MAX_ANSWER_BYTES:
                    raise LinkError(f"{method} {target}: an answer without an end")
        return Answered(head.status, bytes(answer))
    finally:
        stream.abort()
