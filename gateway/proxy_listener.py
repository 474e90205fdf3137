"""The explicit proxy listener: CONNECT is intercepted, passed through or refused here; the rest is served as it is.

An accepted socket is a ServedStream in PLAIN mode with this module as its doorman. A CONNECT takes the transport
away from it: Interception ends TLS and begins a new ServedStream inside; Passthrough dials and relays.
"""

import asyncio
from typing import Final

import structlog

from gateway.core.authority import Refused, invalid, read_connect_destination
from gateway.core.classify import admit
from gateway.core.decision import Deny, Mode
from gateway.core.errors import no_plan, plain_answer, refusal, upstream_failed
from gateway.core.route_table import RouteTable
from gateway.parts import GatewayParts, OpenStream
from gateway.record import connect_record
from gateway.relay import OpaqueRelay
from gateway.stream import ServedStream
from gateway.upstream import DIAL_CODES
from sallyport.claims import Claims
from sallyport.destination import Destination
from sallyport.host import HostError, normalize_host, split_authority
from sallyport.net.clock import NEVER, read_clock
from sallyport.net.dial import DialError
from sallyport.net.interception import InterceptionError
from sallyport.net.tls import TlsTransport
from sallyport.problem import AuditCode, Code
from sallyport.wire.client_hello import (
    NO_APPLICATION_PROTOCOL_ALERT,
    UNRECOGNIZED_NAME_ALERT,
    ClientHello,
    parse_client_hello,
)
from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.head import RequestHead

_log = structlog.get_logger(__name__)

SOURCE: Final = "explicit"
ESTABLISHED: Final = b"HTTP/1.1 200 Connection Established\r\n\r\n"
# RFC 8446 section 5.1: a TLS stream begins with a handshake record.
TLS_HANDSHAKE: Final = 0x16


class ProxyDoorman:
    """Serve the requests of the explicit listener that are for the gateway itself."""

    def __init__(self, parts: GatewayParts) -> None:
        self._parts = parts

    def accept(self) -> asyncio.Protocol:
        """Make the protocol of an accepted socket."""
        return ServedStream(self._parts, mode=Mode.PLAIN, source=SOURCE, doorman=self)

    def answer(self, stream: ServedStream, head: RequestHead) -> bytes:
        """Answer `/healthz`, and `/v1/ca.pem` with the proxy token; anything else is not for us."""
        if head.method != "GET" or head.target not in (b"/healthz", b"/v1/ca.pem"):
            raise invalid(
                "a proxy request has an absolute URL as its target",
                "set this address as HTTP_PROXY and HTTPS_PROXY; do not send requests to it directly",
            )
        if head.target == b"/healthz":
            return plain_answer(200, "text/plain", b"ok\n")
        if head.proxy_authorization is None:
            # Asked directly, the gateway is no proxy to the client: then its token stands where any server's does.
            head.proxy_authorization = _authorization(head)
        claims = stream.check_token(head)
        try:
            authority = self._parts.authorities.authority(claims.sandbox_id, self._parts.clock.wall)
        except InterceptionError as error:
            _log.error("interception_ca_unusable", detail=str(error))
            raise Refused(_interception_unavailable()) from None
        return plain_answer(200, "application/x-pem-file", authority.certificate_pem)

    def connect(self, stream: ServedStream, head: RequestHead, rest: bytes) -> None:
        """Admit a CONNECT, once, and take its transport over; raises Refused."""
        parts = self._parts
        destination: Destination | None = None
        table: RouteTable | None = None
        claims: Claims | None = None
        try:
            claims = stream.check_token(head)
            if head.has_body:
                raise invalid("CONNECT has no body")
            destination = read_connect_destination(head.target)
            _check_connect_host(head, destination)
            table = parts.plans.table(claims.sandbox_id)
            if table is None:
                raise Refused(no_plan())
            admission = admit(table, destination.host, destination.port, parts.passthrough_hosts)
            if isinstance(admission, Deny):
                raise Refused(admission)
        except Refused as refused:
            fields: dict[str, object] = {
                "decision": "deny",
                "status": refused.deny.code.status,
                "code": refused.deny.code.wire,
            }
            fields["egressRuleId"] = refused.deny.rule_id
            _record(parts, Mode.PASSTHROUGH, claims, destination, table, fields)
            parts.metrics.finished("denied", SOURCE, 0.0)
            raise
        transport = stream.detach()
        stream.forget()
        if admission is Mode.INTERCEPTED:
            Interception(parts, transport, claims, destination).start(rest)
        else:
            Passthrough(parts, transport, claims, destination, table).start(rest)


