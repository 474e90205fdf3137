"""The proxy for the sandbox's processes: read one head, decide, and hand the connection on.

A CONNECT to a managed host goes to interception.py; everything else that is for elsewhere becomes a stream at once.
There is no way around the gateway: what cannot become a stream is answered here.
"""

import asyncio
from collections.abc import Callable
from typing import Final, cast

from sallyport.net.clock import NEVER
from sallyport.net.parting import Parting
from sallyport.problem import Code
from sallyport.wire.http1.answers import ESTABLISHED, plain_answer
from sallyport.wire.http1.scan import CRLF, HEAD_END
from sandboxd.core.intake import (
    Asked,
    Choice,
    Mode,
    Refused,
    choose_connect,
    choose_plain,
    connect_head,
    plain_head,
    read_asked,
)
from sandboxd.interception import Interception
from sandboxd.joined import JoinedStream
from sandboxd.opening import StreamOpening
from sandboxd.parts import SandboxdParts

# RFC 9112 section 2.2: an empty line before a request is skipped; more than two are not a slip.
MAX_EMPTY_LINES: Final = 2
# What no request begins with: TLS to the proxy itself, SOCKS. Told at once, not when the head is overdue.
_NOT_HTTP: Final = frozenset((0x04, 0x05, 0x16))


