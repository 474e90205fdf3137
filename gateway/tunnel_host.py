"""The gateway's side of one tunnel: its streams get served, its token renewed, its sandboxd told what to intercept.

In time order: start, what is said at the beginning, streams and control messages as they come, the token's end, the
end. What the bytes on the wire are is sallyport.net.tunnel's business.
"""

import asyncio
import math
from collections.abc import Awaitable, Mapping
from typing import Final

import structlog

from gateway.core.managed_set import interception_sets
from gateway.open_streams import OpenStream
from gateway.parts import GatewayParts
from gateway.renewal import RenewedTokens, TokenRenewalError
from gateway.tunnel_stream import StreamDoorman
from sallyport.claims import MAX_TEXT_LENGTH, Claims, TokenError
from sallyport.json_object import json_object
from sallyport.net.buffer_budget import BufferBudget
from sallyport.net.clock import NEVER
from sallyport.net.tunnel import Tunnel
from sallyport.net.tunnel_stream import TunnelStream
from sallyport.wire.websocket import DRAINING, EXPIRED, PROTOCOL, REPLACED, REVOKED

_log = structlog.get_logger(__name__)

# Codes of token.error that are this gateway's own; the others are the control plane's.
NOT_CONFIGURED: Final = "renewal_not_configured"
BUSY: Final = "renewal_under_way"
NOT_USABLE: Final = "renewed_token_refused"


