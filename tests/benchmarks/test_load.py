"""The load counts complete, right answers only."""

import asyncio
import time
from typing import cast

import pytest

from benchmarks.load import Load, LoadLink
from benchmarks.workloads.workload import NUMBER

_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbody"


class _Transport:
    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def abort(self) -> None:
        self.aborted = True


def _link(load: Load) -> tuple[LoadLink, _Transport]:
    transport = _Transport()
    link = LoadLink(load)
    link.connection_made(cast(asyncio.Transport, transport))
    return link, transport


def test_closed_loop_sends_the_next_request_after_each_answer() -> None:
    load = Load(b"request", 4)
    link, transport = _link(load)
    link.send()
    link.data_received(_ANSWER)
    link.data_received(_ANSWER)
    assert load.answered == 2
    assert transport.written == [b"request"] * 3


def test_where_requests_are_numbered_no_two_are_alike() -> None:
    load = Load(b"GET /%b?%b" % (NUMBER.encode(), NUMBER.encode()), 4)
    link, transport = _link(load)
    link.send()
    link.data_received(_ANSWER)
    other, other_transport = _link(load)
    other.send()
    assert transport.written == [b"GET /n0000000?n0000000", b"GET /n0000001?n0000001"]
    assert other_transport.written == [b"GET /n0000002?n0000002"]


def test_chunking_does_not_matter() -> None:
    load = Load(b"request", 4)
    link, _ = _link(load)
    for byte in _ANSWER * 3:
        link.data_received(bytes([byte]))
    assert (load.answered, load.failed) == (3, 0)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 4\r\n\r\nbody",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 40\r\n\r\nbody",
        _ANSWER + b"x",
    ],
    ids=["401", "chunked", "other length", "more than the answer"],
)
def test_any_other_answer_is_one_error_and_ends_the_link(answer: bytes) -> None:
    load = Load(b"request", 4)
    link, transport = _link(load)
    link.data_received(answer)
    link.connection_lost(None)
    assert (load.answered, load.failed) == (0, 1)
    assert transport.aborted


def test_a_link_closed_by_the_proxy_is_an_error_and_one_closed_by_us_is_not() -> None:
    load = Load(b"request", 4)
    link, _ = _link(load)
    link.connection_lost(None)
    assert load.failed == 1
    link, _ = _link(load)
    link.abort()
    link.connection_lost(None)
    assert load.failed == 1


def test_open_loop_counts_the_wait_for_a_free_link() -> None:
    load = Load(b"request", 4)
    link, transport = _link(load)
    link.send()
    load.closed_loop = False
    link.data_received(_ANSWER)  # the closed loop's last answer: no latency of the open loop
    assert load.latencies_us == []
    load.arrive()
    load.arrive()  # no link is free
    assert len(load.arrived_at) == 1
    time.sleep(0.002)
    link.data_received(_ANSWER)
    link.data_received(_ANSWER)
    assert len(load.latencies_us) == 2
    assert min(load.latencies_us) >= 2_000
    assert load.idle == [link]
    assert transport.written == [b"request"] * 3
