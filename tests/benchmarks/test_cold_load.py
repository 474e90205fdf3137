"""What a cold connection does where it is not let in; that it is let in is in test_sandbox_side.py."""

import socket
import threading
from pathlib import Path

import pytest

from benchmarks.answers import LoadError
from benchmarks.certificates import make_certificates
from benchmarks.cold_load import ColdWays
from benchmarks.door_order import DoorOrder
from benchmarks.pace import Pace, measure

_PACE = Pace(sessions=[], core=0, warm_seconds=0.01, closed_seconds=0.01, open_seconds=0.01, open_rate=100.0)


def _order(port: int, ca_file: Path) -> DoorOrder:
    return DoorOrder(
        port=port,
        authority="api.bench.test:443",
        token="",
        host="api.bench.test",
        ca_file=str(ca_file),
        links=1,
        cold=True,
        at_once=False,
        request="GET / HTTP/1.1\r\n\r\n",
        answer_bytes=4,
        pace=_PACE,
    )


def _answer_once(listening: socket.socket, answer: bytes) -> None:
    link, _ = listening.accept()
    with link:
        link.recv(4096)
        link.sendall(answer)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "the CONNECT was refused"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "a connection failed"),
        (b"", "a connection was closed"),
    ],
    ids=["refused", "no handshake", "closed"],
)
def test_who_is_not_let_in_says_why(tmp_path: Path, answer: bytes, said: str) -> None:
    ca_file = make_certificates(tmp_path, "api.bench.test", 1_800_000_000.0).ca
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listener = threading.Thread(target=_answer_once, args=(listening, answer))
        listener.start()
        ways = ColdWays(_order(listening.getsockname()[1], ca_file))
        try:
            with pytest.raises(LoadError, match=said):
                measure(ways, _PACE)
        finally:
            ways.close()
            listener.join()
