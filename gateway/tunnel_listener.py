"""The tunnel listener: one request head, a token, and then the transport belongs to a tunnel.

An accepted socket is a ServedStream whose doorman is an Arrival, so limits, timeouts and refusals are those of every
other listener. Nothing is proxied here. A renewal token is exchanged before anything is answered (contracts section 3).
"""

import asyncio
import hashlib
import ssl
from typing import Final, cast

import structlog

from gateway.core.authority import Refused, invalid
from gateway.core.decision import Deny, Mode
from gateway.core.errors import gateway_is_full
from gateway.not_yet import NotYet
from gateway.open_streams import OpenStream
from gateway.parts import GatewayParts
from gateway.renewal import RenewedTokens, TokenRenewalError
from gateway.stream import ServedStream
from gateway.tunnel_host import TunnelHost, verify_renewed
from gateway.tunnel_stream import SOURCE
from sallyport.claims import Claims, TokenError, TokenFault
from sallyport.net.clock import NEVER
from sallyport.net.tls import HANDSHAKE_BYTES, TlsTransport
from sallyport.net.websocket_upgrade import accept_upgrade
from sallyport.problem import Code
from sallyport.wire.client_hello import parse_client_hello
from sallyport.wire.compact_token import bearer_token
from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.answers import plain_answer
from sallyport.wire.http1.codec import parse_request
from sallyport.wire.http1.head import RequestHead

_log = structlog.get_logger(__name__)

# A sandboxd that was refused for a passing reason comes back by its own backoff; this is the least it waits.
RETRY_AFTER_SECONDS: Final = 5

_NOT_A_PROXY: Final = "this listener answers GET /v1/tunnel and GET /healthz, and proxies nothing"


class TunnelDoorman:
    """Accept the sockets of the tunnel listener; with a server context they speak TLS."""

    def __init__(self, parts: GatewayParts, tls: ssl.SSLContext | None) -> None:
        self._parts = parts
        self._tls = tls

    def accept(self) -> asyncio.Protocol:
        """Make the protocol of an accepted socket."""
        arrival = Arrival(self._parts)
        stream = ServedStream(
            self._parts, mode=Mode.PLAIN, source=SOURCE, doorman=arrival, read_head=_read_request_for_us
        )
        return stream if self._tls is None else Handshake(self._parts, stream, self._tls)


