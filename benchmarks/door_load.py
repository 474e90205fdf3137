"""The load of the rows by a door: keep-alive links, by CONNECT or straight to a port, with TLS or as bare bytes.

Non-blocking sockets under epoll and OpenSSL's own reads and writes: half of what TLS by an event loop costs. Where
every request is to come on a connection of its own, `cold_load.py` carries it.
"""

import socket
import ssl
from collections.abc import Sequence

from benchmarks.answers import Answers, LoadError
from benchmarks.cold_load import ColdWays
from benchmarks.door_order import CONNECTED, DoorOrder, connect_request
from benchmarks.load import Tally
from benchmarks.pace import Pace, Poller, measure, measure_once, obey

_CONNECT_SECONDS = 10.0
_READ_BYTES = 64 * 1024
_BULK_READ_BYTES = 1024 * 1024


class DoorWays:
    """The links of one measurement."""

    def __init__(self, order: DoorOrder) -> None:
        self.count = order.links
        self._request = order.request.encode("latin-1")
        self._context = order.context()
        self._answers = [Answers(order.answer_bytes) for _ in range(order.links)]
        self._links: list[socket.socket] = []
        self._numbers: dict[int, int] = {}
        self._poller = Poller()

    def connect(self, order: DoorOrder) -> None:
        """Open every link: CONNECT where one is asked for, then TLS where it is."""
        for number in range(order.links):
            link = socket.create_connection(("127.0.0.1", order.port), _CONNECT_SECONDS)
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if order.authority:
                _ask_connect(link, order)
            if self._context is not None:
                link = self._context.wrap_socket(link, server_hostname=order.host)
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
            data = _read(self._links[number])
            if data is None:
                continue
            if not data:
                raise LoadError("a link was closed")
            if self._answers[number].feed(data):
                done.append(number)
        return done

    def close(self) -> None:
        for link in self._links:
            link.close()
        self._poller.close()


def _read(link: socket.socket) -> bytes | None:
    """Return what is there, or None where that is a session ticket or a part of a record alone."""
    if not isinstance(link, ssl.SSLSocket):
        return link.recv(_BULK_READ_BYTES)
    try:
        data = link.recv(_READ_BYTES)
        while link.pending():
            data += link.recv(_READ_BYTES)
    except ssl.SSLWantReadError:
        return None
    return data


def _ask_connect(link: socket.socket, order: DoorOrder) -> None:
    link.sendall(connect_request(order))
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        more = link.recv(_READ_BYTES)
        if not more:
            raise LoadError(f"the CONNECT was not answered: {data[:300]!r}")
        data += more
    if not data.startswith(CONNECTED):
        raise LoadError(f"the CONNECT was refused: {data[:300]!r}")


def carry_out(document: dict[str, object]) -> Tally:
    """Measure as ordered; raises LoadError or OSError."""
    pace = Pace(**document.pop("pace"))  # type: ignore[arg-type]  # asdict() of a Pace
    order = DoorOrder(pace=pace, **document)  # type: ignore[arg-type]  # asdict() of the rest
    if order.cold:
        cold = ColdWays(order)
        try:
            return measure(cold, pace)
        finally:
            cold.close()
    ways = DoorWays(order)
    try:
        ways.connect(order)
        return measure_once(ways, pace) if order.at_once else measure(ways, pace)
    finally:
        ways.close()


if __name__ == "__main__":
    obey(carry_out)
