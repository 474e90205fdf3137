"""The load of the rows with sandboxd: a sandbox process's keep-alive TLS links, by CONNECT or straight to a port.

Non-blocking sockets under epoll and OpenSSL's own reads and writes: half of what TLS by an event loop costs.
"""

import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.answers import Answers, LoadError
from benchmarks.load import Tally
from benchmarks.pace import Pace, Poller, measure, obey

_CONNECT_SECONDS = 10.0
_READ_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsOrder:
    """What to measure. With `authority` each link begins with a CONNECT to it; `request` is Latin-1 text of raw bytes.

    The other end shows a certificate for `host` that `ca_file` vouches for.
    """

    port: int
    authority: str
    host: str
    ca_file: str
    links: int
    request: str
    answer_bytes: int
    pace: Pace


class TlsWays:
    """The links of one measurement."""

    def __init__(self, order: TlsOrder) -> None:
        self.count = order.links
        self._request = order.request.encode("latin-1")
        self._context = ssl.create_default_context(cafile=order.ca_file)
        self._context.set_alpn_protocols(["http/1.1"])
        self._answers = [Answers(order.answer_bytes) for _ in range(order.links)]
        self._links: list[ssl.SSLSocket] = []
        self._numbers: dict[int, int] = {}
        self._poller = Poller()

    def connect(self, order: TlsOrder) -> None:
        """Open every link: CONNECT, then TLS."""
        for number in range(order.links):
            plain = socket.create_connection(("127.0.0.1", order.port), _CONNECT_SECONDS)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if order.authority:
                _ask_connect(plain, order.authority)
            link = self._context.wrap_socket(plain, server_hostname=order.host)
            link.setblocking(False)
            self._links.append(link)
            self._numbers[link.fileno()] = number
            self._poller.add(link.fileno())

    def send(self, way: int) -> None:
        self._links[way].send(self._request)

    def flush(self) -> None:
        """Nothing waits."""

    def poll(self, seconds: float) -> Sequence[int]:
        done = []
        for descriptor, _ in self._poller.poll(seconds):
            number = self._numbers[descriptor]
            link = self._links[number]
            try:
                data = link.recv(_READ_BYTES)
                while link.pending():
                    data += link.recv(_READ_BYTES)
            except ssl.SSLWantReadError:
                continue  # a session ticket, or a part of a record
            if not data:
                raise LoadError("a link was closed")
            if self._answers[number].feed(data):
                done.append(number)
        return done

    def close(self) -> None:
        for link in self._links:
            link.close()
        self._poller.close()


def _ask_connect(plain: socket.socket, authority: str) -> None:
    plain.sendall(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode("ascii"))
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        more = plain.recv(_READ_BYTES)
        if not more:
            raise LoadError(f"the CONNECT was not answered: {data[:300]!r}")
        data += more
    if not data.startswith(b"HTTP/1.1 200 "):
        raise LoadError(f"the CONNECT was refused: {data[:300]!r}")


def carry_out(document: dict[str, object]) -> Tally:
    """Measure as ordered; raises LoadError or OSError."""
    pace = Pace(**document.pop("pace"))  # type: ignore[arg-type]  # asdict() of a Pace
    order = TlsOrder(pace=pace, **document)  # type: ignore[arg-type]  # asdict() of the rest
    ways = TlsWays(order)
    try:
        ways.connect(order)
        return measure(ways, pace)
    finally:
        ways.close()


if __name__ == "__main__":
    obey(carry_out)