class Handshake(asyncio.Protocol, OpenStream):
    """An accepted socket whose TLS is not up yet; the stream inside takes its place.

    OpenSSL makes room for as long a ClientHello as a client claims to send, so it is given none before it is whole.
    """

    __slots__ = (
        "_buffer",
        "_context",
        "_is_begun",
        "_is_over",
        "_parts",
        "_stream",
        "_transport",
        "claims",
        "deadline_at",
        "filed_at",
    )

    def __init__(self, parts: GatewayParts, stream: ServedStream, context: ssl.SSLContext) -> None:
        self._parts = parts
        self._stream = stream
        self._context = context
        self._buffer = b""
        self._is_begun = False
        self._is_over = False
        self.claims: Claims | None = None
        self.deadline_at = self.filed_at = NEVER

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Await the ClientHello; a handshake has as long as any other. Once TLS is up, the stream inside takes over."""
        parts = self._parts
        if isinstance(transport, TlsTransport):
            self._handshake_ended(None)  # before the stream is counted: one socket makes room once
            transport.set_protocol(self._stream)
            self._stream.connection_made(transport)
            return
        # uvloop's transports do not inherit from asyncio.Transport.
        self._transport = cast(asyncio.Transport, transport)
        if parts.streams.admitted >= parts.limits.open_streams or parts.sheds(None):
            self._is_over = True
            self._transport.abort()  # nothing can be said before there is TLS
            return
        parts.streams.add_anonymous(self)
        parts.clock.watch(self, parts.clock.now + parts.timeouts.handshake)

    def data_received(self, data: bytes) -> None:
        """Collect the ClientHello, and begin TLS once it is whole; one that is none, or too long, ends here."""
        self._buffer += data
        try:
            hello = parse_client_hello(self._buffer)
        except RemoteProtocolError as error:
            self._handshake_ended(error)
            return
        if hello is None:
            return
        if self._parts.sheds(None):
            self.abort()  # what came while there was room is not begun without
            return
        tls = TlsTransport(
            self._transport,
            self,
            self._context,
            server_side=True,
            on_handshake=self._handshake_ended,
            turns=self._parts.upstreams.turns,
        )
        buffer, self._buffer = self._buffer, b""
        self._is_begun = True
        tls.start(buffer)

    def connection_lost(self, error: Exception | None) -> None:
        """The client has gone before it said hello."""
        self._handshake_ended(error)

    @property
    def held_bytes(self) -> int:
        """What has come of the ClientHello, and then what OpenSSL makes of it."""
        return HANDSHAKE_BYTES if self._is_begun else len(self._buffer)

    def _handshake_ended(self, error: Exception | None) -> None:
        if self._is_over:
            return
        self._is_over = True
        self.deadline_at = NEVER
        self._parts.streams.remove(self)
        if error is not None:
            _log.info("tunnel_handshake_failed", detail=str(error))
            self._transport.close()

    def expire(self) -> None:
        """The handshake took too long."""
        self.abort()

    def drain(self) -> bool:
        """Nothing has been asked yet, so nothing is lost."""
        return True

    def close(self) -> None:
        """Close now: nothing here ends in any better order."""
        self.abort()

    def abort(self) -> None:
        """Close now."""
        self._transport.abort()
        self._handshake_ended(None)


class Arrival:
    """The doorman of one accepted socket: it becomes a tunnel, or is refused."""

    __slots__ = ("_is_exchanging", "_outcome", "_parts")

    def __init__(self, parts: GatewayParts) -> None:
        self._parts = parts
        self._is_exchanging = False
        self._outcome: tuple[Claims, RenewedTokens, str] | Deny | None = None  # of an exchange, once it is over

    def connect(self, stream: ServedStream, head: RequestHead, rest: bytes) -> None:
        """Refuse."""
        raise invalid(_NOT_A_PROXY)

    def answer(self, stream: ServedStream, head: RequestHead) -> bytes:
        """Answer `/healthz`, or make the stream a tunnel; raises Refused, and NotYet while a token is exchanged."""
        if head.method != "GET" or head.target not in (b"/healthz", b"/v1/tunnel"):
            raise invalid(_NOT_A_PROXY)
        if head.target == b"/healthz":
            return plain_answer(200, "text/plain", b"ok\n", close=stream.ends_after(head))
        try:
            upgrade = accept_upgrade(head)
        except RemoteProtocolError as error:
            raise invalid(f"this is no opening of a tunnel: {error.reason}") from None
        claims, renewed, request_id = self._admit(stream, head)
        table = self._parts.plans.loaded(claims.sandbox_id)
        if table is not None and table.organization_id != claims.organization_id:
            raise Refused(_unauthorized("the token is not of the organization that the sandbox's plan is of"))
        early = stream.take_buffer()
        transport = stream.detach()
        stream.forget()
        transport.write(upgrade)
        TunnelHost(self._parts, claims).start(transport, early, renewed, request_id)
        return b""

    def _admit(self, stream: ServedStream, head: RequestHead) -> tuple[Claims, RenewedTokens | None, str]:
        """Say whose tunnel this is, and what a renewal token was exchanged for; raises Refused or NotYet.

        While it is exchanged the socket is its sandbox's: what a token has been shown for makes no room for others.
        """
        parts, outcome = self._parts, self._outcome
        if parts.is_draining:
            raise Refused(_come_back(Code.DRAINING, "the gateway is going away"))
        if isinstance(outcome, Deny):
            raise Refused(outcome)
        if outcome is not None:
            return outcome
        in_time = _come_back(Code.OVERLOADED, "the token was not renewed in time")
        if self._is_exchanging:
            raise Refused(in_time)  # a plan of another organization has come meanwhile
        token = _token(head)
        try:
            claims = parts.tunnel_tokens.verify(token, parts.clock.wall)
            if parts.streams.admitted >= parts.limits.open_streams:
                raise Refused(gateway_is_full())
            return claims, None, ""
        except TokenError as error:
            if error.reason is not TokenFault.WRONG_AUDIENCE or parts.renewals is None:
                raise Refused(_unauthorized(f"the token is refused: {error.reason.value}")) from None
        try:
            claims = parts.renewal_tokens.verify(token, parts.clock.wall)
        except TokenError as error:
            raise Refused(_unauthorized(f"the token is refused: {error.reason.value}")) from None
        stream.be_of(claims)
        self._is_exchanging = True
        raise NotYet(self._exchange(claims, token), in_time)

    async def _exchange(self, claims: Claims, token: str) -> None:
        """Give the renewal token for a tunnel token, and keep what came of it."""
        parts = self._parts
        assert parts.renewals is not None, "_admit has looked"
        # The same token makes the same request, wherever it is presented again: then an answer that was lost on its
        # way to sandboxd is given once more, instead of looking like a stolen token that is used twice.
        request_id = f"ren_{hashlib.sha256(token.encode()).hexdigest()[:32]}"
        try:
            renewed = await parts.renewals.renew(claims.sandbox_id, request_id, token, claims.lineage)
            self._outcome = verify_renewed(parts, renewed, claims), renewed, request_id
        except TokenRenewalError as error:
            _log.warning("tunnel_not_renewed", sandbox_id=claims.sandbox_id, code=error.code)
            temporary = _come_back(Code.OVERLOADED, "the token cannot be renewed now")
            self._outcome = temporary if error.temporary else _unauthorized("the renewal token is refused")


def _read_request_for_us(block: bytes) -> RequestHead:
    head = parse_request(block)
    if not head.target.startswith(b"/"):
        raise RemoteProtocolError(_NOT_A_PROXY)
    return head


def _token(head: RequestHead) -> str:
    values = [
        line.partition(b":")[2].strip(b" \t")
        for name, line in zip(head.names, head.lines, strict=True)
        if name == b"authorization"
    ]
    if len(values) > 1:
        raise invalid("the token is given more than once")
    try:
        token = bearer_token(values[0]) if values else None
    except TokenError as error:
        raise Refused(_unauthorized(f"the token is refused: {error.reason.value}")) from None
    if token is None:
        raise Refused(_unauthorized("the request carries no token"))
    return token


def _unauthorized(detail: str) -> Deny:
    hint = "send the sandbox's tunnel token as Authorization: Bearer"
    return Deny(code=Code.AUTHENTICATION_REQUIRED, detail=detail, hint=hint)


def _come_back(code: Code, detail: str) -> Deny:
    return Deny(code=code, detail=detail, retry_after_seconds=RETRY_AFTER_SECONDS)