class Interception(asyncio.Protocol, OpenStream):
    """A CONNECT to a managed host: read the ClientHello, check its name, end TLS, serve what is inside."""

    __slots__ = (
        "_buffer",
        "_destination",
        "_is_over",
        "_parts",
        "_tls",
        "_transport",
        "claims",
        "deadline_at",
        "filed_at",
    )

    def __init__(
        self, parts: GatewayParts, transport: asyncio.Transport, claims: Claims, destination: Destination
    ) -> None:
        self._parts = parts
        self._transport = transport
        self._destination = destination
        self._buffer = b""
        self._tls: TlsTransport | None = None
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
        if self._buffer[0] != TLS_HANDSHAKE:
            # A1: cleartext HTTP inside a CONNECT is an http:// request.
            host, port = self._destination.host, self._destination.port
            stream = self._inner(Destination("http", host, port))
            self._leave()
            self._transport.set_protocol(stream)
            stream.connection_made(self._transport)
            stream.data_received(self._buffer)
            return
        try:
            hello = parse_client_hello(self._buffer)
        except RemoteProtocolError:
            self._refuse("failed", None, b"")
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
            self._terminate()

    def _terminate(self) -> None:
        """End TLS with a leaf of the sandbox's CA."""
        parts, claims = self._parts, self.claims
        assert claims is not None, "an interception was admitted with a token"
        try:
            context = parts.interception.server_context(claims.sandbox_id, self._destination.host, parts.clock.wall)
        except InterceptionError as error:
            _log.error("interception_ca_unusable", detail=str(error))
            self._refuse("failed", None, b"")
            return
        stream = self._inner(self._destination)
        self._tls = TlsTransport(self._transport, stream, context, server_side=True, on_handshake=self._handshake_ended)
        self._tls.start(self._buffer)

    def _inner(self, destination: Destination) -> ServedStream:
        return ServedStream(
            self._parts, mode=Mode.INTERCEPTED, source=SOURCE, destination=destination, claims=self.claims
        )

    def _handshake_ended(self, error: Exception | None) -> None:
        self._leave()
        if error is None:
            self._parts.metrics.handshake("completed")
            return
        self._parts.metrics.handshake("failed")
        _log.info("interception_failed", host=self._destination.host, detail=str(error))
        self._transport.close()

    def _refuse(self, result: str, code: AuditCode | None, alert: bytes) -> None:
        self._parts.metrics.handshake(result)
        if code is not None:
            self._parts.metrics.denied(code.value)
            fields: dict[str, object] = {"decision": "deny", "code": code.value}
            _record(self._parts, Mode.INTERCEPTED, self.claims, self._destination, None, fields)
        if alert:
            self._transport.write(alert)
        self._leave()
        self._transport.close()

    def _leave(self) -> None:
        if not self._is_over:
            self._is_over = True
            self.deadline_at = NEVER
            self._parts.streams.remove(self)

    def eof_received(self) -> bool:
        """Close: nothing can follow."""
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """The sandbox has gone."""
        self._leave()

    def expire(self) -> None:
        """The handshake took too long."""
        if not self._is_over:
            self._parts.metrics.handshake("timeout")
            self.abort()

    def drain(self) -> bool:
        """A handshake that has begun may end; the stream inside is drained then."""
        return False

    def abort(self) -> None:
        """Close now."""
        self._leave()
        self._transport.abort()


