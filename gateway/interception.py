"""Interception: the TLS of a CONNECT to a managed host ends here, and what is inside is served."""

import asyncio
from collections.abc import Awaitable
from typing import cast

import structlog

from gateway.core.decision import Mode
from gateway.core.route_table import RouteTable
from gateway.open_streams import OpenStream
from gateway.parts import GatewayParts
from gateway.record import stream_record
from gateway.stream import ServedStream
from sallyport.claims import Claims
from sallyport.destination import Destination
from sallyport.host import HostError, normalize_host
from sallyport.net.clock import NEVER
from sallyport.net.interception import InterceptionError
from sallyport.net.parting import Parting
from sallyport.net.tls import HANDSHAKE_BYTES, TlsTransport
from sallyport.problem import AuditCode, Code
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

_log = structlog.get_logger(__name__)


class Interception(asyncio.Protocol, OpenStream):
    """A CONNECT to a managed host: read the ClientHello, check its name, end TLS, serve what is inside."""

    __slots__ = (
        "_buffer",
        "_destination",
        "_is_begun",
        "_is_over",
        "_parts",
        "_source",
        "_table",
        "_transport",
        "claims",
        "deadline_at",
        "filed_at",
    )

    def __init__(
        self,
        parts: GatewayParts,
        transport: asyncio.Transport,
        *,
        source: str,
        claims: Claims,
        destination: Destination,
        table: RouteTable,
    ) -> None:
        self._parts = parts
        self._transport = transport
        self._source = source
        self._destination = destination
        self._table = table
        self._buffer = b""
        self._is_begun = False
        self._is_over = False
        self.claims: Claims | None = claims
        self.deadline_at = self.filed_at = NEVER
        parts.streams.add(self)
        parts.streams.claim(self, None, claims)
        parts.clock.watch(self, parts.clock.now + parts.timeouts.handshake)

    def start(self, rest: bytes) -> None:
        """Answer the CONNECT; rest is what the sandbox did not wait with."""
        self._transport.set_protocol(self)
        self._transport.write(ESTABLISHED)
        if rest:
            self.data_received(rest)

    def data_received(self, data: bytes) -> None:
        """Collect the ClientHello, or the first bytes of something else."""
        self._buffer += data
        if self._buffer[0] != HANDSHAKE_RECORD:
            # A1: cleartext HTTP inside a CONNECT is an http:// request.
            destination = Destination("http", self._destination.host, self._destination.port)
            self._serve(self._transport, destination).data_received(self._buffer)
            return
        try:
            hello = parse_client_hello(self._buffer)
        except RemoteProtocolError as error:
            _log.info("interception_failed", host=self._destination.host, detail=error.reason)
            self._refuse("failed", Code.INVALID_REQUEST, HANDSHAKE_FAILURE_ALERT)
            return
        if hello is not None:
            self._check(hello)

    def _check(self, hello: ClientHello) -> None:
        """SNI is checked where TLS ends (A1); HTTP/1.1 is all that is spoken inside."""
        if hello.server_name is not None and not _names(hello.server_name, self._destination.host):
            self._refuse("sni_mismatch", AuditCode.SNI_MISMATCH, UNRECOGNIZED_NAME_ALERT)
        elif hello.alpn and "http/1.1" not in hello.alpn:
            self._refuse("http2_unsupported", AuditCode.HTTP2_UNSUPPORTED, NO_APPLICATION_PROTOCOL_ALERT)
        else:
            self._await_authority()

    def _await_authority(self) -> None:
        """End TLS now, or as soon as the sandbox's CA has come."""
        parts, claims = self._parts, self.claims
        assert claims is not None, "an interception was admitted with a token"
        wanted = parts.authorities.want(claims.sandbox_id, parts.clock.wall)
        if wanted is None:
            self._terminate()
            return
        self._transport.pause_reading()
        parts.tasks.spawn(self._terminate_later(wanted), name="interception awaits a CA")

    async def _terminate_later(self, wanted: Awaitable[object]) -> None:
        try:
            await wanted
        except BaseException:
            self.abort()  # nobody else would end it
            raise
        if not self._is_over:
            self._transport.resume_reading()
            self._terminate()

    def _terminate(self) -> None:
        """End TLS with a leaf of the sandbox's CA."""
        parts, claims = self._parts, self.claims
        assert claims is not None, "an interception was admitted with a token"
        try:
            context = parts.interception.server_context(claims.sandbox_id, self._destination.host, parts.clock.wall)
        except InterceptionError as error:
            _log.error("interception_ca_unusable", detail=str(error))
            self._refuse("failed", Code.OVERLOADED, HANDSHAKE_FAILURE_ALERT)
            return
        tls = TlsTransport(
            self._transport,
            self,
            context,
            server_side=True,
            on_handshake=self._handshake_ended,
            turns=parts.upstreams.turns,
        )
        buffer, self._buffer = self._buffer, b""
        self._is_begun = True
        tls.start(buffer)

    @property
    def held_bytes(self) -> int:
        """What has come of the ClientHello, and then what OpenSSL makes of it."""
        return HANDSHAKE_BYTES if self._is_begun else len(self._buffer)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS is up; transport is the one inside it."""
        self._parts.metrics.handshake("completed")
        self._serve(cast(asyncio.Transport, transport), self._destination)

    def _serve(self, transport: asyncio.Transport, destination: Destination) -> ServedStream:
        """The stream inside takes over; it counts as open in this one's place."""
        stream = ServedStream(
            self._parts, mode=Mode.INTERCEPTED, source=self._source, destination=destination, claims=self.claims
        )
        self._leave()
        transport.set_protocol(stream)
        stream.connection_made(transport)
        return stream

    def _handshake_ended(self, error: Exception | None) -> None:
        if error is None or self._is_over:
            return
        self._parts.metrics.handshake("failed")
        _log.info("interception_failed", host=self._destination.host, detail=str(error))
        self._leave()
        self._transport.close()

    def _refuse(self, result: str, code: AuditCode | Code, alert: bytes) -> None:
        """End the stream with a TLS alert, the one thing a client that waits for a handshake can read."""
        outcome = "failed" if code is Code.OVERLOADED else "denied"
        metrics = self._parts.metrics
        metrics.handshake(result)
        metrics.finished(outcome, self._source, 0.0)
        metrics.denied(code.wire)
        self._record({"decision": "deny", "outcome": outcome, "code": code.wire})
        self._parts.clock.watch(self, NEVER)
        Parting(self._parts.clock, self._transport, alert, self._leave).begin()

    def _record(self, fields: dict[str, object]) -> None:
        record = stream_record(
            self._parts,
            source=self._source,
            mode=Mode.INTERCEPTED,
            claims=self.claims,
            destination=self._destination,
            table=self._table,
            fields=fields,
        )
        self._parts.audit.record(record)
        self._parts.denials.note(record, None)

    def _leave(self) -> None:
        if not self._is_over:
            self._is_over = True
            self.deadline_at = NEVER
            self._parts.streams.remove(self)

    def eof_received(self) -> bool:
        """Close: nothing can follow."""
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """The sandbox has gone before it said hello."""
        if not self._is_over:
            self._parts.metrics.handshake("failed")
            self._leave()

    def expire(self) -> None:
        """The handshake took too long."""
        if not self._is_over:
            self._parts.metrics.handshake("timeout")
            self.abort()

    def drain(self) -> bool:
        """A handshake that has begun may end; the stream inside is drained then."""
        return False

    def close(self) -> None:
        """Close now: nothing here ends in any better order."""
        self.abort()

    def abort(self) -> None:
        """Close now."""
        self._leave()
        self._transport.abort()


def _names(server_name: str, host: str) -> bool:
    try:
        return normalize_host(server_name) == host
    except HostError:
        return False
