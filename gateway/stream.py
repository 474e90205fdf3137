"""A stream of HTTP requests from a sandbox: heads in, exchanges one after the other, answers in order.

The explicit listener's TCP, the TLS inside a CONNECT and a tunnel's stream are the same here: an asyncio transport
and a mode. Pipelined requests wait in the buffer until the exchange before them is over.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, Protocol, cast

from gateway.core.authority import Refused, invalid
from gateway.core.decision import Deny, Mode
from gateway.core.errors import gateway_is_full, memory_is_full, sandbox_is_full, unauthenticated
from gateway.core.route_table import RouteTable
from gateway.downstream import PIPELINE, Downstream
from gateway.not_yet import NotYet
from gateway.parts import GatewayParts
from gateway.recorder import Capture
from gateway.relay import OpaqueRelay
from gateway.serve import Exchange
from gateway.tokens import proxy_token
from sallyport.claims import Claims, TokenError
from sallyport.destination import Destination
from sallyport.net.bulk_turns import BULK, TIMED_BYTES, BulkReader
from sallyport.net.clock import NEVER
from sallyport.problem import AuditCode, Code
from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.codec import RequestReader
from sallyport.wire.http1.head import RequestHead
from sallyport.wire.http1.scan import HEAD_END, TOO_MANY_LINES, head_end

_head_end: Final = head_end

# RFC 9112 section 2.2: an empty line before a request is skipped; more than two are not a slip.
MAX_LEADING_BYTES: Final = 4
# Requests that are answered here, without an upstream, in one turn of the loop: a millisecond's work. A read may hold
# thousands of them, and whoever pipelines what is refused must not hold up everybody else's streams. So a stream serves
# the first at once and stands in line for those behind it (parts.pipelines): in a turn of the loop one stream of the
# process goes on, and a thousand of them serve no more than one.
TURN_REQUESTS: Final = 16
TURN_HEAD_BYTES: Final = 32 * 1024
# Why a sandbox is not read: its stream stands in that line.
TURN: Final = "turn"


class Doorman(Protocol):
    """What a listener does with the requests that are for the gateway itself."""

    def connect(self, stream: "ServedStream", head: RequestHead, rest: bytes) -> None:
        """Serve a CONNECT, or refuse it; rest came behind its head."""

    def answer(self, stream: "ServedStream", head: RequestHead) -> bytes:
        """Answer an origin-form request (health, CA certificate); nothing where the stream was detached.

        Raises Refused, or NotYet.
        """


class ServedStream(Downstream):
    """One stream. destination is where all its requests go (intercepted), or None (each names its own).

    With claims it was admitted when it was opened, and its requests carry no token of their own. read_head reads each
    head; what it makes of one that is refused is a RemoteProtocolError.
    """

    __slots__ = ("_awaiting", "_doorman", "_exchange", "_is_admitted", "_is_serving", "_proven", "_read_head", "relay")

    def __init__(
        self,
        parts: GatewayParts,
        *,
        mode: Mode,
        source: str,
        destination: Destination | None = None,
        claims: Claims | None = None,
        doorman: Doorman | None = None,
        read_head: Callable[[bytes], RequestHead] | None = None,
    ) -> None:
        super().__init__(parts, mode=mode, source=source, destination=destination, claims=claims)
        self._is_admitted = claims is not None
        self._doorman = doorman
        self._read_head = RequestReader().read if read_head is None else read_head
        self._exchange: Exchange | None = None
        self._awaiting: RequestHead | None = None  # for the gateway itself, and not to be answered yet
        self._is_serving = False
        self._proven: bytes | None = None
        self.relay: OpaqueRelay | None = None  # after a 101

    # Bytes in ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; the first head is due."""
        # uvloop's transports do not inherit from asyncio.Transport.
        self.transport = cast(asyncio.Transport, transport)
        parts = self.parts
        self.transport.set_write_buffer_limits(high=parts.limits.write_buffer_bytes)
        self.due_in(parts.timeouts.head)
        deny: Deny | None = None
        if self.claims is None:
            parts.streams.add_anonymous(self)
        else:
            parts.streams.add(self)
            deny = self._enter(None, self.claims)
        if deny is None and parts.is_shedding and parts.sheds(None if self.claims is None else self.claims.sandbox_id):
            deny = memory_is_full()
        if deny is not None:
            self.refuse(deny)

    def _enter(self, before: Claims | None, claims: Claims) -> Deny | None:
        """Be counted as a sandbox's; returns what to refuse with where it, or all of them, have one too many."""
        limits, streams = self.parts.limits, self.parts.streams
        deny: Deny | None = None
        if streams.claim(self, before, claims) > limits.streams_per_sandbox:
            deny = sandbox_is_full()
        elif before is None and streams.admitted > limits.open_streams:
            # One that was another sandbox's, or shows another token, has its place.
            deny = gateway_is_full()
        if deny is not None:
            streams.disown(self, claims)  # its end takes a while: one sandbox's refusals would fill the gateway
        return deny

    def data_received(self, data: bytes) -> None:
        """Give bytes to the exchange that wants them, or to the next head."""
        if self._buffer or len(data) >= TIMED_BYTES:
            # What is dear to read is a head's last byte as well.
            exchange = self._exchange
            if exchange is None or exchange.wants_body:
                self.parts.upstreams.turns.take(self, data, self._take)
            else:
                self._keep(data)
        elif self._exchange is None and not self._is_lingering:
            self._serve(data)
        else:
            self._take(data)

    def _take(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            if self._is_lingering:
                self._discard(len(data))
            else:
                self._serve(self._buffer + data if self._buffer else data)
        elif exchange.wants_body:
            self._watch_body()
            rest = exchange.request_received(data)
            if rest:
                self._keep(rest)
        else:
            self._keep(data)

    @property
    def turn_owner(self) -> object:
        """Whose stream it is; those without a token are nobody's together."""
        return None if self.claims is None else self.claims.sandbox_id

    def await_turn(self, late: int) -> bool:
        """Read nothing until go_on(); a stream whose transport is another protocol's reads no more."""
        if self._is_detached or self.transport.is_closing():
            return False
        self.hold_reading(BULK)
        if late:
            self.backlog.hold((self, BULK), late)
        return True

    def go_on(self, late: bytes) -> None:
        """Take what is late, and read on."""
        if late:
            self.backlog.release((self, BULK))
            if not (self._is_detached or self.transport.is_closing()):
                self._take(late)
                self._end_body()
        self.resume_reading(BULK)

    def detach(self) -> asyncio.Transport:
        """Give the transport to another protocol. A turn that came later would have it read against that one's will."""
        self.parts.upstreams.turns.leave(self)
        self.resume_reading(BULK)
        return super().detach()

    def _keep(self, data: bytes) -> None:
        """Keep pipelined bytes for the next exchange, up to a limit."""
        self._buffer += data
        if len(self._buffer) >= self.parts.limits.pipelined_bytes:
            self.hold_reading(PIPELINE)
            self.backlog.hold((self, PIPELINE), len(self._buffer))

    def _serve(self, data: bytes, requests: int = 1) -> None:
        """Begin exchanges while whole heads are there and nothing stands before them, so many in a turn of the loop."""
        self._is_serving = True
        limits = self.parts.limits
        begun = taken = 0
        while True:
            end = _head_end(data, limits.header_count)
            if end <= 0 or end > limits.head_bytes or data[:2] == b"\r\n":
                data = self._look_closer(data, end)
                if not data:
                    break
                continue
            self._buffer = data[end + 4 :]
            try:
                head = self._read_head(data[:end])
            except RemoteProtocolError as error:
                code = Code.HTTP_VERSION if error.status_hint == 505 else Code.INVALID_REQUEST
                self.refuse(Deny(code=code, detail=error.reason))
                break
            self.deadline_at = NEVER
            if head.method == "CONNECT" or (head.target[:1] == b"/" and self._doorman is not None):
                self._knock(head)
            else:
                self._exchange = exchange = Exchange(self, head)
                if self.parts.recorder.capture is None:
                    exchange.begin()
                else:
                    exchange.capture = self.parts.recorder.capture(data[:end])
                    self._begin_captured(exchange, exchange.capture)
            if self._exchange is not None or self._is_detached or self._is_lingering:
                break
            data = self._buffer
            if self.is_writing_held or not data:
                self._idle()
                break
            begun += 1
            taken += end
            if begun >= requests or taken > TURN_HEAD_BYTES:
                # Held, so that the transport reads no further meanwhile, nor tells of an end that comes after these.
                self.hold_reading(TURN)
                self.parts.pipelines.enter(None if self.claims is None else self.claims.sandbox_id, self)
                break
        self._is_serving = False

    def _begin_captured(self, exchange: Exchange, capture: Capture) -> None:
        """Begin an exchange while somebody records, perhaps another sandbox: of this one nothing is held then.

        Whose it is, is known from admission on. Bodies that were held to the end would leave the other's no room.
        """
        exchange.begin()
        if not capture.is_asked_for(None if self.claims is None else self.claims.sandbox_id):
            exchange.capture = None
            capture.let_go()

    def take_turn(self) -> None:
        """Go on with what was left for this turn."""
        self.resume_reading(TURN)
        if self._exchange is None and not (self._is_detached or self._is_lingering or self.transport.is_closing()):
            self._go_on(TURN_REQUESTS)

    def _look_closer(self, data: bytes, end: int) -> bytes:
        """There is no whole head, too long a one, or an empty line before it: return what is left to serve, if any."""
        begin = 0
        while begin < MAX_LEADING_BYTES and data[begin : begin + 2] == b"\r\n":
            begin += 2
        if begin and HEAD_END in data[begin:]:
            if data[begin : begin + 2] != b"\r\n":
                return data[begin:]
            self.refuse(Deny(code=Code.INVALID_REQUEST, detail="empty lines before the request line"))
            return b""
        self._buffer = data[begin:]
        if end == TOO_MANY_LINES:
            too_many = f"the head has more than {self.parts.limits.header_count} fields"
            self.refuse(Deny(code=Code.HEAD_TOO_LARGE, detail=too_many))
        elif len(self._buffer) > self.parts.limits.head_bytes:
            too_long = f"the head is over {self.parts.limits.head_bytes} bytes"
            self.refuse(Deny(code=Code.HEAD_TOO_LARGE, detail=too_long))
        elif not self._buffer:
            self._idle()
        elif self.has_ended:
            self.close()
        else:
            self._await_head()
        return b""

    def _knock(self, head: RequestHead, *, has_waited: bool = False) -> None:
        """Hand a request for the gateway itself to the listener."""
        doorman = self._doorman
        rest = b""
        try:
            if doorman is None:
                raise invalid("CONNECT inside a stream")
            if head.method == "CONNECT":
                rest, self._buffer = self._buffer, b""
                doorman.connect(self, head, rest)
            elif head.has_body:
                raise invalid("a request for the gateway itself has no body")
            else:
                answer = doorman.answer(self, head)
                if answer:
                    self.write(answer)
        except Refused as refused:
            self.refuse(refused.deny, head)
        except NotYet as awaited:
            if has_waited:
                self.refuse(awaited.otherwise, head)
            else:
                # What came behind this request is not begun before it.
                rest, self._buffer = rest + self._buffer, b""
                self._awaiting = head
                self.hold_reading("plan")
                self.parts.tasks.spawn(self._knock_again(head, rest, awaited), name="stream awaits a plan")

    async def _knock_again(self, head: RequestHead, rest: bytes, awaited: NotYet) -> None:
        try:
            await awaited.wanted
        except BaseException:
            self.abort()  # nobody else would end it
            raise
        self._awaiting = None
        if self._is_detached or self._is_lingering:
            return
        self.deadline_at = NEVER
        self._buffer = rest
        self.resume_reading("plan")
        self._knock(head, has_waited=True)
        if not (self._is_detached or self._is_lingering):
            self._go_on()

    def _await_head(self) -> None:
        """A head has begun: it has until the head timeout, however its bytes trickle."""
        self.resume_reading(PIPELINE)
        if self.deadline_at == NEVER or not self._is_head_due():
            self.due_in(self.parts.timeouts.head)

    def _is_head_due(self) -> bool:
        return self.deadline_at <= self.parts.clock.now + self.parts.timeouts.head

    def _idle(self) -> None:
        """No head has begun: keep the stream for the next one, or end it."""
        if self._holds:
            self.resume_reading(PIPELINE)
        if self.is_writing_held:
            # A sandbox that sends requests and reads no answers would fill our memory with them.
            self.hold_reading("answers")
            self.due_in(self.parts.timeouts.answer_body)
        elif self.has_ended or self.close_after_answer:
            self.close()
        elif self.deadline_at == NEVER:
            # Nobody's streams are not kept: they would take the places of those that have a token.
            timeouts = self.parts.timeouts
            self.due_in(timeouts.head if self.claims is None else timeouts.keep_alive)

    def _watch_body(self) -> None:
        self.due_in(self.parts.timeouts.request_body)

    # What an exchange asks --------------------------------------------------------------------------

    def check_token(self, head: RequestHead) -> Claims:
        """Say whose request this is; raises Refused (407). Re-checked per request, verified once per token."""
        claims = self.claims
        revocations = self.parts.revocations
        wall = self.parts.clock.wall
        if not self._is_admitted:
            value = head.proxy_authorization
            if value is None:
                raise self._nobody("the request carries no proxy token")
            if claims is None or value != self._proven:
                return self._verify(value, wall)
        assert claims is not None, "a stream is admitted with claims, or its request was verified"
        if claims.expires_at <= wall or (revocations.any and revocations.cover(claims, wall)):
            raise Refused(unauthenticated("the token has expired or was revoked"))
        return claims

    def _verify(self, value: bytes, wall: float) -> Claims:
        try:
            token = proxy_token(value)
            if token is None:
                raise self._nobody("the request carries no proxy token")
            claims = self.parts.tokens.verify(token, wall)
        except TokenError as error:
            raise self._nobody(f"the proxy token is refused: {error.reason.value}") from None
        self._proven = value
        self.be_of(claims)
        return claims

    def be_of(self, claims: Claims) -> None:
        """Note whose the stream is from now on; raises Refused (503) where it is one too many."""
        deny = self._enter(self.claims, claims)
        self.claims = claims
        self._count_in(self.parts.backlogs.of(claims.sandbox_id))
        self.who = self._describe()
        if deny is not None:
            self.close_after_answer = True
            raise Refused(deny)

    def _nobody(self, detail: str) -> Refused:
        """Say what to raise: a request without a good token is nobody's, whosever the one before it was."""
        if self.claims is not None:
            streams = self.parts.streams
            streams.remove(self)
            self.claims = self._proven = None
            self._count_in(self.parts.backlogs.nobody)
            self.who = self._describe()
            streams.add_anonymous(self)
        return Refused(unauthenticated(detail))

    def feed_exchange(self) -> None:
        """Give the exchange what came behind its head."""
        self._watch_body()
        data = self.take_buffer()
        if len(data) >= TIMED_BYTES and not self._is_serving:
            self.parts.upstreams.turns.take(self, data, self._take)
        elif data:
            self._take(data)  # as part of the read that is taken now, if it is long
        self._end_body()

    def _end_body(self) -> None:
        """Where the sandbox has ended and all that came is taken, the rest of a body will never come."""
        exchange, is_over = self._exchange, self.has_ended and not self.parts.upstreams.turns.late_bytes(self)
        if is_over and exchange is not None and exchange.wants_body:
            self.close()

    def ends_after(self, head: RequestHead) -> bool:
        """Whether the answer to head is the stream's last."""
        if head.close or (self.has_ended and not self._buffer):
            self.close_after_answer = True
        return self.close_after_answer

    def exchange_finished(self, exchange: Exchange) -> None:
        """Go on with the next request, or end."""
        self._exchange = None
        self.deadline_at = NEVER
        if self._is_detached:
            return
        if self.close_after_answer:
            self._end_after_answer(exchange.is_request_done)
            return
        if self._holds:
            # Every reason was the exchange's; a link that it lost cannot take its own back. What is kept of later
            # requests is still kept: one answer makes room for one request, and a read brings thousands.
            self._holds.clear()
            if len(self._buffer) < self.parts.limits.pipelined_bytes:
                self.backlog.release((self, PIPELINE))
                self.transport.resume_reading()
            else:
                self._holds.add(PIPELINE)
        if not self._is_serving:
            self._go_on()

    def _go_on(self, requests: int = 1) -> None:
        """Serve what waits, if anything does and if the sandbox takes answers."""
        if self._buffer and not self.is_writing_held:
            self._serve(self._buffer, requests)
        else:
            self._idle()

    # The end ----------------------------------------------------------------------------------------

    def eof_received(self) -> bool:
        """The sandbox sends no more: finish what is open, then close (half-close)."""
        self.has_ended = True
        exchange = self._exchange
        return not (exchange is None or self._is_lingering or exchange.wants_body)

    def connection_lost(self, error: Exception | None) -> None:
        """The sandbox is gone."""
        self.deadline_at = NEVER
        if self._is_detached:
            return
        self._is_detached = True
        exchange = self._exchange
        if exchange is not None:
            exchange.downstream_lost()
        self.parts.pipelines.leave(None if self.claims is None else self.claims.sandbox_id, self)
        self.parts.upstreams.turns.leave(self)
        self.forget()

    def expire(self) -> None:
        """A deadline has passed: of a head, of a body, of idleness, of lingering, or of a token after a 101."""
        exchange = self._exchange
        if self._is_detached:
            self._look_at_token()
        elif exchange is None:
            self._expire_without_exchange()
        elif exchange.waits_for_sandbox:
            exchange.downstream_timed_out()
        elif exchange.wants_body:
            self._watch_body()

    def _expire_without_exchange(self) -> None:
        if self.transport.is_closing() or (self.is_writing_held and not self._is_lingering):
            self.abort()  # the sandbox takes nothing any more
        elif self._buffer and not self._is_lingering:
            self.refuse(Deny(code=Code.REQUEST_TIMEOUT, detail="the head did not arrive in time"))
        else:
            self.close()

    def pause_writing(self) -> None:
        """The sandbox reads slowly."""
        self.is_writing_held = True
        unread = 0 if self._exchange is None else self._exchange.unread_bytes
        self.backlog.hold(self, self.transport.get_write_buffer_size() + unread)
        if self._exchange is not None:
            self._exchange.hold_answer()

    def resume_writing(self) -> None:
        """The sandbox reads again."""
        self.is_writing_held = False
        self.backlog.release(self)
        if self._exchange is not None:
            self._exchange.resume_answer()
        elif not (self._is_lingering or self._is_serving or TURN in self._holds):
            self.deadline_at = NEVER
            self.resume_reading("answers")
            self._go_on()

    def readers(self, everyone: bool) -> Iterable[BulkReader]:
        """Return what reads for it now: itself for a body, a link for an answer, both sides after a 101."""
        if self.relay is not None:
            return self.relay.readers(everyone)
        exchange = self._exchange
        if exchange is None:
            return ()
        link = exchange.link
        found: list[BulkReader] = []
        if link is not None and (everyone or not exchange.is_answer_taken):
            found.append(link)
        if exchange.wants_body and (everyone or not exchange.is_body_taken):
            found.append(self)
        return found

    def carries(self, kind: str, identifier: str, organization_id: str | None) -> bool:
        """Whether the open exchange uses the credential of this connection or binding."""
        route = None if self._exchange is None else self._exchange.route
        if route is None or organization_id not in (None, route.organization_id):
            return False
        if kind == "connection":
            return identifier in route.connection_ids
        return kind == "binding" and identifier == route.binding_id

    def goes_on_under(self, table: RouteTable | None) -> bool:
        """Whether the open exchange may finish; what comes after it is decided by the plan that is then in force."""
        return self._exchange is None or self._exchange.goes_on_under(table)

    def watch_token(self) -> None:
        """What follows a 101 asks for no token again: it ends with the one it was asked for with."""
        claims = self.claims
        assert claims is not None, "an exchange was admitted with claims"
        self.due_in(max(0.0, claims.expires_at - self.parts.clock.wall))

    def _look_at_token(self) -> None:
        claims = self.claims
        if self._exchange is None or claims is None:
            return
        if claims.expires_at > self.parts.clock.wall:
            self.watch_token()  # a tunnel's was renewed, or the machine's clock was set back
        else:
            self.revoke()

    def revoke(self) -> None:
        """End now. The open exchange ends before the transport says so: nothing that has arrived for it passes."""
        if self._exchange is not None:
            self._exchange.code = AuditCode.AUTHORITY_WITHDRAWN
        self.connection_lost(None)
        self.abort()

    def turn_away(self) -> None:
        """Answer the request that waits for a plan, by the one that has come; end what else is open."""
        awaiting, self._awaiting = self._awaiting, None
        if awaiting is not None:
            self._knock(awaiting, has_waited=True)
        elif self._exchange is not None and self._exchange.table is None:
            self._exchange.begin()
        else:
            self.revoke()

    def drain(self) -> bool:
        """Let the open exchange be the last; True when there is none, and no answer that still has to arrive."""
        self.close_after_answer = True
        is_told = not self._is_lingering and not self.transport.get_write_buffer_size()
        return self._exchange is None and is_told

    @property
    def held_bytes(self) -> int:
        """What either side of the stream keeps here."""
        exchange = self._exchange
        late = self.parts.upstreams.turns.late_bytes(self)
        return super().held_bytes + late + (0 if exchange is None else exchange.held_bytes)

    @property
    def exchange(self) -> Exchange | None:
        """The exchange that is open."""
        return self._exchange

    def __repr__(self) -> str:
        whose = "nobody" if self.claims is None else self.claims.sandbox_id
        return f"<ServedStream of {whose}, {self.mode.value}, {'busy' if self._exchange else 'idle'}>"
