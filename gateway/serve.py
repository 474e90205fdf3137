"""The spine: one exchange in time order. Read this first.

A stream (gateway/stream.py) has read one request head; an Exchange takes it from there. Its methods stand in the
order of a request's life (docs/life-of-a-request.md): admit, canonicalise, classify, credential, inject, upstream,
send, the request's body (gateway/request_body.py), the answer (gateway/answer.py), the end. When the credential is
cached and a link is idle, everything up to send() runs inside the callback that received the bytes; only a credential
miss or a dial hands over to _resolve_and_dial(), which comes back to the same object.
"""

from typing import TYPE_CHECKING, cast

import structlog

from gateway.answer import SWITCHING, UNAUTHORIZED, Answer
from gateway.core.authority import Refused
from gateway.core.classify import classify
from gateway.core.credential_cache import Credential
from gateway.core.decision import Deny, Forward
from gateway.core.downstream_head import switching_head
from gateway.core.errors import (
    answer_late,
    answer_not_http,
    answer_not_whole,
    answer_unreadable,
    body_too_large,
    credential_missing,
    memory_is_full,
    of_another_organization,
    placeholder_left,
    rate_limited,
    refusal,
    sandbox_rate_limited,
    upstream_failed,
)
from gateway.core.frame_scrub import FrameScrubber
from gateway.core.inject.aws_sigv4 import Payload, declared_payload, without_presigned
from gateway.core.inject.prepare import Injection, UnfitCredential
from gateway.core.redact import SentHead
from gateway.core.request_limit import RequestLimit
from gateway.core.route_table import InjectRoute, RouteTable, RouteUpstream
from gateway.core.upstream_head import PlaceholderLeft, upstream_head
from gateway.credentials import CredentialError
from gateway.kept_body import KeptBody
from gateway.not_yet import NotYet, missing_plan
from gateway.record import exchange_record
from gateway.relay import OpaqueRelay
from gateway.request_body import RequestBody
from gateway.upstream import UpstreamError, UpstreamLink
from sallyport.destination import Destination
from sallyport.net.clock import NEVER, read_clock
from sallyport.problem import AuditCode, Code
from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.framing import IDEMPOTENT_METHODS
from sallyport.wire.http1.head import RequestHead, ResponseHead

if TYPE_CHECKING:
    from gateway.recorder import Capture
    from gateway.stream import ServedStream

_log = structlog.get_logger(__name__)