class CapturedStream(asyncio.Protocol):
    """One connection of a sandbox process, until it is clear what becomes of it."""

    __slots__ = (
        "_asked",
        "_buffer",
        "_is_over",
        "_may_retry",
        "_opening",
        "_parts",
        "_transport",
        "deadline_at",
        "filed_at",
    )

    def __init__(self, parts: SandboxdParts) -> None:
        self._parts = parts
        self._transport: asyncio.Transport
        self._buffer = b""
        self._asked: Asked | None = None
        self._opening: StreamOpening | None = None
        self._may_retry = True
        self._is_over = False
        self.deadline_at = self.filed_at = NEVER

    # Bytes in ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; the head is due."""
        parts = self._parts
        # uvloop's transports do not inherit from asyncio.Transport.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=parts.limits.write_buffer_bytes)
        parts.captured.add(self._transport)
        parts.clock.watch(self, parts.clock.now + parts.timeouts.head)
        if len(parts.captured) > parts.limits.connections:
            self._refuse(Refused(Code.OVERLOADED, "sandboxd has as many connections as it may"))

    def data_received(self, data: bytes) -> None:
        """Collect the head."""
        if self._is_over:
            return
        limits = self._parts.limits
        self._buffer = buffer = self._buffer + data if self._buffer else _without_empty_lines(data)
        end = buffer.find(HEAD_END)
        if buffer and buffer[0] in _NOT_HTTP:
            self._refuse(Refused(Code.INVALID_REQUEST, "this is an HTTP proxy, spoken to in the clear"))
        elif max(end, len(buffer) if end < 0 else 0) > limits.head_bytes:
            self._refuse(Refused(Code.HEAD_TOO_LARGE, f"the head is over {limits.head_bytes} bytes"))
        elif end >= 0 and buffer.count(CRLF, 0, end) > limits.header_count:
            self._refuse(Refused(Code.HEAD_TOO_LARGE, f"the head has more than {limits.header_count} fields"))
        elif end >= 0:
            self._buffer = buffer[end + len(HEAD_END) :]
            self._head_received(buffer[:end])

    def _head_received(self, head: bytes) -> None:
        try:
            self._asked = asked = read_asked(head)
            if asked.is_for_us:
                self._part(self._own_answer(asked))
                return
        except Refused as refused:
            self._refuse(refused)
            return
        self._begin()

    def _begin(self) -> None:
        """It is known what is asked for."""
        # Nothing more is read before there is somewhere to send it; what is here already waits in the buffer (S9).
        self._transport.pause_reading()
        self._parts.clock.watch(self, NEVER)
        self._decide()

    def _own_answer(self, asked: Asked) -> bytes:
        """Answer what is asked of sandboxd itself."""
        parts = self._parts
        target = asked.request.target
        if asked.request.method == "GET" and not asked.request.has_body:
            if target == b"/healthz":
                return plain_answer(200, "text/plain", b"ok\n", close=True)
            if target == b"/v1/ca.pem":
                pem = parts.ca.authority("", parts.clock.wall).certificate_pem
                return plain_answer(200, "application/x-pem-file", pem, close=True)
        raise Refused(
            Code.INVALID_REQUEST,
            "a proxy request has an absolute URL as its target",
            "set this address as HTTP_PROXY and HTTPS_PROXY; do not send requests to it directly",
        )

    # What becomes of it -----------------------------------------------------------------------------

    def _decide(self) -> None:
        parts, asked = self._parts, self._asked
        assert asked is not None, "its head was read"
        managed = parts.gateway.managed
        if asked.is_connect:
            choice = choose_connect(managed, parts.passthrough_hosts, asked.host, asked.port)
        else:
            choice = choose_plain(managed)
        match choice:
            case Choice.WAIT:
                parts.gateway.wait(self)
                parts.clock.watch(self, parts.clock.now + parts.timeouts.hold)
            case Choice.INTERCEPT:
                self._is_over = True
                rest, self._buffer = self._buffer, b""
                Interception(parts, self._transport, asked, self._forget).start(rest)
            case Choice.PASSTHROUGH:
                self._open(asked, lambda revision: connect_head(asked.host, asked.port, Mode.PASSTHROUGH, revision))
            case Choice.PLAIN:
                self._open(asked, lambda revision: plain_head(asked, revision))

    def gateway_changed(self) -> None:
        """There is a new tunnel, or the managed set that was waited for."""
        if self._parts.gateway.managed is not None:
            self._parts.gateway.leave(self)
            self._parts.clock.watch(self, NEVER)
            self._decide()

    def _open(self, asked: Asked, head: Callable[[int], bytes]) -> None:
        self._opening = StreamOpening(
            self._parts,
            self,
            head,
            method=asked.request.method,
            is_answered=asked.is_connect,
            may_retry=self._may_retry,
        )
        self._opening.start()

    def stream_admitted(self, stream: asyncio.Transport, early: bytes) -> None:
        """Join the two; a CONNECT is answered only now."""
        assert self._asked is not None, "its head was read"
        if self._is_over:
            stream.abort()
            return
        self._is_over = True
        if self._asked.waits_for_200 and not self._transport.is_closing():
            self._transport.write(ESTABLISHED)
        JoinedStream(self._parts, self._transport, stream, self._forget).start(up=self._buffer, down=early)

    def stream_refused(self, answer: bytes) -> None:
        """Pass the refusal on instead of the 200."""
        if not self._is_over:
            self._part(answer)

    def stream_stale(self) -> None:
        """Decide anew, by the newer set: the host may be managed by now."""
        if not self._is_over:
            self._may_retry = False
            self._decide()

    # Ends -------------------------------------------------------------------------------------------

    def _refuse(self, refused: Refused) -> None:
        method = "" if self._asked is None else self._asked.request.method
        self._part(self._parts.answer(refused.code, refused.detail, method=method, hint=refused.hint))

    def _part(self, answer: bytes) -> None:
        self._is_over = True
        self._parts.clock.watch(self, NEVER)
        self._parts.gateway.leave(self)
        self._tell(answer)

    def _tell(self, answer: bytes) -> None:
        Parting(self._parts.clock, self._transport, answer, self._forget).begin()

    def eof_received(self) -> bool:
        """Close: a request was not finished."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The process is gone before it was clear what becomes of it."""
        if self._is_over:
            return
        self._is_over = True
        self._parts.clock.watch(self, NEVER)
        self._parts.gateway.leave(self)
        if self._opening is not None:
            self._opening.give_up()
        self._forget()

    def expire(self) -> None:
        """The head is overdue, or the hold is over."""
        if self._is_over:
            return
        if self._asked is not None:
            self._refuse(self._parts.no_set())
        elif self._buffer:
            self._refuse(Refused(Code.REQUEST_TIMEOUT, "the head did not arrive in time"))
        else:
            self._transport.close()

    def _forget(self) -> None:
        self._parts.captured.discard(self._transport)

    def __repr__(self) -> str:
        state = "handed on" if self._is_over else "reading" if self._asked is None else "waiting"
        return f"<CapturedStream {state}>"


def _without_empty_lines(data: bytes) -> bytes:
    for _ in range(MAX_EMPTY_LINES):
        data = data.removeprefix(CRLF)
    return data
