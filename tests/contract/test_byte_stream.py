"""One contract for every transport of the data path, on both event loops."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path

import pytest
import uvloop

from sallyport.net.memory import memory_pair
from tests.support.transports import End, TlsTrust, tcp_pair, tls_pair
from tests.support.tunnels import tunnel_stream_pair

type Join = Callable[[End, End], Awaitable[None]]
type Run = Callable[[Callable[[Join], Coroutine[object, object, None]]], None]

BLOCK = bytes(range(256)) * 256  # 64 KiB
# More than both kernels' socket buffers of a loopback connection can grow to.
MOST_BLOCKS = 400


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> TlsTrust:
    return TlsTrust(Path(tmp_path_factory.mktemp("ca")) / "ca")


async def join_by_memory(a: End, b: End) -> None:
    memory_pair(asyncio.get_running_loop(), a, b)


@pytest.fixture(params=["tcp", "memory", "tls-tcp", "tls-memory", "tunnel"])
def join(request: pytest.FixtureRequest, trust: TlsTrust) -> Join:
    joins: dict[str, Join] = {
        "tcp": tcp_pair,
        "memory": join_by_memory,
        "tls-tcp": lambda a, b: tls_pair(a, b, trust, over_tcp=True),
        "tls-memory": lambda a, b: tls_pair(a, b, trust, over_tcp=False),
        "tunnel": tunnel_stream_pair,
    }
    return joins[request.param]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest, join: Join) -> Run:
    def run_on_loop(check: Callable[[Join], Coroutine[object, object, None]]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(_checked(check, join))

    return run_on_loop


async def _checked(check: Callable[[Join], Coroutine[object, object, None]], join: Join) -> None:
    """Check, and have every transport told of its end: a loop does not close under one that is still closing."""
    ends: list[End] = []

    async def joined(a: End, b: End) -> None:
        ends.extend((a, b))
        await join(a, b)

    await check(joined)
    for end in ends:
        end.transport.abort()
    for end in ends:
        await end.until_event("lost")


def test_bytes_arrive_once_and_in_order_both_ways(run: Run) -> None:
    async def check(join: Join) -> None:
        a, b = End(), End()
        await join(a, b)
        sent = bytearray()
        for size in (1, 0, 2, 300, 16_384, 16_385, 65_536, 70_000, 300_000):
            piece = (BLOCK * 5)[size % 251 :][:size]
            a.transport.write(piece)
            b.transport.writelines([piece[:7], memoryview(piece)[7:]])
            sent += piece
        await a.until_received(bytes(sent))
        await b.until_received(bytes(sent))
        a.transport.close()
        await b.until_event("lost")

    run(check)


def test_half_close_leaves_the_other_direction_open(run: Run) -> None:
    async def check(join: Join) -> None:
        a, b = End(keeps_half_open=True), End(keeps_half_open=True)
        await join(a, b)
        assert a.transport.can_write_eof()
        a.transport.write(b"question")
        a.transport.write_eof()
        with pytest.raises(RuntimeError):
            a.transport.write(b"too late")
        await b.until_event("eof")
        assert b.received == b"question"
        b.transport.write(BLOCK * 4)
        await a.until_received(BLOCK * 4)
        assert a.events == ["made"]
        b.transport.close()
        await a.until_event("eof")
        a.transport.close()
        await a.until_event("lost")
        await b.until_event("lost")
        assert (a.error, b.error) == (None, None)

    run(check)


def test_end_without_interest_in_half_open_closes_the_stream(run: Run) -> None:
    async def check(join: Join) -> None:
        a, b = End(keeps_half_open=True), End()
        await join(a, b)
        a.transport.write_eof()
        await a.until_event("eof")
        await b.until_event("lost")
        assert b.events == ["made", "eof", "lost"]
        a.transport.close()
        await a.until_event("lost")

    run(check)


def test_close_delivers_everything_written_before(run: Run) -> None:
    async def check(join: Join) -> None:
        a, b = End(), End()
        await join(a, b)
        for _ in range(16):
            a.transport.write(BLOCK)
        a.transport.close()
        assert a.transport.is_closing()
        a.transport.write(b"ignored")
        await b.until_event("lost")
        assert b.received == BLOCK * 16
        assert "eof" in b.events
        await a.until_event("lost")
        assert (a.error, b.error) == (None, None)

    run(check)


def test_paused_reader_stops_the_writer_and_nothing_is_lost(run: Run) -> None:
    async def check(join: Join) -> None:
        a, b = End(), End()
        await join(a, b)
        b.transport.pause_reading()
        blocks = 0
        while a.transport.get_write_buffer_size() <= a.transport.get_write_buffer_limits()[1]:
            a.transport.write(BLOCK)
            blocks += 1
            assert blocks < MOST_BLOCKS
            await asyncio.sleep(0)
        assert a.events[-1] == "pause"
        seen = len(b.received)
        b.transport.resume_reading()
        await a.until(lambda end: end.events.count("pause") == end.events.count("resume"))
        await b.until_received(BLOCK * blocks)
        assert seen < len(BLOCK) * blocks
        a.transport.close()
        await b.until_event("lost")

    run(check)


def test_nothing_more_is_delivered_once_the_reader_has_paused(run: Run) -> None:
    async def check(join: Join) -> None:
        a, b = End(), End(on_data=lambda end: end.transport.pause_reading())
        await join(a, b)
        a.transport.write(BLOCK * 8)
        await b.until(lambda end: end.deliveries == 1)
        for _ in range(20):
            await asyncio.sleep(0)
        assert b.deliveries == 1
        assert not b.transport.is_reading()
        while len(b.received) < len(BLOCK) * 8:
            deliveries = b.deliveries
            b.transport.resume_reading()
            assert b.deliveries == deliveries  # never from inside the call
            await b.until_delivery(deliveries + 1)
            assert b.deliveries == deliveries + 1
        assert b.received == BLOCK * 8
        b.on_data = None
        b.transport.resume_reading()
        a.transport.close()
        await b.until_event("lost")

    run(check)


def test_abort_ends_both_sides(run: Run) -> None:
    async def check(join: Join) -> None:
        a, b = End(), End(keeps_half_open=True)
        await join(a, b)
        b.transport.pause_reading()
        a.transport.write(BLOCK * 100)
        a.transport.abort()
        assert a.transport.is_closing()
        a.transport.write(b"ignored")
        b.transport.resume_reading()
        await a.until_event("lost")
        assert a.events.count("lost") == 1
        await b.until(lambda end: "lost" in end.events or "eof" in end.events)
        assert len(b.received) < len(BLOCK) * 100
        b.transport.abort()
        await b.until_event("lost")

    run(check)


def test_write_buffer_limits_are_the_callers(run: Run) -> None:
    async def check(join: Join) -> None:
        a, b = End(), End()
        await join(a, b)
        a.transport.set_write_buffer_limits(high=1_000_000, low=1_000)
        assert a.transport.get_write_buffer_limits() == (1_000, 1_000_000)
        b.transport.pause_reading()
        a.transport.write(BLOCK * 2)
        assert "pause" not in a.events
        b.transport.resume_reading()
        await b.until_received(BLOCK * 2)
        a.transport.close()
        await b.until_event("lost")

    run(check)
