"""A CONNECT to a managed host: the 200 at once, then TLS ends here, or cleartext begins, and a stream carries it on.

A refusal of the gateway arrives inside TLS, where programs can read it.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from sallyport.net.clock import NEVER
from sallyport.net.parting import Parting
from sallyport.net.tls import TlsTransport
from sallyport.problem import AuditCode
from sallyport.wire.client_hello import (
    HANDSHAKE_FAILURE_ALERT,
    HANDSHAKE_RECORD,
    NO_APPLICATION_PROTOCOL_ALERT,
    UNRECOGNIZED_NAME_ALERT,
    ClientHello,
    parse_client_hello,
)
from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.answers import ESTABLISHED
from sandboxd.core.intake import Asked, Mode, connect_head
from sandboxd.joined import JoinedStream
from sandboxd.opening import StreamOpening
from sandboxd.parts import SandboxdParts

# The only protocol inside (contracts section 10).
_HTTP1 = "http/1.1"


class Interception(asyncio.Protocol):
    """End TLS of one CONNECT. `on_end` is called once, when the process's connection is over.

    First it is the protocol of the captured socket, then of the transport inside TLS. The stream is opened while the
    handshake still runs; whichever is ready last joins them.
    """

    __slots__ = (
        "_asked",
        "_buffer",
        "_early",
        "_inside",
        "_is_over",
        "_mode",
        "_on_end",
        "_opening",
        "_parts",
        "_refusal",
        "_stream",
        "_transport",
        "deadline_at",
        "filed_at",
    )

    def __init__(
        self, parts: SandboxdParts, transport: asyncio.Transport, asked: Asked, on_end: Callable[[], None]
    ) -> None:
        self._parts = parts
        self._transport = transport
        self._asked = asked
        self._on_end = on_end
        self._mode = Mode.INTERCEPTED
        self._buffer = b""  # first the ClientHello, then what came inside before there was a stream
        self._early = b""
        self._refusal = b""
        self._inside: asyncio.Transport | None = None
        self._stream: asyncio.Transport | None = None
        self._opening: StreamOpening | None = None
        self._is_over = False
        self.deadline_at = self.filed_at = NEVER

    def start(self, rest: bytes) -> None:
        """Answer the CONNECT, where one was sent; rest is what the process did not wait with."""
        parts = self._parts
        self._transport.set_protocol(self)
        if self._asked.waits_for_200:
            self._transport.write(ESTABLISHED)
        parts.clock.watch(self, parts.clock.now + parts.timeouts.handshake)
        if rest:
            self.data_received(rest)
        if self._inside is None and not self._is_over:
            self._transport.resume_reading()

    # The first bytes

    def data_received(self, data: bytes) -> None:
        """Collect the ClientHello, or hold what comes inside until there is a stream."""
        if self._is_over:
            return
        self._buffer += data
        if self._inside is not None or self._opening is not None:
            return
        if self._buffer[0] != HANDSHAKE_RECORD:
            self._begin_cleartext()
            return
        try:
            hello = parse_client_hello(self._buffer)
        except RemoteProtocolError as error:
            self._refuse_hello("failed", error.reason, HANDSHAKE_FAILURE_ALERT)
            return
        if hello is not None:
            self._check(hello)

    def _begin_cleartext(self) -> None:
        """A1: cleartext HTTP inside a CONNECT is an http:// request; the gateway treats it as one."""
        self._mode = Mode.CLEARTEXT
        self._parts.clock.watch(self, NEVER)
        self._inside = self._transport
        self._transport.pause_reading()
        self._open(may_retry=True)

    def _check(self, hello: ClientHello) -> None:
        """SNI is checked where TLS ends (A1), a missing one means the CONNECT's host; HTTP/1.1 is all there is."""
        if hello.server_name not in (None, self._asked.host):
            self._refuse_hello(AuditCode.SNI_MISMATCH.value, "another name than the CONNECT's", UNRECOGNIZED_NAME_ALERT)
        elif hello.alpn and _HTTP1 not in hello.alpn:
            self._refuse_hello(
                AuditCode.HTTP2_UNSUPPORTED.value, "no http/1.1 is offered", NO_APPLICATION_PROTOCOL_ALERT
            )
        else:
            self._terminate()

    def _terminate(self) -> None:
        """End TLS with a leaf of this sandbox's authority, and ask for the stream meanwhile."""
        parts = self._parts
        context = parts.contexts.server_context("", self._asked.host, parts.clock.wall)
        hello, self._buffer = self._buffer, b""
        tls = TlsTransport(self._transport, self, context, server_side=True, on_handshake=self._handshake_ended)
        self._open(may_retry=True)
        self._transport.resume_reading()
        tls.start(hello)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS is up; transport is the one inside it."""
        self._parts.clock.watch(self, NEVER)
        self._inside = inside = cast(asyncio.Transport, transport)
        inside.set_write_buffer_limits(high=self._parts.limits.write_buffer_bytes)
        # Nothing is read before there is somewhere to send it.
        inside.pause_reading()
        self._join()

    def _handshake_ended(self, error: Exception | None) -> None:
        if error is not None and not self._is_over:
            self._parts.log.info("interception_failed", host=self._asked.host, detail=str(error))
            self._end()
            self._transport.close()

    def _refuse_hello(self, result: str, detail: str, alert: bytes) -> None:
        """End with a TLS alert, the one thing a program that waits for a handshake can read."""
        self._parts.log.info("interception_refused", host=self._asked.host, result=result, detail=detail)
        self._parts.clock.watch(self, NEVER)
        self._is_over = True
        Parting(self._parts.clock, self._transport, alert, self._on_end).begin()

    # The stream

    def _open(self, *, may_retry: bool) -> None:
        asked, mode = self._asked, self._mode
        self._opening = StreamOpening(
            self._parts,
            self,
            lambda revision: connect_head(asked.host, asked.port, mode, revision),
            method="GET",  # what is refused is the request inside, which is not known yet
            may_retry=may_retry,
        )
        self._opening.start()

    def stream_admitted(self, stream: asyncio.Transport, early: bytes) -> None:
        """The gateway takes it."""
        self._stream, self._early = stream, early
        self._join()

    def stream_refused(self, answer: bytes) -> None:
        """The answer is for the request inside."""
        self._refusal = answer
        self._join()

    def stream_stale(self) -> None:
        """Once more with the newer set. Were it to say passthrough: TLS has ended here, so the gateway decides."""
        self._open(may_retry=False)

    def _join(self) -> None:
        """Join what is ready: the inside with its stream, or with the refusal of one."""
        inside = self._inside
        if inside is None or self._is_over:
            return
        if self._stream is not None:
            self._is_over = True
            self._opening = None
            relay = JoinedStream(self._parts, inside, self._stream, self._on_end)
            relay.start(up=self._buffer, down=self._early)
        elif self._refusal:
            self._is_over = True
            parting = Parting(self._parts.clock, inside, self._refusal, self._on_end)
            if self._buffer:
                parting.begin()
            else:
                parting.begin_when_asked(self._parts.timeouts.head)

    # Ends

    def eof_received(self) -> bool:
        """Close: nothing can follow."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The process has gone before there was a stream."""
        self._end()

    def expire(self) -> None:
        """The handshake took too long."""
        if not self._is_over:
            self._parts.log.info("interception_failed", host=self._asked.host, detail="the handshake took too long")
            self._end()
            self._transport.abort()

    def _end(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._parts.clock.watch(self, NEVER)
        if self._opening is not None:
            self._opening.give_up()
        if self._stream is not None:
            self._stream.abort()
        self._on_end()

    def __repr__(self) -> str:
        return f"<Interception {self._mode.value}, {'over' if self._is_over else 'open'}>"