class TunnelHost(OpenStream):
    """One tunnel. It ends with its token: what renews the token extends the tunnel and every stream in it."""

    __slots__ = (
        "_answered",
        "_drain_half_at",
        "_parts",
        "_renewing",
        "_share",
        "_task",
        "claims",
        "deadline_at",
        "epoch",
        "filed_at",
        "is_draining",
        "sandbox_id",
        "setup_status",
        "tunnel",
    )

    claims: Claims
    is_of_sandbox = False

    def __init__(self, parts: GatewayParts, claims: Claims) -> None:
        self._parts = parts
        self.claims = claims
        self.sandbox_id = claims.sandbox_id
        # Among the tunnels of a sandbox on all gateways the newest counts: the clocks of gateways agree well enough.
        self.epoch = int((parts.clock.wall + parts.loop.time() - parts.clock.now) * 1000)
        self.is_draining = False
        self.setup_status: Mapping[str, object] | None = None
        self.deadline_at = self.filed_at = NEVER
        self._drain_half_at = NEVER
        self._renewing: str | None = None
        self._answered: dict[str, object] = {}
        self._task: asyncio.Task[None] | None = None
        self._share = BufferBudget(parts.limits.sandbox_buffer_bytes, parts.tunnel_buffers)
        pace = parts.tunnels.paces.enter((claims.organization_id, claims.sandbox_id), parts.clock.now)
        self.tunnel = Tunnel(self, is_client=False, clock=parts.clock, budget=self._share, pace=pace)

    # The beginning ----------------------------------------------------------------------------------

    def start(self, transport: asyncio.Transport, early: bytes, renewed: RenewedTokens | None, request_id: str) -> None:
        """Take over the transport of an upgrade that was answered; renewed is what a renewal token was given for."""
        parts = self._parts
        parts.streams.add(self)
        parts.streams.claim(self, None, self.claims)
        parts.tunnels.add(self)
        self._watch_expiry()
        _log.info("tunnel_opened", sandbox_id=self.sandbox_id, epoch=self.epoch)
        self.tunnel.start(transport, early)
        if renewed is not None and self.tunnel.is_open:
            self.tunnel.send_control(renewed.response(request_id))
        self.announce_set()
        wanted = None if parts.plans.table(self.sandbox_id) is not None else parts.plans.want(self.sandbox_id)
        if wanted is not None:
            parts.tasks.spawn(_wait_for(wanted), name="plan of a new tunnel")

    def announce_set(self) -> None:
        """Say what is to be intercepted, where the sandbox has a plan; without one sandboxd waits."""
        # A plan that is withheld lets no request pass, but what it manages is still the best there is to say.
        table = self._parts.plans.loaded(self.sandbox_id)
        if table is None or not self.tunnel.is_open:
            return
        for message in interception_sets(table):
            self.tunnel.send_control(message)

    # While it is open -------------------------------------------------------------------------------

    def stream_opened(self, stream: TunnelStream) -> asyncio.Protocol:
        """Serve a stream that sandboxd opened."""
        return StreamDoorman(self._parts).serve(self.claims)

    def control_received(self, text: bytes) -> None:
        """Act on one control message; what is none ends the tunnel."""
        try:
            message = json_object(text)
            self._act_on(message)
        except ValueError as error:
            _log.warning("tunnel_control_refused", sandbox_id=self.sandbox_id, detail=str(error))
            self.tunnel.close(PROTOCOL, "a control message that is none")

    def _act_on(self, message: dict[str, object]) -> None:
        match message.get("type"):
            case "ready":
                _log.info("sandbox_ready", sandbox_id=self.sandbox_id)
            case "token.request":
                self._token_requested(_request_id(message))
            case "setup.status":
                self.setup_status = {name: value for name, value in message.items() if name != "type"}
            case _:
                raise ValueError("the type is not one of ready, token.request, setup.status")

    # The token --------------------------------------------------------------------------------------

    def _token_requested(self, request_id: str) -> None:
        """Ask for a new token, one at a time; a request that was answered is answered alike (its answer was lost)."""
        if self._answered.get("requestId") == request_id:
            self.tunnel.send_control(self._answered)
        elif self._parts.renewals is None:
            self._refuse_token(request_id, NOT_CONFIGURED, retryable=False)
        elif self._renewing is None:
            self._renewing = request_id
            self._task = self._parts.tasks.spawn(self._renew(request_id), name="token renewal")
        elif self._renewing != request_id:
            self._refuse_token(request_id, BUSY, retryable=True)

    async def _renew(self, request_id: str) -> None:
        parts = self._parts
        assert parts.renewals is not None, "_token_requested has looked"
        try:
            renewed = await parts.renewals.renew(self.sandbox_id, request_id, None, self.claims.lineage)
            claims = verify_renewed(parts, renewed, self.claims)
        except TokenRenewalError as error:
            self._refuse_token(request_id, error.code, retryable=error.temporary)
        else:
            self._extend(claims)
            self._answered = renewed.response(request_id)
            if self.tunnel.is_open:
                self.tunnel.send_control(self._answered)
        finally:
            self._renewing = None

    def _refuse_token(self, request_id: str, code: str, *, retryable: bool) -> None:
        _log.warning("token_not_renewed", sandbox_id=self.sandbox_id, code=code, retryable=retryable)
        if self.tunnel.is_open:
            answer = {"type": "token.error", "requestId": request_id, "code": code, "retryable": retryable}
            self.tunnel.send_control(answer)

    def _extend(self, claims: Claims) -> None:
        """The tunnel, and every stream in it, lives on by the new token."""
        before = self.claims
        for stream in self._parts.streams.of_sandbox(self.sandbox_id):
            if stream.claims is before:
                stream.claims = claims  # type: ignore[misc]  # every stream has a slot of this name
        self._watch_expiry()

    def _watch_expiry(self) -> None:
        clock = self._parts.clock
        clock.watch(self, clock.now + max(0.0, self.claims.expires_at - clock.wall))

    def expire(self) -> None:
        """The token has run out, unless the machine's clock was set back meanwhile."""
        if self.claims.expires_at > self._parts.clock.wall:
            self._watch_expiry()
        else:
            self.tunnel.close(EXPIRED, "the token has expired")

    # The end ----------------------------------------------------------------------------------------

    def drain(self) -> bool:
        """Tell sandboxd to go elsewhere, which it does in the first half of the time; then an idle tunnel may close."""
        parts = self._parts
        if not self.is_draining:
            self.is_draining = True
            self._drain_half_at = parts.loop.time() + parts.timeouts.drain / 2
            if self.tunnel.is_open:
                self.tunnel.send_control({"type": "drain", "deadlineSeconds": math.ceil(parts.timeouts.drain)})
        return self.tunnel.stream_count == 0 and parts.loop.time() >= self._drain_half_at

    def close(self) -> None:
        """Close as one that has drained."""
        self.tunnel.close(DRAINING, "the gateway drains")

    def give_way(self) -> None:
        """Close: a newer tunnel of this sandbox has come."""
        # One that drains is left alone: its sandboxd has opened the newer one itself, and finishes what is open here.
        if not self.is_draining:
            self.tunnel.close(REPLACED, "a newer tunnel of this sandbox has come")
            # Its end takes a while: one sandbox's tunnels, one after the other, would fill the gateway.
            self._parts.streams.disown(self, self.claims)

    def revoke(self) -> None:
        """Close, and tell sandboxd not to come back."""
        self.tunnel.close(REVOKED, "revoked")

    def abort(self) -> None:
        """Close now."""
        self.tunnel.abort()

    @property
    def held_bytes(self) -> int:
        """What its streams have received and not taken; what was written to them is counted for each."""
        return self._share.held

    def shed(self) -> int:
        """Reset every stream that has something to take; the tunnel goes on."""
        ended = 0
        while self._share.held:
            self._share.evict()
            ended += 1
        return ended

    def tunnel_lost(self, code: int | None, reason: str) -> None:
        """The tunnel is gone, and its streams with it."""
        self.deadline_at = NEVER
        if self._task is not None:
            self._task.cancel()
        self._share.close()
        self._parts.tunnels.paces.leave((self.claims.organization_id, self.sandbox_id), self._parts.clock.now)
        self._parts.streams.remove(self)
        self._parts.tunnels.remove(self)
        _log.info("tunnel_lost", sandbox_id=self.sandbox_id, code=code, reason=reason)

    def __repr__(self) -> str:
        return f"<TunnelHost of {self.sandbox_id}: {self.tunnel!r}>"


def verify_renewed(parts: GatewayParts, renewed: RenewedTokens, before: Claims) -> Claims:
    """Return the claims of a renewed token; raises TokenRenewalError unless it is good and of the same sandbox."""
    try:
        claims = parts.tunnel_tokens.verify(renewed.token, parts.clock.wall)
    except TokenError as error:
        _log.error("renewed_token_refused", sandbox_id=before.sandbox_id, reason=error.reason.value)
        raise TokenRenewalError(NOT_USABLE, temporary=False) from None
    if (claims.sandbox_id, claims.organization_id) != (before.sandbox_id, before.organization_id):
        _log.error("renewed_token_of_another_sandbox", sandbox_id=before.sandbox_id)
        raise TokenRenewalError(NOT_USABLE, temporary=False)
    return claims


async def _wait_for(wanted: Awaitable[object]) -> None:
    """Let what was wanted come; plan_changed() tells the tunnel of it."""
    await wanted


def _request_id(message: dict[str, object]) -> str:
    request_id = message.get("requestId")
    if not isinstance(request_id, str) or not 0 < len(request_id) <= MAX_TEXT_LENGTH or not request_id.isprintable():
        raise ValueError("requestId is no short text")
    return request_id
