"""The spine: one exchange in time order. Read this first.

A stream (gateway/stream.py) has read one request head; an Exchange takes it from there. Its methods stand
in the order of a request's life (docs/life-of-a-request.md). When the credential is cached and a link is
idle, everything from admit() to send() runs inside the callback that received the bytes; only a credential
miss or a dial hands over to resolve_and_dial(), which comes back to the same object.

What may happen at any time stands at the end: an end of either side, a deadline, and finish(), which every
exchange reaches exactly once.
"""

from typing import TYPE_CHECKING, Final

import structlog

from gateway.core.authority import (
    Refused,
    check_host,
    invalid,
    split_absolute_form,
)
from gateway.core.classify import classify
from gateway.core.decision import Deny, Forward
from gateway.core.downstream_head import answer_head, interim_head, switching_head
from gateway.core.errors import refusal
from gateway.core.inject.prepare import Injection, UnsupportedInjection
from gateway.core.route_table import InjectRoute, RouteTable, RouteUpstream
from gateway.core.scrub import Scrubber
from gateway.core.upstream_head import PlaceholderLeft, forwarded_head, injected_head
from gateway.credentials import CredentialError
from gateway.relay import OpaqueRelay
from gateway.upstream import UPSTREAM_DETAILS, UpstreamError, UpstreamLink
from sallyport.destination import Destination
from sallyport.net.clock import NEVER
from sallyport.problem import Code
from sallyport.request_path import PathError, canonical_path
from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.body import BodyReader, frame_chunk, frame_end
from sallyport.wire.http1.codec import HEAD_END, parse_response
from sallyport.wire.http1.framing import IDEMPOTENT_METHODS, answer_reader, has_answer_body, request_reader
from sallyport.wire.http1.head import CHUNKED, RequestHead, ResponseHead

if TYPE_CHECKING:
    from gateway.stream import ServedStream

_log = structlog.get_logger(__name__)

CONTINUE: Final = 100
SWITCHING: Final = 101
UNAUTHORIZED: Final = 401


