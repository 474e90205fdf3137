"""The load of the cold rows: for each request a connection, a CONNECT, a TLS handshake, a GET, and the end.

No session is taken up again: every handshake is a whole one.
"""

import socket
import ssl
from collections.abc import Callable, Sequence
from errno import EINPROGRESS

from benchmarks.answers import Answers, LoadError
from benchmarks.door_order import CONNECTED, DoorOrder, connect_request
from benchmarks.pace import Poller

_READ_BYTES = 64 * 1024


class ColdWays:
    """Numbered ways of which each carries one connection at a time."""

    def __init__(self, order: DoorOrder) -> None:
        self.count = order.links
        self.order = order
        self.context = order.context()
        self.poller = Poller()
        self._open: dict[int, tuple[int, _Attempt]] = {}

    def send(self, way: int) -> None:
        """Begin a connection."""
        attempt = _Attempt(self)
        self._open[attempt.descriptor] = way, attempt

    def flush(self) -> None:
        """Nothing waits."""

    def poll(self, seconds: float) -> Sequence[int]:
        done = []
        for descriptor, _ in self.poller.poll(seconds):
            way, attempt = self._open[descriptor]
            if attempt.proceed():
                del self._open[descriptor]
                done.append(way)
        return done

    def close(self) -> None:
        for _, attempt in self._open.values():
            attempt.close()
        self.poller.close()


class _Attempt:
    """One connection from its first packet to the last byte of its answer. `_step` is what it waits to do next."""

    def __init__(self, ways: ColdWays) -> None:
        self._ways = ways
        self._order = ways.order
        self._answer = Answers(ways.order.answer_bytes)
        self._head = b""
        self._link: socket.socket | ssl.SSLSocket = socket.socket()
        self._link.setblocking(False)
        self._link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.descriptor = self._link.fileno()
        if self._link.connect_ex(("127.0.0.1", ways.order.port)) not in (0, EINPROGRESS):
            raise LoadError("a connection was refused")
        ways.poller.add(self.descriptor, writable=True)
        self._step: Callable[[], bool] = self._connected

    def proceed(self) -> bool:
        """Go on as far as the bytes that are there allow; say whether the answer is complete, and the link closed."""
        try:
            is_done = self._step()
        except ssl.SSLWantReadError:
            return False
        except OSError as error:
            raise LoadError(f"a connection failed: {error}") from None
        if is_done:
            self.close()
        return is_done

    def _connected(self) -> bool:
        if error := self._link.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise LoadError(f"a connection was refused: {error}")
        self._ways.poller.await_reading(self.descriptor)
        if not self._order.authority:
            return self._secure()
        self._link.send(connect_request(self._order))
        self._step = self._admitted
        return False

    def _admitted(self) -> bool:
        self._head += self._receive()
        if not self._head.endswith(b"\r\n\r\n"):
            return False
        if not self._head.startswith(CONNECTED):
            raise LoadError(f"the CONNECT was refused: {self._head[:300]!r}")
        return self._secure()

    def _secure(self) -> bool:
        context = self._ways.context
        assert context is not None, "a cold row is one with TLS"
        self._link = context.wrap_socket(
            self._link, server_hostname=self._order.host, do_handshake_on_connect=False, suppress_ragged_eofs=False
        )
        self._step = self._shake
        return self._shake()

    def _shake(self) -> bool:
        assert isinstance(self._link, ssl.SSLSocket), "_secure made it one"
        self._link.do_handshake()
        self._link.send(self._order.request.encode("latin-1"))
        self._step = self._answered
        return False

    def _answered(self) -> bool:
        return self._answer.feed(self._receive())

    def _receive(self) -> bytes:
        data = self._link.recv(_READ_BYTES)
        if not data:
            raise LoadError("a connection was closed")
        while isinstance(self._link, ssl.SSLSocket) and self._link.pending():
            data += self._link.recv(_READ_BYTES)
        return data

    def close(self) -> None:
        self._link.close()
