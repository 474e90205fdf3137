"""Passthrough: a CONNECT whose bytes stay opaque. Dial, answer, look at the ClientHello, relay."""

import asyncio
from collections.abc import Iterable

import structlog

from gateway.core.classify import admit, admit_opaque, opaque_rule_id
from gateway.core.decision import Deny, Mode
from gateway.core.errors import refusal, upstream_failed
from gateway.core.route_table import RouteTable
from gateway.open_streams import OpenStream
from gateway.parts import GatewayParts
from gateway.record import stream_record
from gateway.relay import OpaqueRelay
from gateway.upstream import DIAL_CODES
from sallyport.claims import Claims
from sallyport.destination import Destination
from sallyport.net.bulk_turns import BulkReader
from sallyport.net.clock import NEVER, read_clock
from sallyport.net.dial_error import DialError
from sallyport.net.parting import Parting
from sallyport.problem import AuditCode, Code
from sallyport.wire.client_hello import HANDSHAKE_RECORD, parse_client_hello
from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.answers import ESTABLISHED

_log = structlog.get_logger(__name__)


class _FirstBytes(asyncio.Protocol):
    """Keep what the upstream says before there is a relay: a server may speak as soon as it is reached."""

    def __init__(self) -> None:
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data


class Passthrough(asyncio.Protocol, OpenStream):
    """A CONNECT whose bytes stay opaque: dial, answer, look at the ClientHello, relay."""

    __slots__ = (
        "_buffer",
        "_destination",
        "_first_bytes",
        "_has_answered",
        "_hello_due_at",
        "_is_over",
        "_is_withdrawn",
        "_name",
        "_parts",
        "_relay",
        "_source",
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
        self._name: str | None = None  # where the CONNECT names an address: what the ClientHello does
        self._table = table
        self._buffer = b""
        self._has_answered = False
        self._hello_due_at = NEVER
        self._is_over = False
        self._is_withdrawn = False
        self._relay: OpaqueRelay | None = None
        self._upstream: asyncio.Transport | None = None
        self._first_bytes: _FirstBytes | None = None
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
            upstream, first_bytes = await self._parts.dialer.dial(
                destination.host, destination.port, _FirstBytes, self._table.sandbox_id
            )
        except DialError as error:
            _log.info("upstream_failed", upstream=destination.host_port, detail=error.detail)
            self._refuse(DIAL_CODES[error.kind])
            return
        if self._is_over or self._transport.is_closing():
            upstream.abort()
            return
        assert isinstance(first_bytes, _FirstBytes)
        self._upstream, self._first_bytes = upstream, first_bytes
        upstream.pause_reading()
        self._transport.write(ESTABLISHED)
        self._has_answered = True
        clock, timeouts = self._parts.clock, self._parts.timeouts
        self._hello_due_at = clock.now + timeouts.handshake
        clock.watch(self, clock.now + timeouts.client_hello)
        self._transport.resume_reading()
        if self._buffer:
            self._look()

    def data_received(self, data: bytes) -> None:
        """Collect the first bytes until the name in them is known."""
        if self._is_over:
            return
        self._buffer += data
        if self._has_answered:
            self._look()

    def _look(self) -> None:
        if self._buffer[0] != HANDSHAKE_RECORD:
            self._begin_opaque()
            return
        try:
            hello = parse_client_hello(self._buffer)
        except RemoteProtocolError:
            self._refuse_name()
            return
        if hello is None:
            # It has begun, so no server will speak first; a segment that was lost takes longer than that wait.
            self._parts.clock.watch(self, self._hello_due_at)
        elif hello.server_name is None or self._repeats_address(hello.server_name):
            self._begin_opaque()
        elif self._may_pass(hello.server_name):
            self._begin()
        else:
            self._refuse_name()

    def _repeats_address(self, server_name: str) -> bool:
        """Whether a hello to an address says that address again, which is no name that rules could see (A1).

        RFC 6066 section 3 forbids it. Whoever hands OpenSSL what he connects to sends it all the same, so it is taken
        as what it should have been, no name at all: it passes where a hello without one does, and nowhere else.
        """
        return server_name == self._destination.host and _is_address(server_name)

    def _may_pass(self, name: str) -> bool:
        """The name must be the one of the CONNECT; for an address, one that the rules let pass (A1).

        Another address than the CONNECT's is none: a server that went by it would lead past the one that was checked.
        """
        destination = self._destination
        if name == destination.host:
            return True
        if not _is_address(destination.host) or _is_address(name):
            return False
        self._name = name
        return admit(self._table, name, destination.port, self._parts.passthrough_hosts) is Mode.PASSTHROUGH

    def _begin_opaque(self) -> None:
        """Bytes that name no host: fine where the CONNECT did, not to an address while rules name hosts (A1)."""
        if _is_address(self._destination.host) and self._table.names_hosts:
            self._refuse_name()
        else:
            self._begin()

    def _begin(self) -> None:
        assert self._upstream is not None, "bytes are looked at after the dial"
        assert self._first_bytes is not None, "bytes are looked at after the dial"
        self._relay = OpaqueRelay(
            self._parts,
            self._transport,
            self._upstream,
            backlog=self._parts.backlogs.of(self._table.sandbox_id),
            scrubber=None,
            on_end=self._relay_ended,
        )
        self._relay.start(up=self._buffer, down=self._first_bytes.received)
        self._buffer = b""
        self._watch_token()

    def _watch_token(self) -> None:
        """Opaque bytes show no token again: they end with the one that their CONNECT was admitted with."""
        claims, clock = self.claims, self._parts.clock
        assert claims is not None, "a passthrough was admitted with a token"
        if not self._is_over:
            clock.watch(self, clock.now + max(0.0, claims.expires_at - clock.wall))

    def goes_on_under(self, table: RouteTable | None) -> bool:
        """Whether the plan still lets these bytes pass; from then on it is the one that decides."""
        if table is None:
            return False
        self._table = table
        destination = self._destination
        if admit_opaque(table, destination.host, destination.port) is not Mode.PASSTHROUGH:
            return False
        if self._name is not None:
            return admit_opaque(table, self._name, destination.port) is Mode.PASSTHROUGH
        return self._relay is None or not (_is_address(destination.host) and table.names_hosts)

    def _relay_ended(self, bytes_up: int, bytes_down: int) -> None:
        self._record("passthrough", {"status": 200, "bytesUp": bytes_up, "bytesDown": bytes_down})
        self._leave()

    def _refuse_name(self) -> None:
        """Reset: the client believes it speaks TLS, no answer could be read."""
        name, code = self._name, AuditCode.SNI_MISMATCH.value
        self._parts.metrics.denied(code)
        admission = None if name is None else admit_opaque(self._table, name, self._destination.port)
        deny = admission if isinstance(admission, Deny) else None
        rule_id = None if deny is None else deny.rule_id
        self._record("denied", {"decision": "deny", "egressRuleId": rule_id, "code": code}, deny)
        self.abort()

    def _refuse(self, code: Code) -> None:
        """Answer instead of the 200, and let the answer arrive: bytes that came unasked are read and dropped (S9).

        Until the sandbox has ended too it is one of its open streams: it still has a socket.
        """
        if self._is_over:
            return
        parts = self._parts
        request_id = parts.next_request_id()
        deny = upstream_failed(code, self._rule_id)
        parts.metrics.denied(code.wire)
        self._record(
            "denied" if code.status < 500 else "failed",
            {"requestId": request_id, "status": code.status, "code": code.wire},
            deny,
        )
        self._buffer = b""
        answer = refusal(deny, request_id, method="CONNECT", close=True)
        Parting(parts.clock, self._transport, answer, self._leave).begin()

    def _record(self, outcome: str, fields: dict[str, object], deny: Deny | None = None) -> None:
        if self._is_over:
            return
        self._is_over = True
        self.deadline_at = NEVER
        parts = self._parts
        seconds = read_clock() - self._started_at
        parts.metrics.finished(outcome, self._source, seconds)
        known: dict[str, object] = {
            "decision": "forward",
            "egressRuleId": self._rule_id,
            "outcome": outcome,
            "durationMs": seconds * 1000,
        }
        if self._is_withdrawn:
            known["code"] = AuditCode.AUTHORITY_WITHDRAWN.value
            parts.metrics.denied(AuditCode.AUTHORITY_WITHDRAWN.value)
        known |= fields
        record = stream_record(
            parts,
            source=self._source,
            mode=Mode.PASSTHROUGH,
            claims=self.claims,
            destination=self._destination,
            table=self._table,
            fields=known,
        )
        parts.audit.record(record)
        if "code" in known:
            parts.denials.note(record, deny)

    def _leave(self) -> None:
        """Forget it: its socket is gone."""
        self._parts.streams.remove(self)

    @property
    def _rule_id(self) -> str | None:
        """The rule that decides by the plan that is recorded: of the name, where the CONNECT's was an address."""
        return opaque_rule_id(self._table, self._name or self._destination.host, self._destination.port)

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
        self._leave()

    def expire(self) -> None:
        """No first byte: the server speaks first. The token's end."""
        if self._relay is not None:
            self._token_expired()
        elif self._buffer:
            self._refuse_name()
        else:
            self._begin_opaque()

    def _token_expired(self) -> None:
        claims = self.claims
        if claims is not None and claims.expires_at > self._parts.clock.wall:
            self._watch_token()  # a tunnel's was renewed, or the machine's clock was set back
        else:
            self.revoke()

    def revoke(self) -> None:
        """Close now, and let the record say why."""
        self._is_withdrawn = True
        self.abort()

    def drain(self) -> bool:
        """Opaque bytes have no end that could be waited for: the drain's deadline ends them."""
        return False

    def close(self) -> None:
        """Close now: nothing here ends in any better order."""
        self.abort()

    def readers(self, everyone: bool) -> Iterable[BulkReader]:
        """Return both sides, once they are relayed."""
        return () if self._relay is None else self._relay.readers(everyone)

    @property
    def held_bytes(self) -> int:
        """What either side has been written and has not taken."""
        up = 0 if self._upstream is None else self._upstream.get_write_buffer_size()
        return len(self._buffer) + self._transport.get_write_buffer_size() + up

    def abort(self) -> None:
        """Close now."""
        self._transport.abort()
        if self._upstream is not None:
            self._upstream.abort()


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()
