"""What a stream answers, passed on to the caller of the admin listener: an answer as it comes, or bytes behind a 101.

Behind the stream is a sandbox (relays.py) or another process of this gateway (forwards.py).
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from aiohttp import web

from sallyport.net.tasks import TaskSet
from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.framing import answer_reader
from sallyport.wire.http1.head import ResponseHead

READ_BYTES: Final = 64 * 1024
# A caller that has gone is noticed when something is written to it, or after this.
LOOK_SECONDS: Final = 5.0

# What the framework writes itself.
_NOT_COPIED: Final = frozenset({b"date", b"server"})


class ByteStream(Protocol):
    """What an answer is read from."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def close(self) -> None:
        """Close, once what was written has gone out."""


def _fields(head: ResponseHead) -> Sequence[tuple[str, str]]:
    """Return the fields of an answer that are not of its hop."""
    pairs = zip(head.names, head.lines, strict=True)
    split = [line.decode("latin-1").partition(":") for name, line in pairs if name not in _NOT_COPIED]
    return [(name, value.strip(" \t")) for name, _, value in split]


async def pass_on_answer(request: web.Request, stream: ByteStream, head: ResponseHead) -> web.StreamResponse:
    """Answer our caller with what comes, as it comes."""
    answer = web.StreamResponse(status=head.status, reason=head.reason.decode("latin-1"))
    for name, value in _fields(head):
        answer.headers.add(name, value)
    body = answer_reader(request.method, head)
    if head.body is not None and head.body >= 0:
        answer.content_length = head.body
    with contextlib.suppress(ConnectionError):
        await answer.prepare(request)
        while not body.done and (data := await _read(request, stream)):
            try:
                payload = body.feed(data)
            except RemoteProtocolError:
                break
            if payload:
                await answer.write(payload)
        if body.done or head.body is None:
            await answer.write_eof()
            return answer
    # Cut short: an answer that is not whole must not look like one that is.
    if request.transport is not None:
        request.transport.abort()
    return answer


async def _read(request: web.Request, stream: ByteStream) -> bytes:
    """Read what comes next of the answer; raises ConnectionError once our caller has gone."""
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                return await stream.reader.read(READ_BYTES)
        if request.transport is None or request.transport.is_closing():
            raise ConnectionError("the caller has gone")


# A WebSocket that is passed through -------------------------------------------------------------------


class _Switched(web.StreamResponse):
    """A 101: what follows it is not HTTP and has no framing of HTTP's."""

    _length_check = False


class _CallerBytes:
    """What aiohttp calls with the bytes behind an upgrade; here they are kept as they are."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._reader.feed_data(data)
        return False, b""

    def feed_eof(self) -> None:
        self._reader.feed_eof()


async def join(tasks: TaskSet, request: web.Request, stream: ByteStream, head: ResponseHead) -> web.StreamResponse:
    """Answer our caller with the same 101, and move bytes until one of the two has gone."""
    answer = _Switched(status=101, headers=_switching_fields(head))
    with contextlib.suppress(ConnectionError):
        await answer.prepare(request)
    if request.transport is None:
        return answer  # our caller has not waited for it
    caller = asyncio.StreamReader(limit=READ_BYTES, loop=asyncio.get_running_loop())
    caller.set_transport(request.transport)
    request.protocol.set_parser(_CallerBytes(caller))  # type: ignore[arg-type]  # it asks for these two methods alone
    request.protocol.keep_alive(False)
    upward = tasks.spawn(_pass_up(caller, stream), name="joined streams")
    try:
        with contextlib.suppress(ConnectionError):
            while data := await stream.reader.read(READ_BYTES):
                await answer.write(data)
    finally:
        upward.cancel()
        if request.transport is not None:
            request.transport.close()
    return answer


async def _pass_up(caller: asyncio.StreamReader, stream: ByteStream) -> None:
    try:
        with contextlib.suppress(ConnectionError):
            while data := await caller.read(READ_BYTES):
                stream.writer.write(data)
                await stream.writer.drain()
    finally:
        stream.close()


def _switching_fields(head: ResponseHead) -> Mapping[str, str]:
    return dict(_fields(head)) | {"Connection": "Upgrade", "Upgrade": "websocket"}
