"""A TLS client whose every byte a test sends itself: hellos cut into pieces, sent early, or never finished."""

import ssl

from tests.support.raw_end import RawEnd


def trusting(ca_pem: bytes, *alpn: str) -> ssl.SSLContext:
    """Return a client context that trusts one authority and offers these protocols."""
    context = ssl.create_default_context(cadata=ca_pem.decode("ascii"))
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


class TlsByHand:
    """TLS over a raw end. A server_name of None sends no SNI (the name is then not checked, the chain is)."""

    def __init__(self, context: ssl.SSLContext, server_name: str | None) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        if server_name is None:
            context.check_hostname = False
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)

    def hello(self) -> bytes:
        """Return the ClientHello as it goes on the wire."""
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            pass
        return self._outgoing.read()

    async def finish(self, end: RawEnd) -> None:
        """Do the rest of the handshake; raises ssl.SSLError, with the alert's name, where the peer refuses."""
        while True:
            self._incoming.write(received := await end.some())
            if not received:
                self._incoming.write_eof()
            try:
                self._object.do_handshake()
            except ssl.SSLWantReadError:
                end.send(self._outgoing.read())
                continue
            end.send(self._outgoing.read())
            return

    async def closed(self, end: RawEnd) -> None:
        """Read up to the peer's close_notify; ssl.SSLEOFError where the stream is cut instead."""
        while True:
            try:
                if not self._object.read(64 * 1024):
                    return
            except ssl.SSLWantReadError:
                self._incoming.write(received := await end.some())
                if not received:
                    self._incoming.write_eof()

    @property
    def protocol(self) -> str | None:
        """What ALPN settled."""
        return self._object.selected_alpn_protocol()

    @property
    def certificate(self) -> bytes:
        """The server's leaf, DER."""
        der = self._object.getpeercert(binary_form=True)
        assert der is not None, "the handshake is not over"
        return der

    async def exchange(self, end: RawEnd, request: bytes, until: bytes) -> bytes:
        """Send a request and read until these bytes have come."""
        self._object.write(request)
        end.send(self._outgoing.read())
        received = b""
        while until not in received:
            try:
                received += self._object.read(64 * 1024)
            except ssl.SSLWantReadError:
                data = await end.some()
                assert data, received
                self._incoming.write(data)
        return received
