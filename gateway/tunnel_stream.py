"""A stream that a sandboxd opened in its tunnel: what it declares decides what follows its first head.

It is a ServedStream like one of the explicit listener, admitted by the tunnel's claims. From its CONNECT on the same
machinery carries it: requests in the clear, because sandboxd has ended TLS, or opaque bytes.
"""

from typing import Final

from gateway.connect import admit_connect
from gateway.core.authority import invalid
from gateway.core.classify import admit_declared
from gateway.core.decision import Mode
from gateway.core.declaration import Declaration, take_declaration
from gateway.parts import GatewayParts
from gateway.passthrough import Passthrough
from gateway.stream import ServedStream
from sallyport.claims import Claims
from sallyport.destination import Destination
from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.answers import ESTABLISHED
from sallyport.wire.http1.codec import RequestReader, parse_request
from sallyport.wire.http1.head import RequestHead

SOURCE: Final = "tunnel"


class StreamDoorman:
    """Reads the heads of one stream of a tunnel: the first declares, every later one is like any other."""

    __slots__ = ("_declared", "_parts", "_reader")

    def __init__(self, parts: GatewayParts) -> None:
        self._parts = parts
        self._declared: Declaration | None = None
        self._reader = RequestReader()

    def serve(self, claims: Claims) -> ServedStream:
        """Make the protocol of a stream that has just been opened."""
        return ServedStream(
            self._parts, mode=Mode.PLAIN, source=SOURCE, claims=claims, doorman=self, read_head=self.read_head
        )

    def read_head(self, block: bytes) -> RequestHead:
        """Read a head; raises RemoteProtocolError also for a first one that does not do what it declares."""
        if self._declared is not None:
            head = self._reader.read(block)
            if head.method == "CONNECT":
                raise RemoteProtocolError("CONNECT inside a stream")
            return head
        self._declared, block = take_declaration(block)
        head = parse_request(block)
        if (head.method == "CONNECT") is (self._declared.mode is Mode.PLAIN):
            raise RemoteProtocolError("a CONNECT declares intercepted or passthrough, any other request plain")
        return head

    def answer(self, stream: ServedStream, head: RequestHead) -> bytes:
        """Refuse: inside a tunnel nothing is for the gateway itself."""
        raise invalid("a proxy request has an absolute URL as its target")

    def connect(self, stream: ServedStream, head: RequestHead, rest: bytes) -> None:
        """Admit the CONNECT that the stream began with, or refuse it; sandboxd reads exactly one answer."""
        parts, declared = self._parts, self._declared
        assert declared is not None, "read_head() came before"
        admitted = admit_connect(
            stream, head, lambda table, asked: admit_declared(table, asked.host, asked.port, declared)
        )
        if admitted is None:
            return
        transport = stream.detach()
        stream.forget()
        _, claims, destination, table = admitted
        if admitted.mode is Mode.PASSTHROUGH:
            passthrough = Passthrough(
                parts, transport, source=SOURCE, claims=claims, destination=destination, table=table
            )
            passthrough.start(rest)
            return
        if declared.is_cleartext:
            destination = Destination("http", destination.host, destination.port)
        inside = ServedStream(parts, mode=Mode.INTERCEPTED, source=SOURCE, destination=destination, claims=claims)
        transport.set_protocol(inside)
        transport.write(ESTABLISHED)
        inside.connection_made(transport)
        if rest:
            inside.data_received(rest)
