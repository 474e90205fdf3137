"""Transports in memory for a count, and who is at their other ends: no kernel, no loop, no other process."""

import asyncio
import ssl

from sallyport.net.tls import TlsTransport


class Wire(asyncio.Transport):
    """A transport that keeps what was written last, and delivers nothing by itself."""

    __slots__ = ("has_written", "written")

    def __init__(self) -> None:
        self.written: bytes | bytearray | memoryview = b""
        self.has_written = asyncio.Event()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.written:
            self.has_written.set()
        self.written = data

    def take(self) -> bytes:
        """Take what was written; the next piece counts as the first."""
        taken, self.written = bytes(self.written), b""
        self.has_written.clear()
        return taken

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        pass

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        pass

    def close(self) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class PlainEnd:
    """The other end of a wire that carries bytes as they are."""

    def sealed(self, data: bytes) -> bytes:
        """Return what this end puts on its wire for data."""
        return data

    def opened(self, data: bytes) -> bytes:
        """Return what this end reads in data from its wire."""
        return data


class TlsEnd(PlainEnd):
    """The other end of a wire that carries TLS. What it seals and opens is sealed and opened once, and in order."""

    def __init__(self, context: ssl.SSLContext, *, server_side: bool, server_hostname: str | None = None) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side, server_hostname)

    def shake_hands(self, transport: TlsTransport, wire: Wire) -> None:
        """Begin the handshake on both ends and carry it through; raises ssl.SSLError where they do not agree."""
        transport.start()
        for _ in range(3):  # no handshake has more flights
            self._incoming.write(wire.take())
            try:
                self._object.do_handshake()
            except ssl.SSLWantReadError:
                pass
            flight = self._outgoing.read()
            if flight:
                transport.data_received(flight)
        self.opened(wire.take())

    def sealed(self, data: bytes) -> bytes:
        self._object.write(data)
        return self._outgoing.read()

    def opened(self, data: bytes) -> bytes:
        self._incoming.write(data)
        read = b""
        try:
            while self._incoming.pending or self._object.pending():
                read += self._object.read(16 * 1024)
        except ssl.SSLWantReadError:
            pass  # a ticket stood last, and nothing behind it
        return read
