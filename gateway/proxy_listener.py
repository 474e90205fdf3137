"""The explicit proxy listener: what is for the gateway itself is answered here, and a CONNECT is admitted or refused.

An accepted socket is a ServedStream in PLAIN mode with this module as its doorman. An admitted CONNECT takes the
transport away from it: Interception ends TLS and begins a new ServedStream inside; Passthrough dials and relays.
"""

import asyncio
from typing import Final

import structlog

from gateway.core.authority import Refused, invalid, read_connect_destination
from gateway.core.classify import admit
from gateway.core.decision import Deny, Mode
from gateway.core.errors import no_plan, plain_answer
from gateway.core.route_table import RouteTable
from gateway.interception import Interception
from gateway.parts import GatewayParts
from gateway.passthrough import Passthrough
from gateway.stream import ServedStream
from sallyport.destination import Destination
from sallyport.host import HostError, split_authority
from sallyport.net.interception import InterceptionError
from sallyport.problem import Code
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
        destination: Destination | None = None
        table: RouteTable | None = None
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
            stream.refuse(refused.deny, head, destination=destination, table=table)
            return
        transport = stream.detach()
        stream.forget()
        taker = Interception if admission is Mode.INTERCEPTED else Passthrough
        taker(parts, transport, source=SOURCE, claims=claims, destination=destination, table=table).start(rest)


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
