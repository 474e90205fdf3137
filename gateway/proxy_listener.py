"""The explicit proxy listener: what is for the gateway itself is answered here, and a CONNECT is admitted or refused.

An accepted socket is a ServedStream in PLAIN mode with this module as its doorman. An admitted CONNECT takes the
transport away from it: Interception ends TLS and begins a new ServedStream inside; Passthrough dials and relays.
"""

import asyncio
from typing import Final

import structlog

from gateway.connect import admit_connect
from gateway.core.authority import Refused, invalid
from gateway.core.classify import admit
from gateway.core.decision import Deny, Mode
from gateway.interception import Interception
from gateway.not_yet import NotYet
from gateway.parts import GatewayParts
from gateway.passthrough import Passthrough
from gateway.stream import ServedStream
from sallyport.net.interception import InterceptionError
from sallyport.problem import Code
from sallyport.wire.http1.answers import plain_answer
from sallyport.wire.http1.head import RequestHead

_log = structlog.get_logger(__name__)

SOURCE: Final = "explicit"


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
            return plain_answer(200, "text/plain", b"ok\n", close=stream.ends_after(head))
        if head.proxy_authorization is None:
            # Asked directly, the gateway is no proxy to the client: then its token stands where any server's does.
            head.proxy_authorization = _authorization(head)
        claims = stream.check_token(head)
        wanted = self._parts.authorities.want(claims.sandbox_id, self._parts.clock.wall)
        if wanted is not None:
            raise NotYet(wanted, _interception_unavailable())
        try:
            authority = self._parts.authorities.authority(claims.sandbox_id, self._parts.clock.wall)
        except InterceptionError as error:
            _log.error("interception_ca_unusable", detail=str(error))
            raise Refused(_interception_unavailable()) from None
        close = stream.ends_after(head)
        return plain_answer(200, "application/x-pem-file", authority.certificate_pem, close=close)

    def connect(self, stream: ServedStream, head: RequestHead, rest: bytes) -> None:
        """Admit a CONNECT, once, and take its transport over, or refuse it."""
        parts = self._parts
        admitted = admit_connect(
            stream, head, lambda table, asked: admit(table, asked.host, asked.port, parts.passthrough_hosts)
        )
        if admitted is None:
            return
        transport = stream.detach()
        stream.forget()
        taker = Interception if admitted.mode is Mode.INTERCEPTED else Passthrough
        taker(
            parts,
            transport,
            source=SOURCE,
            claims=admitted.claims,
            destination=admitted.destination,
            table=admitted.table,
        ).start(rest)


def _authorization(head: RequestHead) -> bytes | None:
    for name, line in zip(head.names, head.lines, strict=True):
        if name == b"authorization":
            return line.partition(b":")[2].strip(b" \t")
    return None


def _interception_unavailable() -> Deny:
    return Deny(code=Code.OVERLOADED, detail="the sandbox's CA cannot be had now", retry_after_seconds=5)
