"""Connections that were meant for elsewhere and came here: a sandbox whose programs know of no proxy.

The sandbox has a network of its own with nothing but loopback in it. All TCP is redirected here and every question
for a name comes here, over sockets that were opened in that network and handed to this process, which stands outside.
Where a connection was going says what it is a CONNECT to; from there on it is one (listener.py).
"""

import asyncio
from ipaddress import IPv4Address
from typing import Final, cast

from sallyport.net.clock import NEVER
from sallyport.net.original_destination import original_destination
from sallyport.net.parting import Parting
from sallyport.net.transports import reset
from sallyport.wire.client_hello import ACCESS_DENIED_ALERT, HANDSHAKE_RECORD
from sandboxd.core.intake import Refused, redirected
from sandboxd.core.names import POOL, NameTable, answer_question
from sandboxd.listener import CapturedStream
from sandboxd.parts import SandboxdParts

# RFC 1035 section 4.2.2: a length before each message. No question of ours is longer than that of a long name.
_LENGTH_BYTES: Final = 2
MAX_QUESTION_BYTES: Final = 4096


class RedirectedStream(CapturedStream):
    """One redirected connection, until it is clear what becomes of it."""

    __slots__ = ("_names", "_used")

    def __init__(self, parts: SandboxdParts, names: NameTable) -> None:
        super().__init__(parts)
        self._names = names
        self._used: IPv4Address | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Find out where it was going."""
        super().connection_made(transport)
        if self._is_over:
            return
        destination = original_destination(self._transport)
        if destination is None:
            self._abandon("nothing redirected it")
            return
        host: str | None = str(destination.address)
        if isinstance(destination.address, IPv4Address) and destination.address in POOL:
            host = self._names.use(destination.address)
            if host is None:
                self._abandon("its address stands for no name")
                return
            self._used = destination.address
        try:
            self._asked = redirected(cast(str, host), destination.port)
        except Refused as refused:
            self._refuse(refused)
            return
        self._begin()

    def data_received(self, data: bytes) -> None:
        """Keep what comes before there is somewhere to send it."""
        # uvloop begins to read after connection_made, whatever that says; so it is only now that reading can be paused.
        if not self._is_over:
            self._transport.pause_reading()
            self._buffer += data

    def _abandon(self, reason: str) -> None:
        """End what has no destination; nobody listens there."""
        self._is_over = True
        self._parts.clock.watch(self, NEVER)
        self._parts.log.debug("redirection_refused", detail=reason)
        reset(self._transport)
        self._forget()

    def _tell(self, answer: bytes) -> None:
        """Tell it in the program's own protocol, which its first byte shows: it did not ask a proxy."""
        refusal = _RefusalInKind(self._parts.clock, self._transport, answer, self._forget)
        refusal.begin_when_asked(self._parts.timeouts.head)
        if self._buffer:
            refusal.data_received(self._buffer)

    def _forget(self) -> None:
        super()._forget()
        if self._used is not None:
            self._names.give_back(self._used)
            self._used = None


class _RefusalInKind(Parting):
    """A refusal that TLS hears as an alert, HTTP as an answer, and anything else as a reset."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        if self._answer and data[0] == HANDSHAKE_RECORD:
            self._answer = ACCESS_DENIED_ALERT
        elif self._answer and not data[:1].isupper():
            self._answer = b""
            reset(self._transport)
            return
        super().data_received(data)

    def eof_received(self) -> bool:
        return False


class QuestionDatagrams(asyncio.DatagramProtocol):
    """Questions for names by UDP, each answered at once from the table."""

    def __init__(self, parts: SandboxdParts, names: NameTable) -> None:
        self._parts = parts
        self._names = names
        self._transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer, where there is an answer."""
        answer = answer_question(data, self._names, self._parts.clock.now)
        if answer is not None:
            self._transport.sendto(answer, addr)

    def error_received(self, exc: Exception) -> None:
        """Whoever asked is gone."""


class QuestionStream(asyncio.Protocol):
    """Questions for names by TCP: each with its length before it."""

    __slots__ = ("_buffer", "_names", "_parts", "_transport", "deadline_at", "filed_at")

    def __init__(self, parts: SandboxdParts, names: NameTable) -> None:
        self._parts = parts
        self._names = names
        self._buffer = b""
        self._transport: asyncio.Transport
        self.deadline_at = self.filed_at = NEVER

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A question is due."""
        self._transport = cast(asyncio.Transport, transport)
        self._parts.captured.add(self._transport)
        self._parts.clock.watch(self, self._parts.clock.now + self._parts.timeouts.head)
        if len(self._parts.captured) > self._parts.limits.connections:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Answer each question that is whole."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH_BYTES:
            length = int.from_bytes(self._buffer[:_LENGTH_BYTES], "big")
            if length > MAX_QUESTION_BYTES or self._transport.get_write_buffer_size() > MAX_QUESTION_BYTES:
                self._transport.abort()
                return
            if len(self._buffer) < _LENGTH_BYTES + length:
                return
            message, self._buffer = self._buffer[_LENGTH_BYTES:][:length], self._buffer[_LENGTH_BYTES + length :]
            answer = answer_question(message, self._names, self._parts.clock.now)
            if answer is not None:
                self._transport.write(len(answer).to_bytes(_LENGTH_BYTES, "big") + answer)
                self._parts.clock.watch(self, self._parts.clock.now + self._parts.timeouts.head)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._parts.clock.watch(self, NEVER)
        self._parts.captured.discard(self._transport)

    def expire(self) -> None:
        """No further question came."""
        self._transport.abort()
