"""A stream that the gateway opens: one head says what it wants of this sandbox, then it belongs to LocalStreams."""

import asyncio
from typing import Final, Protocol, cast

from sallyport.net.clock import NEVER, Clock
from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.codec import parse_request
from sallyport.wire.http1.scan import HEAD_END

# `CONNECT endpoint/<clientId>/<endpointKey> HTTP/1.1` and a Host.
_MAX_HEAD_BYTES: Final = 4 * 1024
# It travels with the stream's first frame.
_HEAD_SECONDS: Final = 10.0


class Connects(Protocol):
    """Who serves such streams (sandboxd.local_streams)."""

    def connect(self, stream: asyncio.Transport, target: str) -> asyncio.Protocol:
        """Answer the stream's head and return its protocol from now on."""


class OfferedStream(asyncio.Protocol):
    """Read the head of one stream and hand it on. What is no such head resets the stream."""

    __slots__ = ("_buffer", "_clock", "_local", "_stream", "deadline_at", "filed_at")

    def __init__(self, clock: Clock, local: Connects) -> None:
        self._clock = clock
        self._local = local
        self._buffer = b""
        self._stream: asyncio.Transport
        self.deadline_at = self.filed_at = NEVER

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._stream = cast(asyncio.Transport, transport)
        self._clock.watch(self, self._clock.now + _HEAD_SECONDS)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(HEAD_END)
        if max(end, len(self._buffer) if end < 0 else 0) > _MAX_HEAD_BYTES:
            self._stream.abort()
        elif end >= 0:
            self._clock.watch(self, NEVER)
            self._hand_on(self._buffer[:end], self._buffer[end + len(HEAD_END) :])

    def _hand_on(self, head: bytes, rest: bytes) -> None:
        try:
            request = parse_request(head)
        except RemoteProtocolError:
            request = None
        if request is None or request.method != "CONNECT":
            self._stream.abort()
            return
        protocol = self._local.connect(self._stream, request.target.decode("latin-1"))
        self._stream.set_protocol(protocol)
        if rest:
            protocol.data_received(rest)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._clock.watch(self, NEVER)

    def expire(self) -> None:
        self._stream.abort()