class Exchange:
    """One request and its answer. Always: it has a link only between send() and the end of the answer."""

    __slots__ = (
        "_address",
        "_answer",
        "_answer_buffer",
        "_answer_reader",
        "_bytes_down",
        "_bytes_up",
        "_code",
        "_decision",
        "_destination",
        "_injection",
        "_interim",
        "_is_cancelled",
        "_is_finished",
        "_is_second_try",
        "_link",
        "_link_was_used",
        "_parts",
        "_path",
        "_query",
        "_request_block",
        "_request_id",
        "_request_reader",
        "_route",
        "_rule_id",
        "_scrubber",
        "_started_at",
        "_status",
        "_stream",
        "_table",
        "_task",
        "_upgrade",
        "_upstream",
        "head",
        "is_request_done",
        "wants_body",
    )

    def __init__(self, stream: "ServedStream", head: RequestHead) -> None:
        self._stream = stream
        self._parts = stream.parts
        self._started_at = stream.parts.loop.time()
        self.head = head
        self.wants_body = False
        self.is_request_done = not head.has_body
        self._request_reader: BodyReader | None = None
        self._destination: Destination | None = stream.destination
        self._path = b""
        self._query: bytes | None = None
        self._upgrade: bytes | None = None
        self._table: RouteTable | None = None
        self._route: InjectRoute | None = None
        self._rule_id: str | None = None
        self._decision = ""
        self._injection: Injection | None = None
        self._request_block = b""
        self._upstream: RouteUpstream | None = None
        self._link: UpstreamLink | None = None
        self._link_was_used = False
        self._address = ""
        self._task: object = None
        self._answer: ResponseHead | None = None
        self._answer_buffer = b""
        self._answer_reader: BodyReader | None = None
        self._scrubber: Scrubber | None = None
        self._interim = 0
        self._is_second_try = False
        self._is_cancelled = False
        self._is_finished = False
        self._request_id = ""
        self._status = 0
        self._code: Code | None = None
        self._bytes_up = 0
        self._bytes_down = 0

    def begin(self) -> None:
        """Take the request as far as it goes without waiting."""
        try:
            self._admit()
            self._canonicalise()
            self._classify()
        except Refused as refused:
            self.refuse(refused.deny)
            return
        if self._find_credential() and self._inject():
            link = self._parts.upstreams.checkout(self._upstream_of_request.pool_key)
            if link is not None:
                self._send(link)
                return
        if not self._is_finished:
            self._stream.hold_reading("exchange")
            self._spawn()

    # Admit ------------------------------------------------------------------------------------------

    def _admit(self) -> None:
        """Verify whose request this is, and find that sandbox's plan."""
        claims = self._stream.check_token(self.head)
        table = self._parts.plans.table(claims.sandbox_id)
        if table is None:
            raise Refused(
                Deny(
                    code=Code.PLAN_UNAVAILABLE,
                    detail="no plan is loaded for this sandbox",
                    hint="the control plane, or the gateway's `plans`, must provide one",
                    retry_after_seconds=5,
                )
            )
        self._table = table
        if self.head.method == "TRACE":
            raise Refused(Deny(code=Code.TRACE_REFUSED, detail="TRACE is not served"))

    # Read and canonicalise --------------------------------------------------------------------------

    def _canonicalise(self) -> None:
        """Settle where the request goes; the path that will be matched is the path that will be sent."""
        target = self.head.target
        if b"#" in target:
            raise invalid("the target has a fragment")
        destination = self._stream.destination
        if target[:1] != b"/":
            scheme, authority, target = split_absolute_form(target)
            asked = self._stream.read_authority(scheme, authority)
            if destination is None:
                if scheme != "http":
                    raise invalid("https:// is not proxied in the clear", "open a CONNECT stream to the host")
                destination = asked
            elif asked != destination:
                raise Refused(
                    Deny(
                        code=Code.AUTHORITY_MISMATCH,
                        detail="the target does not name the host that was connected to",
                        hint="send the request on a stream of its own host",
                    )
                )
            if self.head.host != authority:
                check_host(self.head.host, destination)
        elif destination is None:
            raise invalid("a proxy request has an absolute URL as its target", "use the gateway as an HTTP proxy")
        elif self.head.host != self._stream.authority:
            check_host(self.head.host, destination)
        self._destination = destination
        path, question, query = target.partition(b"?")
        self._path = path
        self._query = query if question else None
        if self.head.upgrade is not None and self.head.upgrade.lower() == b"websocket" and not self.head.has_body:
            self._upgrade = b"websocket"

    # Classify ---------------------------------------------------------------------------------------

    def _classify(self) -> None:
        """Decide: inject, forward or deny."""
        table = self._table_of_request
        scheme, host, port = self._destination_of_request
        hosts = self._stream.hosts(table, self._destination_of_request)
        path = ""
        if hosts.managed:
            try:
                path = canonical_path(self._path)
            except PathError as error:
                raise invalid(error.reason, error.hint) from None
            self._path = path.encode("ascii")
        decision = classify(table, hosts, self.head.method, self._destination_of_request, path)
        if isinstance(decision, InjectRoute):
            self._route = decision
            self._rule_id = decision.rule_id
            self._decision = "inject"
            self._upstream = decision.upstream_for(scheme, host, port)
            limit = decision.max_body_bytes
            if limit is not None and self.head.body > limit:
                raise Refused(_body_too_large(limit))
        elif isinstance(decision, Forward):
            self._rule_id = decision.rule_id
            self._decision = "forward"
            self._upstream = table.forward_upstream(scheme, host, port)
        else:
            raise Refused(decision)

    # Credential -------------------------------------------------------------------------------------

    def _find_credential(self) -> bool:
        """Have the injection ready from what is cached; False when a credential must be fetched first."""
        route = self._route
        if route is None:
            return True
        now = self._parts.clock.wall
        fresh = self._parts.credentials.fresh
        current = tuple([fresh(request.key, now) for request in route.credentials])
        prepared = route.prepared
        if prepared is not None and prepared.credentials == current:
            self._injection = prepared
            return True
        return False

    async def _resolve(self, route: InjectRoute) -> None:
        """Fetch what is missing; raises CredentialError or UnsupportedInjection."""
        credentials = self._parts.credentials
        current = [await credentials.fetch(request.key, request) for request in route.credentials]
        self._injection = route.prepared = Injection(route, current, scrub=self._parts.scrub)

    # Inject -----------------------------------------------------------------------------------------

    def _inject(self) -> bool:
        """Write the head that goes upstream; False when it was refused instead."""
        table = self._table_of_request
        upstream = self._upstream_of_request
        try:
            if self._route is None:
                block = forwarded_head(table, self.head, upstream, self._path, self._query, self._upgrade)
            else:
                assert self._injection is not None, "_find_credential or _resolve came before"
                block = injected_head(
                    table,
                    self._route,
                    self._injection,
                    self.head,
                    upstream,
                    self._path,
                    self._query,
                    self._upgrade,
                )
        except PlaceholderLeft:
            self.refuse(
                Deny(
                    code=Code.CREDENTIAL_UNAVAILABLE,
                    detail="the request still holds a placeholder that its route does not replace",
                    rule_id=self._rule_id,
                    hint="a placeholder works only on the routes and in the parts that its plan names",
                )
            )
            return False
        self._request_block = block
        return True

    # Upstream ---------------------------------------------------------------------------------------

    def _spawn(self) -> None:
        self._task = self._parts.tasks.spawn(self._resolve_and_dial(), name="exchange")

    async def _resolve_and_dial(self) -> None:
        """The slow way to send(): a credential to fetch, a link to dial, or both."""
        try:
            if self._route is not None and self._injection is None:
                await self._resolve(self._route)
            if not self._request_block and not self._inject():
                return
            upstream = self._upstream_of_request
            link = None if self._is_second_try else self._parts.upstreams.checkout(upstream.pool_key)
            if link is None:
                link = await self._parts.upstreams.open(upstream)
        except CredentialError as error:
            self.refuse(_credential_missing(error, self._rule_id))
        except UnsupportedInjection as error:
            _log.warning("unsupported_injection", detail=str(error))
            self.refuse(Deny(code=Code.CREDENTIAL_UNAVAILABLE, detail=str(error), rule_id=self._rule_id))
        except UpstreamError as error:
            self._note_upstream_failure(error.detail)
            self.refuse(Deny(code=error.code, detail=UPSTREAM_DETAILS[error.code], rule_id=self._rule_id))
        else:
            self._send(link)
        finally:
            if self._link is None and not self._is_finished:
                # Cancelled, or a defect: nothing was sent, and nobody is left to answer.
                self._stream.abort()

    def _send(self, link: UpstreamLink) -> None:
        """Write the request's head, and what is here of its body."""
        self._link = link
        self._link_was_used = link.used > 0
        self._address = link.address
        link.used += 1
        link.user = self
        clock = self._parts.clock
        clock.watch(link, clock.now + self._parts.timeouts.answer_head)
        if not self.head.has_body:
            link.transport.write(self._request_block)
        else:
            self._request_reader = request_reader(self.head)
            self.wants_body = True
            link.transport.write(self._request_block)
            self._stream.feed_exchange()
        self._stream.resume_reading("exchange")

    # Relay: the request's body ----------------------------------------------------------------------

    def request_received(self, data: bytes) -> bytes:
        """Pass on a piece of the request's body; returns what stood behind the body."""
        reader = self._request_reader
        link = self._link
        if reader is None or link is None:
            return data
        try:
            payload = reader.feed(data)
        except RemoteProtocolError as error:
            self._fail(Deny(code=Code.INVALID_REQUEST, detail=f"the request body is malformed: {error.reason}"))
            return b""
        is_chunked = self.head.body == CHUNKED
        if payload:
            self._bytes_up += len(payload)
            limit = None if self._route is None else self._route.max_body_bytes
            if limit is not None and self._bytes_up > limit:
                self._fail(_body_too_large(limit))
                return b""
            link.transport.write(frame_chunk(payload) if is_chunked else payload)
            clock = self._parts.clock
            clock.watch(link, clock.now + self._parts.timeouts.answer_head)
        if not reader.done:
            return b""
        if is_chunked:
            link.transport.write(frame_end(self._allowed_trailers(reader.trailers)))
        self.wants_body = False
        self.is_request_done = True
        return reader.rest

    def _allowed_trailers(self, trailers: list[bytes]) -> list[bytes]:
        if self._injection is None or not trailers:
            return trailers
        removed = self._injection.removed
        return [line for line in trailers if line.partition(b":")[0].lower() not in removed]

    # Relay: the answer ------------------------------------------------------------------------------

    def answer_received(self, data: bytes) -> None:
        """Pass on a piece of the answer."""
        link = self._link
        if link is None:
            return
        try:
            if self._answer is not None:
                clock = self._parts.clock
                clock.watch(link, clock.now + self._parts.timeouts.answer_body)
                self._relay_body(b"", data)
            else:
                self._read_answer(self._answer_buffer + data if self._answer_buffer else data)
        except RemoteProtocolError as error:
            self._note_upstream_failure(error.reason)
            self._fail(_protocol_error(self._rule_id))

    def _read_answer(self, data: bytes) -> None:
        """Read heads until the final one; interim answers are passed on (at most limits.interim_answers)."""
        while self._link is not None:
            end = data.find(HEAD_END)
            if end < 0 or end > self._parts.limits.head_bytes:
                if len(data) > self._parts.limits.head_bytes:
                    raise RemoteProtocolError("the answer's head is too long")
                self._answer_buffer = data
                return
            head = parse_response(data[:end])
            data = data[end + len(HEAD_END) :]
            if head.status >= 200 or head.status == SWITCHING:
                self._answer_buffer = b""
                self._final_head(head, data)
                return
            self._interim += 1
            if self._interim > self._parts.limits.interim_answers:
                raise RemoteProtocolError("too many interim answers")
            self._stream.write(interim_head(head))

    def _final_head(self, head: ResponseHead, rest: bytes) -> None:
        if head.status == SWITCHING:
            self._switch(head, rest)
        elif head.status == UNAUTHORIZED and self._credential_rejected():
            self._try_newer_credential(head, rest)
        else:
            self._relay_head(head, rest)

    def _relay_head(self, head: ResponseHead, rest: bytes) -> None:
        """Write the answer's head, and what is here of its body in the same write."""
        self._answer = head
        self._status = head.status
        method = self.head.method
        if not self.is_request_done or self._parts.is_draining:
            self._stream.close_after_answer = True
        block = answer_head(head, method, close=self._stream.ends_after(self.head))
        self._answer_reader = answer_reader(method, head)
        injection = self._injection
        if injection is not None and injection.needles is not None:
            self._scrubber = Scrubber(injection.needles)
            block = self._scrubber.scrub_head(block)
        clock = self._parts.clock
        if self._link is not None:
            clock.watch(self._link, clock.now + self._parts.timeouts.answer_body)
        self._relay_body(block, rest)

    def _relay_body(self, block: bytes, data: bytes) -> None:
        """Take the upstream's framing off, scrub, put ours on, write."""
        answer, reader = self._answer, self._answer_reader
        assert answer is not None, "_relay_head came before"
        assert reader is not None, "_relay_head came before"
        payload = reader.feed(data) if data else b""
        scrubber = self._scrubber
        if scrubber is not None:
            payload = scrubber.feed(payload)
            if reader.done:
                payload += scrubber.finish()
        self._bytes_down += len(payload)
        if answer.body is None or answer.body == CHUNKED:
            if payload:
                block += frame_chunk(payload)
            if reader.done and has_answer_body(self.head.method, answer.status):
                block += frame_end(reader.trailers)
        else:
            block += payload
        if block:
            self._stream.write(block)
        if reader.done:
            self._answer_done(reader.rest)

    def _answer_done(self, rest: bytes) -> None:
        """The answer is whole: the link goes back to the pool, or is closed."""
        link, answer = self._link, self._answer
        assert link is not None, "an answer came over a link"
        assert answer is not None, "_relay_head came before"
        self._link = None
        self._stream.resume_reading("link")
        if rest or answer.close or not self.is_request_done or link.is_lost or link.transport.is_closing():
            link.user = None
            link.transport.abort()
        else:
            if not self._link_was_used:
                self._parts.upstreams.remember_session(link)
            self._parts.upstreams.release(link)
        self.finish("injected" if self._route is not None else "forwarded")

    # Relay: an upgrade ------------------------------------------------------------------------------

    def _switch(self, head: ResponseHead, rest: bytes) -> None:
        """Raw bytes both ways after a 101 that was asked for (S7)."""
        link = self._link
        assert link is not None, "a 101 came over a link"
        if self._upgrade is None or head.upgrade is None or head.upgrade.lower() != self._upgrade:
            raise RemoteProtocolError("a 101 that was not asked for")
        if self._route is not None and b"sec-websocket-extensions" in head.names:
            raise RemoteProtocolError("an extension that was not offered")
        self._status = SWITCHING
        self._answer = head
        injection = self._injection
        block = switching_head(head)
        if injection is not None and injection.needles is not None:
            self._scrubber = Scrubber(injection.needles)
            block = self._scrubber.scrub_head(block)
        self._stream.write(block)
        link.user = None
        self._parts.clock.watch(link, NEVER)
        OpaqueRelay(
            self._parts,
            self._stream.detach(),
            link.transport,
            scrubber=self._scrubber,
            on_end=self._upgrade_ended,
        ).start(up=self._stream.take_buffer(), down=rest)

    def _upgrade_ended(self, bytes_up: int, bytes_down: int) -> None:
        self._bytes_up += bytes_up
        self._bytes_down += bytes_down
        self._link = None
        self.finish("upgraded")
        self._stream.forget()

    # A 401 from upstream (C9) -----------------------------------------------------------------------

    def _credential_rejected(self) -> bool:
        """Tell the cache that its version was refused; True when a newer one may be fetched and tried."""
        route, injection = self._route, self._injection
        if route is None or injection is None or self._is_second_try:
            return False
        now = self._parts.clock.wall
        rejected = [
            self._parts.credentials.rejected(request.key, credential.version, now)
            for request, credential in zip(route.credentials, injection.credentials, strict=True)
        ]
        return any(rejected) and not self.head.has_body and self.head.method in IDEMPOTENT_METHODS

    def _try_newer_credential(self, head: ResponseHead, rest: bytes) -> None:
        link = self._link
        assert link is not None, "a 401 came over a link"
        self._is_second_try = True
        self._stream.hold_reading("exchange")
        link.transport.pause_reading()
        self._parts.clock.watch(link, self._parts.clock.now + self._parts.timeouts.answer_head)
        self._task = self._parts.tasks.spawn(self._retry_if_newer(head, rest), name="exchange after 401")

    async def _retry_if_newer(self, head: ResponseHead, rest: bytes) -> None:
        """Send the request once more if a fetch brings another version; else pass the 401 on."""
        route, used, link = self._route, self._injection, self._link
        assert route is not None, "_credential_rejected has looked"
        assert used is not None, "_credential_rejected has looked"
        assert link is not None, "a 401 came over a link"
        try:
            await self._resolve(route)
            is_newer = [c.version for c in self._injection.credentials] != [c.version for c in used.credentials]  # type: ignore[union-attr]  # _resolve sets it
        except (CredentialError, UnsupportedInjection):
            is_newer = False
        if self._is_finished or self._link is not link:
            return
        if is_newer:
            self._drop_link()
            self._request_block = b""
            await self._resolve_and_dial()
            return
        self._injection = used
        self._stream.resume_reading("exchange")
        link.transport.resume_reading()
        try:
            self._relay_head(head, rest)
        except RemoteProtocolError as error:
            self._note_upstream_failure(error.reason)
            self._fail(_protocol_error(self._rule_id))

    # Backpressure -----------------------------------------------------------------------------------

    def hold_request(self) -> None:
        """The upstream is slow: read no more of the request."""
        self._stream.hold_reading("link")

    def resume_request(self) -> None:
        """The upstream reads again."""
        self._stream.resume_reading("link")

    def hold_answer(self) -> None:
        """The sandbox is slow: read no more of the answer."""
        if self._link is not None:
            self._link.transport.pause_reading()

    def resume_answer(self) -> None:
        """The sandbox reads again."""
        if self._link is not None:
            self._link.transport.resume_reading()

    @property
    def waits_for_sandbox(self) -> bool:
        """Whether the request's body is what everybody waits for, and nothing holds it up but the sandbox."""
        return self.wants_body and not self._stream.is_reading_held

    # The end ----------------------------------------------------------------------------------------

    def answer_ended(self, error: Exception | None) -> None:
        """The link is gone before the answer was whole."""
        link, self._link = self._link, None
        if link is None or self._is_finished:
            return
        reader = self._answer_reader
        if reader is not None and self._answer is not None and self._answer.body is None and error is None:
            self._link = link
            reader.done = True
            self._relay_body(b"", b"")
        elif self._may_dial_again():
            self._is_second_try = True
            self._stream.hold_reading("exchange")
            self._spawn()
        else:
            self._note_upstream_failure(f"the link ended early: {error or 'closed'}")
            self._fail(
                Deny(
                    code=Code.UPSTREAM_UNREACHABLE,
                    detail="the upstream closed the link before its answer was whole",
                    rule_id=self._rule_id,
                )
            )

    def _may_dial_again(self) -> bool:
        """A7: a pooled link that died before any answer byte, and a request that may be sent twice."""
        return (
            self._link_was_used
            and not self._is_second_try
            and self._answer is None
            and not self._answer_buffer
            and not self._interim
            and not self.head.has_body
            and self.head.method in IDEMPOTENT_METHODS
        )

    def upstream_timed_out(self) -> None:
        """No byte of the answer in time."""
        self._note_upstream_failure("no progress of the answer in time")
        self._fail(
            Deny(
                code=Code.UPSTREAM_TIMEOUT,
                detail="the upstream did not answer in time",
                rule_id=self._rule_id,
                hint="the time is set by the gateway's operator (timeouts.answer_head, timeouts.answer_body)",
            )
        )

    def downstream_timed_out(self) -> None:
        """No byte of the request's body in time."""
        self._fail(Deny(code=Code.REQUEST_TIMEOUT, detail="the request body did not arrive in time"))

    def downstream_lost(self) -> None:
        """The sandbox has gone: nobody waits for the answer."""
        if self._is_finished:
            return
        self._is_cancelled = True
        self._drop_link()
        self.finish("cancelled")
        task = self._task
        if task is not None:
            task.cancel()  # type: ignore[attr-defined]  # an asyncio.Task; the spine does not import asyncio

    def refuse(self, deny: Deny) -> None:
        """Answer with a problem instead of an upstream's answer."""
        if self._is_finished:
            return
        self._code = deny.code
        self._status = deny.code.status
        self._decision = self._decision or "deny"
        stream = self._stream
        stream.resume_reading("exchange")
        stream.close_after_answer = stream.close_after_answer or not self.is_request_done or self._parts.is_draining
        close = stream.ends_after(self.head)
        stream.write(refusal(deny, self._id(), method=self.head.method, close=close))
        is_denial = deny.code.status < 500
        self.finish("denied" if is_denial else "failed")

    def _fail(self, deny: Deny) -> None:
        """End the exchange: by a problem while nothing was answered, else by cutting the answer short."""
        self._drop_link()
        if self._answer is None:
            self.refuse(deny)
        elif not self._is_finished:
            self._code = deny.code
            self.finish("failed")
            self._stream.close()

    def _drop_link(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.user = None
            link.transport.abort()

    def _note_upstream_failure(self, detail: str) -> None:
        destination = self._upstream.destination if self._upstream is not None else None
        _log.info("upstream_failed", request_id=self._id(), upstream=str(destination), detail=detail)

    def _id(self) -> str:
        if not self._request_id:
            self._request_id = self._parts.next_request_id()
        return self._request_id

    def finish(self, outcome: str) -> None:
        """Record the exchange and let the stream go on. Reached exactly once."""
        if self._is_finished:
            return
        self._is_finished = True
        self.wants_body = False
        parts = self._parts
        seconds = parts.loop.time() - self._started_at
        parts.metrics.finished(outcome, self._stream.source, seconds)
        if self._code is not None:
            parts.metrics.denied(self._code.wire)
        parts.audit.record(self._audit_entry(seconds))
        self._stream.exchange_finished(self)

    def _audit_entry(self, seconds: float) -> tuple[object, ...]:
        """One audit record, in the order of gateway.audit.FIELDS; a tuple, because it is formatted off the path."""
        parts, stream, route, table = self._parts, self._stream, self._route, self._table
        claims = stream.claims
        destination = self._destination
        injection = self._injection
        is_sent = self._address != ""
        return (
            parts.clock.wall + (self._started_at - parts.clock.now),
            self._id(),
            None if claims is None else claims.organization_id,
            None if claims is None else claims.sandbox_id,
            stream.source,
            stream.mode.value,
            self.head.method,
            None if destination is None else destination.scheme,
            None if destination is None else destination.host,
            None if destination is None else destination.port,
            self._path,
            self._decision,
            self._rule_id,
            None if route is None else route.binding_id,
            None if route is None else route.connection_ids,
            None if table is None else table.revision,
            None if injection is None or not is_sent else [c.version for c in injection.credentials],
            self._status,
            None if self._code is None else self._code.wire,
            seconds * 1000,
            self._bytes_up,
            self._bytes_down,
            self._address or None,
            self._link_was_used if is_sent else None,
            self._scrubber.matches if self._scrubber is not None else None,
        )

    @property
    def route(self) -> InjectRoute | None:
        """The route whose credential this exchange carries, if it does (revocation looks here)."""
        return self._route

    @property
    def _table_of_request(self) -> RouteTable:
        assert self._table is not None, "admission came before"
        return self._table

    @property
    def _destination_of_request(self) -> Destination:
        assert self._destination is not None, "canonicalisation came before"
        return self._destination

    @property
    def _upstream_of_request(self) -> RouteUpstream:
        assert self._upstream is not None, "classification came before"
        return self._upstream

    def __repr__(self) -> str:
        state = "finished" if self._is_finished else "answering" if self._answer else "sent" if self._link else "new"
        return f"<Exchange {self.head.method} {self._decision or 'undecided'} {state}>"


def _body_too_large(limit: int) -> Deny:
    return Deny(code=Code.BODY_TOO_LARGE, detail=f"the route accepts request bodies up to {limit} bytes")


def _protocol_error(rule_id: str | None) -> Deny:
    return Deny(
        code=Code.UPSTREAM_PROTOCOL_ERROR, detail="the upstream's answer is not valid HTTP/1.1", rule_id=rule_id
    )


def _credential_missing(error: CredentialError, rule_id: str | None) -> Deny:
    if error.temporary:
        return Deny(
            code=Code.CREDENTIAL_TEMPORARILY_UNAVAILABLE,
            detail=f"the credential of this route cannot be had now ({error.code})",
            rule_id=rule_id,
            retry_after_seconds=max(1, error.retry_after_seconds),
        )
    return Deny(
        code=Code.CREDENTIAL_UNAVAILABLE,
        detail=f"the credential of this route cannot be had ({error.code})",
        rule_id=rule_id,
        hint="the integration's connection must be repaired by its owner; trying again will not help",
    )