class Exchange:
    """One request and its answer. Always: it has an Answer, and so a link, only from _send() to that answer's end.

    What stands on the class is the value of an exchange that has not got so far: setting each of them per exchange
    would cost more than parsing its head.
    """

    destination: Destination | None = None
    path = b""  # canonical once classified, and never with its query
    table: RouteTable | None = None
    route: InjectRoute | None = None
    rule_id: str | None = None
    labels: tuple[str | None, str | None, str | None] = (None, None, None)  # of audit: rule, binding, connection
    revision: int | None = None
    decision = ""
    injection: Injection | None = None
    address: str | None = None  # these three from when it is sent
    is_link_reused: bool | None = None
    versions: tuple[str, ...] | None = None
    wants_body = False
    max_body_bytes: int | None = None
    status: int | None = None
    code: Code | AuditCode | None = None
    denied: Deny | None = None  # why, where more than the code is known
    bytes_up = 0
    bytes_down = 0
    scrubbed = 0
    capture: "Capture | None" = None  # somebody records
    _limit: RequestLimit | None = None  # these two count it until it ends: the route's, the operator's
    _sandbox_limit: RequestLimit | None = None
    _request_id = ""
    _query: bytes | None = None
    _upgrade: bytes | None = None
    _upstream: RouteUpstream | None = None
    _request_block = b""
    _task: object = None
    _body: RequestBody | None = None
    _payload: Payload | None = None  # these two where the head is signed; the second where the body is its part
    _kept: KeptBody | None = None
    _answer: Answer | None = None
    _is_second_try = False
    _has_waited = False
    _is_finished = False

    def __init__(self, stream: "ServedStream", head: RequestHead) -> None:
        self.stream = stream
        self.parts = stream.parts
        self.head = head
        self.is_request_done = head.body == 0
        self._started_at = read_clock()

    def begin(self) -> None:
        """Take the request as far as it goes without waiting."""
        try:
            table = self._admit()
            destination = self._canonicalise()
            upstream = self._classify(table, destination)
        except Refused as refused:
            self.refuse(refused.deny)
            return
        except NotYet as awaited:
            self._begin_later(awaited)
            return
        if self.route is None or self._find_credential(self.route):
            if not self._inject(table, upstream):
                return
            link = self.parts.upstreams.checkout(upstream.pool_key, table.sandbox_id)
            if link is not None:
                self._send(link)
                return
        self._wait_for_link()

    def _begin_later(self, awaited: NotYet) -> None:
        if self._has_waited:
            self.refuse(awaited.otherwise)
            return
        self._has_waited = True
        self._task = self.parts.tasks.spawn(self._begin_again(awaited), name="exchange awaits a plan")

    async def _begin_again(self, awaited: NotYet) -> None:
        try:
            await awaited.wanted
        except BaseException:
            self.stream.abort()  # nobody else would end it
            raise
        if not self._is_finished:
            self.begin()

    # Admit ------------------------------------------------------------------------------------------

    def _admit(self) -> RouteTable:
        """Verify whose request this is, and find that sandbox's plan; raises Refused, NotYet."""
        claims = self.stream.check_token(self.head)
        self.table = table = self.parts.plans.in_force.get(claims.sandbox_id)
        if table is None:
            raise missing_plan(self.parts.plans, claims.sandbox_id)
        if table.organization_id != claims.organization_id:
            raise Refused(of_another_organization())
        self.revision = table.revision
        if self.parts.is_shedding and self.parts.sheds(claims.sandbox_id):
            raise Refused(memory_is_full())
        limit = table.sandbox_limit
        if limit is not None:
            excess = limit.admit(self.parts.clock.now)
            if excess is not None:
                raise Refused(sandbox_rate_limited(excess))
            self._sandbox_limit = limit
        return table

    # Read and canonicalise --------------------------------------------------------------------------

    def _canonicalise(self) -> Destination:
        """Settle where the request goes (A1 to A3, P6, P7); raises Refused."""
        head = self.head
        destination, self.path, question, query = self.stream.targets.read(head.target, head.host)
        self.destination = destination
        if question:
            self._query = query
        if head.upgrade is not None and head.upgrade.lower() == b"websocket" and not head.has_body:
            self._upgrade = b"websocket"
        return destination

    # Classify ---------------------------------------------------------------------------------------

    def _classify(self, table: RouteTable, destination: Destination) -> RouteUpstream:
        """Decide: inject, forward or deny; raises Refused. The path that is matched is the path that is sent."""
        decision, self.path, upstream = classify(table, destination, self.head.method, self.path)
        if upstream is None:
            raise Refused(cast(Deny, decision))
        self._upstream = upstream
        if not isinstance(decision, InjectRoute):
            forward = cast(Forward, decision)
            self.decision = "forward"
            self.rule_id = forward.rule_id
            self.labels = (forward.rule_id, None, None)
            self._check_body_size(None)
            return upstream
        self.rule_id = decision.rule_id
        self.decision = "inject"
        self.labels = decision.labels
        self.route = decision
        self._check_body_size(decision.max_body_bytes)
        if decision.limit is not None:
            excess = decision.limit.admit(self.parts.clock.now)
            if excess is not None:
                raise Refused(rate_limited(excess, decision.rule_id))
            self._limit = decision.limit
        return upstream

    def _check_body_size(self, route_limit: int | None) -> None:
        """Hold a body to the lower of the route's limit and the operator's; raises Refused."""
        body = self.head.body
        if body == 0:
            return
        limit = self.parts.limits.request_body_bytes
        if limit is None or (route_limit is not None and route_limit < limit):
            limit = route_limit
        if limit is not None and body > limit:
            raise Refused(body_too_large(limit, route_limit))
        self.max_body_bytes = limit

    # Credential -------------------------------------------------------------------------------------

    def _find_credential(self, route: InjectRoute) -> bool:
        """Have the injection ready from what is cached; False when something must be awaited first.

        That is a credential to fetch; or the request is one to sign, for which nothing is ever prepared.
        """
        prepared = route.prepared
        if prepared is None:
            return False
        now = self.parts.clock.wall
        credentials = self.parts.credentials
        entries = credentials.entries
        for key, credential in prepared.made_of:
            entry = entries.get(key)
            if entry is not None and now < entry.refresh_at:
                known: Credential | None = entry.credential
            else:
                known = credentials.fresh(key, now)
            if known is not credential:
                return False
        self.injection = prepared
        return True

    async def _resolve(self, route: InjectRoute) -> Injection:
        """Fetch what is missing; raises CredentialError or UnfitCredential."""
        credentials, now = self.parts.credentials, self.parts.clock.wall
        current = [
            credentials.fresh(request.key, now) or await credentials.fetch(request.key, request)
            for request in route.credentials
        ]
        before = route.signing if route.is_signed else route.prepared
        if before is not None and before.is_made_of(current):
            self.injection = before
            return before
        self.injection = injection = Injection(route, current, scrub=self.parts.scrub.enabled)
        if route.is_signed:
            route.signing = injection
        else:
            route.prepared = injection
        if injection.is_blind and (before is None or before.versions != injection.versions):
            self._alert_blind(route)
        return injection

    def _alert_blind(self, route: InjectRoute) -> None:
        """Tell the operator, once for each version, that an echo of this credential would pass (C3)."""
        self.parts.metrics.scrub_short_secrets += 1
        _log.error(
            "credential_too_short_to_scrub",
            egress_rule_id=route.rule_id,
            connections=[request.key.connection_id for request in route.credentials],
            detail="answers are not searched for secrets under 8 bytes; use a longer one",
        )

    # Inject -----------------------------------------------------------------------------------------

    def _inject(self, table: RouteTable, upstream: RouteUpstream) -> bool:
        """Write the head that goes upstream; False when the request was refused instead."""
        try:
            self._request_block = upstream_head(
                table, self.injection, self.head, upstream, self.path, self._query, self._upgrade
            )
        except PlaceholderLeft:
            self.refuse(placeholder_left(self.rule_id))
            return False
        except Refused as refused:
            self.refuse(refused.deny)
            return False
        return True

    async def _settle_payload(self, table: RouteTable) -> bool:
        """Find what is signed for the body, and keep the body for it if need be; False when the exchange has ended.

        Raises Refused. The credential comes after it: a slow body must not outlive one.
        """
        self._query = without_presigned(self._query)
        self._payload = declared_payload(self.head)
        if self._payload is None:
            self._kept = KeptBody(self, table.sandbox_id)
            self._payload = await self._kept.read()
        return self._payload is not None

    def _sign(self, payload: Payload) -> None:
        """Sign the head that was written, as it is."""
        signer = None if self.injection is None else self.injection.signer
        assert signer is not None, "only a route that signs has its payload settled"
        self._request_block = signer.sign(self._request_block, payload, self.parts.clock.wall)

    # Upstream ---------------------------------------------------------------------------------------

    def _wait_for_link(self) -> None:
        self._task = self.parts.tasks.spawn(self._resolve_and_dial(), name="exchange")

    async def _resolve_and_dial(self) -> None:
        """The slow way to _send(): a credential to fetch, a head to sign, a link to dial, or all of it."""
        table, upstream = self.table, self._upstream
        assert table is not None, "admission came before"
        assert upstream is not None, "classification came before"
        try:
            if self.route is not None and self.injection is None:
                if self.route.is_signed and not await self._settle_payload(table):
                    return
                await self._resolve(self.route)
            if not self._request_block:
                if not self._inject(table, upstream):
                    return
                if self._payload is not None:
                    self._sign(self._payload)
            upstreams, sandbox_id = self.parts.upstreams, table.sandbox_id
            link = None if self._is_second_try else upstreams.checkout(upstream.pool_key, sandbox_id)
            link = link or await upstreams.open(upstream, sandbox_id)
            self._send(link)
            if self._kept is not None:
                self._kept.write_to(link)
        except Refused as refused:
            self.refuse(refused.deny)
        except CredentialError as error:
            self.refuse(credential_missing(error.code, error.temporary, error.retry_after_seconds, self.rule_id))
        except UnfitCredential as error:
            _log.warning("credential_unfit", request_id=self.request_id, detail=str(error))
            self.refuse(Deny(code=Code.CREDENTIAL_UNAVAILABLE, detail=str(error), rule_id=self.rule_id))
        except UpstreamError as error:
            self._log_upstream(error.detail)
            self.refuse(upstream_failed(error.code, self.rule_id))
        finally:
            if self._answer is None and not self._is_finished:
                # Cancelled, or a defect: nothing was sent, and nobody else would end this stream.
                self.stream.abort()

    def _send(self, link: UpstreamLink) -> None:
        """Write the request's head, and what is here of its body."""
        self._answer = link.user = Answer(self, link)
        self.address = link.address
        if self.injection is not None:
            self.versions = self.injection.versions
        parts = self.parts
        self.is_link_reused = link.used > 0
        if link.used:
            parts.metrics.upstream_link_reuse += 1
        link.used += 1
        if self.capture is not None:
            self._capture_head(self.capture)
        link.due_in(parts.timeouts.answer_head)
        if self.is_request_done:
            link.transport.write(self._request_block)
        else:
            self._body = body = RequestBody(self, link, self.max_body_bytes, self._request_block)
            self.wants_body = True
            self.stream.feed_exchange()
            body.begin()
        backlog = self.stream.backlog
        if backlog.is_over:
            for reader in self.stream.readers(True):
                backlog.wait(reader)

    def withhold(self) -> None:
        """Send nothing after all: the link serves another, and neither record nor recording say that it was sent."""
        self.address = self.is_link_reused = self.versions = None
        self.bytes_up = 0
        if self.capture is not None:
            self.capture.request_withheld()
        answer = self._take_answer()
        if answer is None:
            return
        link = answer.link
        if link.is_lost or not link.is_fit:
            link.drop()  # its upstream has closed it since it was dialled
        else:
            self.parts.upstreams.release(link)

    # The request's body -----------------------------------------------------------------------------

    def request_received(self, data: bytes) -> bytes:
        """Pass on a piece of the request's body; returns what stood behind its end."""
        if self._body is None or self._answer is None:
            return data if self._kept is None else self._kept.received(data)
        return self._body.received(data)

    def request_ended(self) -> None:
        """The body was written, or kept, to its end."""
        self.wants_body = False
        self.is_request_done = True

    @property
    def waits_for_sandbox(self) -> bool:
        """Whether the request's body is what everybody waits for, and nothing holds it up but the sandbox."""
        return self.wants_body and not self.stream.is_reading_held

    # The answer -------------------------------------------------------------------------------------

    def answer_began(self, answer: Answer, head: ResponseHead, rest: bytes) -> None:
        """The final head is here; raises RemoteProtocolError."""
        self.status = status = head.status
        if status == SWITCHING:
            self._switch(answer, head, rest)
        elif status == UNAUTHORIZED and self._is_credential_rejected() and not answer.has_told:
            self._try_newer_credential(answer, head, rest)
        else:
            answer.relay(head, rest)

    def is_last(self) -> bool:
        """Whether this is the stream's last exchange, decided when its answer's head is written."""
        stream = self.stream
        if not self.is_request_done or self.parts.is_draining:
            stream.close_after_answer = True
        return stream.ends_after(self.head)

    def answer_progressed(self) -> None:
        """Bytes moved: put the link's deadline off."""
        if self._answer is not None:
            timeouts = self.parts.timeouts
            self._answer.link.due_in(timeouts.answer_head if self._answer.head is None else timeouts.answer_body)

    def answer_ended(self, *, is_clean: bool) -> None:
        """The answer is whole: the link goes back to the pool, or is closed. None goes back with anything unsent."""
        answer = self._take_answer()
        if answer is None:
            return
        link, head = answer.link, answer.head
        is_sent = self.is_request_done and not link.transport.get_write_buffer_size()
        if head is None or head.close or not is_clean or not is_sent or link.is_lost:
            link.drop()
        else:
            if link.is_reading_held:
                # Every reason was this exchange's, and the next one knows nothing of them.
                link.read_on()
            if not self.is_link_reused:
                self.parts.upstreams.remember_session(link)
            self.parts.upstreams.release(link)
        self.finish("forwarded" if self.route is None else "injected")

    def answer_cut(self, detail: str) -> None:
        """The link is gone before the answer was whole."""
        answer = self._answer
        if answer is None:
            return
        if (
            self.is_link_reused
            and not self._is_second_try
            and not answer.has_begun
            and self.head.body == 0
            and self.head.method in IDEMPOTENT_METHODS
        ):
            # A7: a pooled link that died before any answer byte; the request may be sent once more, on a fresh one.
            self._part_from(answer)
            self._is_second_try = True
            self._wait_for_link()
        else:
            self._log_upstream(f"the link ended early: {detail}")
            self.fail(answer_not_whole(self.rule_id))

    def answer_malformed(self, reason: str) -> None:
        """The upstream's answer is not valid HTTP/1.1 (S11)."""
        self._log_upstream(reason)
        self.fail(answer_not_http(self.rule_id))

    def answer_unscannable(self) -> None:
        """The answer's coding keeps it from being searched, and the operator wants no such answer (C3)."""
        self._log_upstream("a content coding that cannot be searched for the credential")
        self.fail(answer_unreadable(self.rule_id))

    def answer_timed_out(self) -> None:
        """No byte of the answer in time."""
        if self.waits_for_sandbox:
            self.answer_progressed()  # its own time is running, not the upstream's
            return
        self._log_upstream("no progress of the answer in time")
        self.fail(answer_late(self.rule_id))

    # An upgrade -------------------------------------------------------------------------------------

    def _switch(self, answer: Answer, head: ResponseHead, rest: bytes) -> None:
        """Raw bytes both ways after a 101 that was asked for (S7); raises RemoteProtocolError."""
        if self._upgrade is None or head.upgrade is None or head.upgrade.lower() != self._upgrade:
            raise RemoteProtocolError("a 101 that was not asked for")
        if self.route is not None and b"sec-websocket-extensions" in head.names:
            raise RemoteProtocolError("an extension that was not offered")
        answer.head = head
        block = answer.scrub_head(switching_head(head))
        if self.capture is not None:
            self.capture.answer_head(block)
        self.stream.write(block)
        link = answer.link
        link.user = None
        self.parts.clock.watch(link, NEVER)
        early = self.stream.take_buffer()
        scrubber = None if answer.scrubber is None else FrameScrubber(answer.scrubber)
        self.stream.relay = relay = OpaqueRelay(
            self.parts,
            self.stream.detach(),
            link.transport,
            backlog=self.stream.backlog,
            scrubber=scrubber,
            on_end=self._upgrade_ended,
        )
        relay.start(up=early, down=rest)
        link.leave_pool()
        self.stream.watch_token()

    def _upgrade_ended(self, bytes_up: int, bytes_down: int) -> None:
        answer = self._take_answer()
        self.bytes_up += bytes_up
        self.bytes_down += bytes_down
        self.scrubbed = 0 if answer is None or answer.scrubber is None else answer.scrubber.matches
        self.finish("upgraded")
        self.stream.forget()

    # A 401 from upstream (C9) -----------------------------------------------------------------------

    def _is_credential_rejected(self) -> bool:
        """Tell the cache that its version was refused; True when a newer one may be fetched and tried."""
        injection = self.injection
        if injection is None or self._is_second_try:
            return False
        self.parts.metrics.credential_rejections += 1
        now = self.parts.clock.wall
        rejected = [
            self.parts.credentials.rejected(key, credential.version, now) for key, credential in injection.made_of
        ]
        return any(rejected) and self.head.body == 0 and self.head.method in IDEMPOTENT_METHODS

    def _try_newer_credential(self, answer: Answer, head: ResponseHead, rest: bytes) -> None:
        self._is_second_try = True
        answer.link.hold_reading("credential")
        self._task = self.parts.tasks.spawn(self._retry_if_newer(answer, head, rest), name="exchange after 401")

    async def _retry_if_newer(self, answer: Answer, head: ResponseHead, rest: bytes) -> None:
        """Send the request once more if a fetch brings another version; else pass the 401 on."""
        route, refused = self.route, self.injection
        assert route is not None, "_is_credential_rejected has looked"
        assert refused is not None, "_is_credential_rejected has looked"
        try:
            newer = await self._resolve(route)
        except (CredentialError, UnfitCredential):
            newer = refused
        if self._answer is not answer:
            return
        if newer.versions != refused.versions:
            self._part_from(answer)
            answer.link.drop()
            self._request_block = b""
            await self._resolve_and_dial()
            return
        self.injection = refused
        answer.link.resume_reading("credential")
        try:
            answer.relay(head, rest)
        except RemoteProtocolError as error:
            self.answer_malformed(error.reason)

    # Backpressure -----------------------------------------------------------------------------------

    def hold_answer(self) -> None:
        """The sandbox is slow: read no more of the answer."""
        if self._answer is not None:
            self._answer.hold()

    @property
    def link(self) -> UpstreamLink | None:
        """The link that its answer comes on, once it was sent."""
        return None if self._answer is None else self._answer.link

    @property
    def is_answer_taken(self) -> bool:
        """Whether something of an answer's body has come, and the sandbox has taken it."""
        answer = self._answer
        return answer is not None and answer.body_bytes > 0 and not self.stream.transport.get_write_buffer_size()

    @property
    def is_body_taken(self) -> bool:
        """Whether something of the request's body has come, and the upstream has taken it."""
        answer = self._answer
        return answer is not None and self.bytes_up > 0 and not answer.link.transport.get_write_buffer_size()

    @property
    def held_bytes(self) -> int:
        """What was written toward the upstream and not taken, what is kept to be signed, and of the answer."""
        kept = 0 if self._kept is None else self._kept.held_bytes
        if self._answer is None:
            return kept
        return kept + self._answer.link.transport.get_write_buffer_size() + self.unread_bytes

    @property
    def unread_bytes(self) -> int:
        """What its link has read and not passed on."""
        if self._answer is None:
            return 0
        link = self._answer.link
        return link.unread_bytes + self.parts.upstreams.turns.late_bytes(link)

    def resume_answer(self) -> None:
        """The sandbox reads again."""
        if self._answer is not None:
            self._answer.resume()

    # The end ----------------------------------------------------------------------------------------

    def downstream_timed_out(self) -> None:
        """No byte of the request's body in time."""
        self.fail(Deny(code=Code.REQUEST_TIMEOUT, detail="the request body did not arrive in time"))

    def goes_on_under(self, table: RouteTable | None) -> bool:
        """Whether it may finish under another plan of its sandbox, or (None) under none.

        It finishes on the table it began with (T2), unless the binding whose credential it carries has gone.
        """
        if self.table is None:
            return True  # it waits for a plan, and will be decided by that one
        return table is not None and (self.route is None or self.route.binding_id in table.binding_ids)

    def downstream_lost(self) -> None:
        """The sandbox has gone: nobody waits for the answer."""
        if self._is_finished:
            return
        self._drop_answer()
        self.finish("cancelled")
        if self._task is not None:
            self._task.cancel()  # type: ignore[attr-defined]  # an asyncio.Task; the spine knows no asyncio

    def refuse(self, deny: Deny) -> None:
        """Answer with a problem instead of an upstream's answer."""
        if self._is_finished:
            return
        self.code = deny.code
        self.denied = deny
        self.status = deny.code.status
        self.decision = self.decision or "deny"
        if self.rule_id is None:
            self.labels = (deny.rule_id, None, None)
        self.destination = self.destination or self.stream.targets.destination
        answer = refusal(deny, self.request_id, method=self.head.method, close=self.is_last())
        if self.capture is not None:
            self.capture.refused(answer)
        self.stream.write(answer)
        self.finish("denied" if deny.code.status < 500 else "failed")

    def fail(self, deny: Deny) -> None:
        """End the exchange: by a problem while nothing was answered, else by cutting the answer short."""
        answer = self._drop_answer()
        if answer is None or answer.head is None:
            self.refuse(deny)
        elif not self._is_finished:
            self.code = deny.code
            self.denied = deny
            self.stream.close_after_answer = True
            self.is_request_done = True  # nothing can be said any more, so there is nothing to linger for
            self.finish("failed")

    def _drop_answer(self) -> Answer | None:
        answer = self._take_answer()
        if answer is not None:
            answer.link.drop()
        return answer

    def _take_answer(self) -> Answer | None:
        answer = self._answer
        if answer is not None:
            self._part_from(answer)
            self.bytes_down += answer.body_bytes
            self.scrubbed = 0 if answer.scrubber is None else answer.scrubber.matches
        return answer

    def _part_from(self, answer: Answer) -> None:
        """Have nothing to do with an answer and its link any more."""
        self._answer = None
        backlog = self.stream.backlog
        if answer.is_request_held:
            backlog.release(answer)
        if answer.is_late:
            answer.release_late()
        if answer.waits:
            answer.leave_line()
        if backlog.waiting:
            backlog.leave(answer.link)

    def finish(self, outcome: str) -> None:
        """Record the exchange and let the stream go on. Whatever happened, this is reached exactly once."""
        if self._is_finished:
            return
        self._is_finished = True
        self.wants_body = False
        parts = self.parts
        seconds = read_clock() - self._started_at
        parts.metrics.finished(outcome, self.stream.source, seconds)
        if self.scrubbed:
            parts.metrics.scrub_matches += self.scrubbed
        if self._limit is not None:
            self._limit.release()
        if self._sandbox_limit is not None:
            self._sandbox_limit.release()
        if self._kept is not None:
            self._kept.release()
        self._body = self._kept = None  # they hold the exchange: a ring, and work for the collector at every body
        record = exchange_record(self, outcome, seconds)
        parts.audit.record(record)
        if self.code is not None:
            parts.metrics.denied(self.code.wire)
            parts.denials.note(record, self.denied)
        if self.capture is not None:
            self.capture.finished(self, record)
        self.stream.exchange_finished(self)

    def _capture_head(self, capture: "Capture") -> None:
        table, upstream = self.table, self._upstream
        assert table is not None, "admission came before"
        assert upstream is not None, "classification came before"
        sent = SentHead(table, self.injection, self.head, upstream, self.path, self._query, self._upgrade)
        capture.request_sent(sent)

    def _log_upstream(self, detail: str) -> None:
        where = None if self._upstream is None else self._upstream.destination.host_port
        _log.info("upstream_failed", request_id=self.request_id, upstream=where, detail=detail)

    @property
    def request_id(self) -> str:
        """The id that the audit record, the log and a problem share; made when first asked for."""
        if not self._request_id:
            self._request_id = self.parts.next_request_id()
        return self._request_id

    def __repr__(self) -> str:
        state = "finished" if self._is_finished else "new" if self._answer is None else "sent"
        return f"<Exchange {self.head.method} {self.decision or 'undecided'} {state}>"
