"""The first bytes of a link."""

from benchmarks.door_order import DoorOrder, connect_request
from benchmarks.pace import Pace

_PACE = Pace(sessions=[], core=0, warm_seconds=0.0, closed_seconds=0.0, open_seconds=0.0, open_rate=1.0)


def _order(token: str) -> DoorOrder:
    return DoorOrder(
        port=1,
        authority="api.bench.test:443",
        token=token,
        host="api.bench.test",
        ca_file="",
        links=1,
        cold=False,
        at_once=False,
        request="",
        answer_bytes=0,
        pace=_PACE,
    )


def test_a_connect_carries_a_token_where_there_is_one() -> None:
    bare = b"CONNECT api.bench.test:443 HTTP/1.1\r\nHost: api.bench.test:443\r\n"
    assert connect_request(_order("")) == bare + b"\r\n"
    assert connect_request(_order("t")) == bare + b"Proxy-Authorization: Bearer t\r\n\r\n"


def test_without_an_authority_s_file_there_is_no_tls() -> None:
    assert _order("").context() is None
