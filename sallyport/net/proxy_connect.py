"""CONNECT to the operator's upstream proxy: ask for one tunnel, read one answer, hand the transport on."""

import asyncio
import re
from collections.abc import Callable
from typing import Final, cast

from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.shape import HOP_MARKER

type ProtocolFactory = Callable[[], asyncio.Protocol]

# An answer head; 16 KiB is what the ClientHello and the common proxies allow too.
_MAX_HEAD_BYTES: Final = 16 * 1024
# Should the proxy lead back to a gateway or a sandboxd, that one sees what has happened (docs/decisions/0011-loops.md).
_MARKED: Final = HOP_MARKER.title() + b": 1"


class ProxyRefused(Exception):
    """The proxy opened no tunnel; says why, for the log."""


_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?")
_FIELD_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")


def read_proxy_answer(received: bytes) -> tuple[int, int] | None:
    """Give (status, length of the head) of an answer to CONNECT, or None for "not yet"; RemoteProtocolError.

    Framing headers of a 2xx answer to CONNECT mean nothing (RFC 9110 section 9.3.6), so none is looked at.
    """
    end = received.find(b"\r\n\r\n")
    if end > _MAX_HEAD_BYTES or (end < 0 and len(received) > _MAX_HEAD_BYTES):
        raise RemoteProtocolError("the proxy's answer head is too long", 502)
    if not b"HTTP/1.".startswith(received[:7]):
        raise RemoteProtocolError("the proxy does not speak HTTP/1", 502)
    if end < 0:
        return None
    status_line, *field_lines = received[:end].split(b"\r\n")
    status = _STATUS_LINE.fullmatch(status_line)
    if status is None or not all(map(_FIELD_LINE.fullmatch, field_lines)):
        raise RemoteProtocolError("the proxy's answer head is malformed", 502)
    return int(status[1]), end + 4


class ProxyConnect(asyncio.Protocol):
    """Ask a proxy for one tunnel, then hand the transport to the protocol that wanted it.

    `answered` gives that protocol after its `connection_made`; bytes behind the proxy's head are delivered to it
    first of all. It fails with ProxyRefused.
    """

    def __init__(self, authority: str, protocol_factory: ProtocolFactory) -> None:
        self._authority = authority
        self._protocol_factory = protocol_factory
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self.answered: asyncio.Future[asyncio.Protocol] = asyncio.get_running_loop().create_future()
        # A dial given up in between never awaits the answer; it must not be reported as forgotten.
        self.answered.add_done_callback(lambda answered: answered.cancelled() or answered.exception())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        authority = self._authority.encode("ascii")
        self._transport.write(b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n%b\r\n\r\n" % (authority, authority, _MARKED))

    def data_received(self, data: bytes) -> None:
        if self.answered.done():
            return
        self._received += data
        try:
            answer = read_proxy_answer(self._received)
        except RemoteProtocolError as error:
            self._fail(error.reason)
            return
        if answer is None:
            return
        status, head_length = answer
        if status != 200:
            self._fail(f"it answered {status}")
        else:
            self._hand_over(self._received[head_length:])

    def eof_received(self) -> None:
        self._fail("it closed without an answer")

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"it closed without an answer ({exc})")

    def _hand_over(self, early: bytes) -> None:
        transport = self._transport
        assert transport is not None
        protocol = self._protocol_factory()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if early:
            protocol.data_received(early)
        self.answered.set_result(protocol)

    def _fail(self, why: str) -> None:
        if not self.answered.done():
            self.answered.set_exception(ProxyRefused(f"the proxy, asked for {self._authority}: {why}"))