class Passthrough(asyncio.Protocol, OpenStream):
    """A CONNECT whose bytes stay opaque: dial, answer, look at the ClientHello, relay."""

    __slots__ = (
        "_buffer",
        "_destination",
        "_has_answered",
        "_is_over",
        "_parts",
        "_relay",
        "_started_at",
        "_table",
        "_task",
        "_transport",
        "_upstream",
        "claims",
        "deadline_at",
        "filed_at",
    )

    def __init__(
        self,
        parts: GatewayParts,
        transport: asyncio.Transport,
        claims: Claims,
        destination: Destination,
        table: RouteTable,
    ) -> None:
        self._parts = parts
        self._transport = transport
        self._destination = destination
        self._table = table
        self._buffer = b""
        self._has_answered = False
        self._is_over = False
        self._relay: OpaqueRelay | None = None
        self._upstream: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._started_at = read_clock()
        self.claims: Claims | None = claims
        self.deadline_at = self.filed_at = NEVER
        parts.streams.add(self)
        parts.streams.claim(self, None, claims)

    def start(self, rest: bytes) -> None:
        """Dial; rest waits until there is somewhere to send it (S9)."""
        self._buffer = rest
        self._transport.set_protocol(self)
        self._transport.pause_reading()
        self._task = self._parts.tasks.spawn(self._dial(), name="passthrough")

    async def _dial(self) -> None:
        destination = self._destination
        try:
            self._upstream, _ = await self._parts.dialer.dial(destination.host, destination.port, asyncio.Protocol)
        except DialError as error:
            _log.info("upstream_failed", upstream=destination.host_port, detail=error.detail)
            code = DIAL_CODES[error.kind]
            answer = refusal(
                upstream_failed(code, None),
                self._parts.next_request_id(),
                method="CONNECT",
                close=True,
            )
            self._transport.write(answer)
            self._end(code.wire, code.status)
            return
        if self._is_over:
            self._upstream.abort()
            return
        self._upstream.pause_reading()
        self._transport.write(ESTABLISHED)
        self._has_answered = True
        self._parts.clock.watch(self, self._parts.clock.now + self._parts.timeouts.client_hello)
        self._transport.resume_reading()
        if self._buffer:
            self._look()

    def data_received(self, data: bytes) -> None:
        """Collect the first bytes until the name in them is known."""
        self._buffer += data
        if self._has_answered:
            self._look()

    def _look(self) -> None:
        if self._buffer[0] != TLS_HANDSHAKE:
            self._begin_opaque()
            return
        try:
            hello = parse_client_hello(self._buffer)
        except RemoteProtocolError:
            self._refuse_name()
            return
        if hello is None:
            return
        if hello.server_name is None:
            self._begin_opaque()
        elif self._may_pass(hello.server_name):
            self._begin()
        else:
            self._refuse_name()

    def _may_pass(self, server_name: str) -> bool:
        """The name must be the one of the CONNECT; for an address, one that the rules let pass (A1)."""
        destination = self._destination
        try:
            name = normalize_host(server_name)
        except HostError:
            return False
        if name == destination.host:
            return True
        if not _is_address(destination.host):
            return False
        return admit(self._table, name, destination.port, self._parts.passthrough_hosts) is Mode.PASSTHROUGH

    def _begin_opaque(self) -> None:
        """Bytes that name no host: fine where the CONNECT did, not to an address while rules name hosts (A1)."""
        if _is_address(self._destination.host) and self._table.names_hosts:
            self._refuse_name()
        else:
            self._begin()

    def _begin(self) -> None:
        assert self._upstream is not None, "bytes are looked at after the dial"
        self.deadline_at = NEVER
        self._relay = OpaqueRelay(self._parts, self._transport, self._upstream, scrubber=None, on_end=self._relay_ended)
        self._relay.start(up=self._buffer, down=b"")
        self._buffer = b""

    def _relay_ended(self, bytes_up: int, bytes_down: int) -> None:
        self._record("passthrough", {"status": 200, "bytesUp": bytes_up, "bytesDown": bytes_down})

    def _refuse_name(self) -> None:
        """Reset: the client believes it speaks TLS, no answer could be read."""
        self._parts.metrics.denied(AuditCode.SNI_MISMATCH.value)
        self._record("denied", {"decision": "deny", "code": AuditCode.SNI_MISMATCH.value})
        self.abort()

    def _end(self, code: str, status: int) -> None:
        self._parts.metrics.denied(code)
        self._record("denied" if status < 500 else "failed", {"code": code, "status": status})
        self._transport.close()

    def _record(self, outcome: str, fields: dict[str, object]) -> None:
        if self._is_over:
            return
        self._is_over = True
        self.deadline_at = NEVER
        parts = self._parts
        seconds = read_clock() - self._started_at
        parts.metrics.finished(outcome, SOURCE, seconds)
        known: dict[str, object] = {"decision": "forward", "durationMs": seconds * 1000}
        _record(parts, Mode.PASSTHROUGH, self.claims, self._destination, self._table, known | fields)
        parts.streams.remove(self)

    def eof_received(self) -> bool:
        """The sandbox ended before a byte was relayed."""
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """The sandbox has gone before the relay began."""
        if not self._is_over:
            self._record("cancelled", {})
            if self._upstream is not None:
                self._upstream.abort()
            elif self._task is not None:
                self._task.cancel()

    def expire(self) -> None:
        """No first byte: a protocol in which the server speaks first."""
        if self._buffer:
            self._refuse_name()
        else:
            self._begin_opaque()

    def drain(self) -> bool:
        """Opaque bytes have no end that could be waited for: the drain's deadline ends them."""
        return False

    def abort(self) -> None:
        """Close now."""
        self._transport.abort()
        if self._upstream is not None:
            self._upstream.abort()


def _record(
    parts: GatewayParts,
    mode: Mode,
    claims: Claims | None,
    destination: Destination | None,
    table: RouteTable | None,
    fields: dict[str, object],
) -> None:
    record = connect_record(
        parts, source=SOURCE, mode=mode, claims=claims, destination=destination, table=table, fields=fields
    )
    parts.audit.record(record)


def _check_connect_host(head: RequestHead, destination: Destination) -> None:
    """The Host of a CONNECT names the same host; its port may be missing (A1, S4)."""
    if head.host is None:
        if head.minor == 0:
            return
        raise invalid("the Host field is missing")
    try:
        host, port = split_authority(head.host.decode("latin-1"), destination.port)
    except HostError as error:
        raise invalid(f"the Host field is refused: {error}") from None
    if (host, port) != (destination.host, destination.port):
        raise Refused(Deny(code=Code.AUTHORITY_MISMATCH, detail="the Host field does not name the host of the CONNECT"))


def _authorization(head: RequestHead) -> bytes | None:
    for name, line in zip(head.names, head.lines, strict=True):
        if name == b"authorization":
            return line.partition(b":")[2].strip(b" \t")
    return None


def _interception_unavailable() -> Deny:
    return Deny(code=Code.OVERLOADED, detail="the sandbox's CA cannot be had now", retry_after_seconds=5)


def _names(server_name: str, host: str) -> bool:
    try:
        return normalize_host(server_name) == host
    except HostError:
        return False


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()
