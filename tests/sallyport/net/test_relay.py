"""Bytes between two transports: both ways, half-close, backpressure, loss of one side, silence."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from sallyport.net.bulk_turns import BULK_BYTES, READ_SECONDS, TIMED_BYTES, TURN_READS, BulkTurns
from sallyport.net.clock import Clock
from sallyport.net.memory import MemoryTransport, memory_pair
from sallyport.net.relay import Filter, Relay, Side
from sallyport.net.tls import unread_bytes
from tests.support.transports import End, TlsTrust, tls_pair
from tests.support.until import until

MIB = 1024 * 1024


class Shout:
    """Upper case on the way down, with the last byte held back."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        data = self._held + data.upper()
        self._held = data[-1:]
        return data[:-1]

    def finish(self) -> bytes:
        held, self._held = self._held, b""
        return held


class Between:
    """A relay with somebody at each side of it."""

    def __init__(
        self, clock: Clock, *, idle_seconds: float = 60.0, through: Filter | None = None, bulk: BulkTurns | None = None
    ) -> None:
        loop = asyncio.get_running_loop()
        self.client, self.origin = End(keeps_half_open=True), End(keeps_half_open=True)
        self.down = memory_pair(loop, self.client, asyncio.Protocol())[1]
        self.up = memory_pair(loop, self.origin, asyncio.Protocol())[1]
        self.ends: list[tuple[int, int]] = []
        self.relay = Relay(
            clock,
            self.down,
            self.up,
            idle_seconds=idle_seconds,
            on_end=lambda up, down: self.ends.append((up, down)),
            filter_down=through,
            bulk=bulk,
        )


@pytest.fixture
async def clock() -> AsyncIterator[Clock]:
    clock = Clock(asyncio.get_running_loop())
    yield clock
    clock.close()


async def test_bytes_go_both_ways_and_each_end_on_its_own(clock: Clock) -> None:
    between = Between(clock)
    between.relay.start(up=b"early ", down=b"hello ")
    between.client.transport.write(b"up")
    between.origin.transport.write(b"down")
    await between.origin.until(lambda end: end.received == b"early up")
    await between.client.until(lambda end: end.received == b"hello down")
    between.client.transport.write_eof()
    await between.origin.until(lambda end: "eof" in end.events)
    between.origin.transport.write(b" after the other has ended")
    await between.client.until(lambda end: end.received.endswith(b"has ended"))
    between.origin.transport.write_eof()
    await until(lambda: bool(between.ends))
    assert between.ends == [(8, 36)]


async def test_one_that_is_over_is_no_ring(clock: Clock) -> None:
    """What connections leave behind goes at once, and not when a collector looks for it."""
    between = Between(clock)
    between.relay.start(up=b"", down=b"")
    up, down = between.relay.sides
    between.client.transport.write_eof()
    between.origin.transport.write_eof()
    await until(lambda: bool(between.ends))
    for one, other in ((between.relay, up), (between.relay, down), (up, down), (down, up)):
        assert not any(each is other for each in gc.get_referents(one))
    # And whatever still calls finds nothing to do.
    up.data_received(b"late")
    between.relay.abort()
    assert repr(between.relay) == "<Relay, over>"


async def test_what_a_filter_holds_back_goes_out_at_the_end(clock: Clock) -> None:
    between = Between(clock, through=Shout())
    between.relay.start(up=b"", down=b"")
    between.origin.transport.write(b"abc")
    await between.client.until(lambda end: end.received == b"AB")
    between.origin.transport.write_eof()
    await between.client.until(lambda end: end.received == b"ABC")


async def test_a_slow_side_stops_the_other_from_being_read(clock: Clock) -> None:
    between = Between(clock)
    between.relay.start(up=b"", down=b"")
    between.origin.transport.pause_reading()
    between.client.transport.write(b"x" * MIB)
    await until(lambda: not between.down.is_reading())
    assert _held(between.up) < MIB
    between.origin.transport.resume_reading()
    await between.origin.until(lambda end: len(end.received) == MIB)


class Told(Relay):
    """Keeps what it is told of slow sides."""

    __slots__ = ("sizes",)

    def slow(self, side: Side, size: int) -> None:
        self.sizes = [size, side.transport.get_write_buffer_size(), unread_bytes(side.other.transport)]


async def test_what_tls_has_read_waits_for_the_slow_side_too(clock: Clock, tmp_path: Path) -> None:
    trust = TlsTrust(tmp_path / "ca")
    origin, client, ours = End(), End(), End()
    await tls_pair(ours, origin, trust, over_tcp=False)
    down = memory_pair(asyncio.get_running_loop(), client, asyncio.Protocol())[1]
    relay = Told(clock, down, ours.transport, idle_seconds=60.0, on_end=lambda up, down: None)
    relay.start(up=b"", down=b"")
    client.transport.pause_reading()
    origin.transport.write(bytes(MIB))
    await until(lambda: hasattr(relay, "sizes"))
    size, written, unread = relay.sizes
    assert size == written + unread
    assert unread > 0
    client.transport.resume_reading()
    await client.until(lambda end: len(end.received) == MIB)
    relay.abort()


async def test_a_side_that_brings_bulk_waits_for_its_turn_and_for_the_other_side(clock: Clock) -> None:
    turns: list[Callable[[], None]] = []
    bulk = BulkTurns(turns.append)
    between = Between(clock, bulk=bulk)
    for _ in range(TURN_READS - 1):
        bulk.took(between.relay._up)
    between.origin.transport.pause_reading()
    between.relay.start(up=bytes(BULK_BYTES), down=b"")
    assert not between.down.is_reading()
    between.client.transport.write(bytes(MIB))
    turns.pop()()
    await until(lambda: not between.down.is_reading())  # for the other side now, and perhaps for another turn
    between.origin.transport.resume_reading()
    while len(between.origin.received) < BULK_BYTES + MIB:
        while turns:
            turns.pop()()
        await asyncio.sleep(0)
    between.client.transport.write(b"end")
    await between.origin.until(lambda end: end.received.endswith(b"end"))


class Slow(Shout):
    """Takes as long for a large read as a turn of all, and lets little of it through."""

    def feed(self, data: bytes) -> bytes:
        if len(data) < BULK_BYTES:
            return b"little"
        time.sleep(TURN_READS * READ_SECONDS)
        return b""


async def test_a_side_whose_filter_takes_long_waits_for_its_turn(clock: Clock) -> None:
    turns: list[Callable[[], None]] = []
    between = Between(clock, through=Slow(), bulk=BulkTurns(turns.append))
    between.relay.start(up=b"", down=bytes(BULK_BYTES - 1))
    assert between.up.is_reading()
    between.relay._down.data_received(bytes(BULK_BYTES))
    assert not between.up.is_reading()
    turns.pop()()
    assert between.up.is_reading()


class Mark(Shout):
    """Marks what it has looked at."""

    def feed(self, data: bytes) -> bytes:
        return b"<%d>" % len(data)


@pytest.mark.parametrize("is_gone", [False, True])
async def test_t6_a_side_with_a_filter_waits_where_a_turn_is_spent(clock: Clock, is_gone: bool) -> None:
    turns: list[Callable[[], None]] = []
    bulk = BulkTurns(turns.append)
    between = Between(clock, through=Mark(), bulk=bulk)
    between.relay.start(up=b"", down=b"")
    side = between.relay._down
    assert side.turn_owner is between.relay
    bulk.reads = 2.0 * TURN_READS
    side.data_received(bytes(TIMED_BYTES))
    assert (bulk.waiting, between.up.is_reading()) == (1, False)
    if is_gone:
        between.relay.abort()
        await until(lambda: side.is_lost)
        assert not side.await_turn(0)
        bulk._next()
        assert bulk.waiting == 0
        return
    bulk._next()
    await between.client.until(lambda end: end.received == b"<%d>" % TIMED_BYTES)
    assert between.up.is_reading()
    between.relay.abort()


async def test_a_reset_resets_the_other_side(clock: Clock) -> None:
    between = Between(clock)
    between.relay.start(up=b"", down=b"")
    between.origin.transport.abort()
    await between.client.until(lambda end: "lost" in end.events)
    assert between.client.error is not None
    await until(lambda: bool(between.ends))


async def test_an_end_that_was_told_to_the_one_before_is_not_missed(clock: Clock) -> None:
    between = Between(clock)
    between.origin.transport.abort()
    await until(between.up.is_closing)
    between.relay.start(up=b"", down=b"")
    await between.client.until(lambda end: "lost" in end.events or "eof" in end.events)


async def test_a_half_close_that_came_before_is_passed_on(clock: Clock) -> None:
    between = Between(clock)
    between.relay.start(up=b"all of it", down=b"")
    between.relay.end_up()
    await between.origin.until(lambda end: "eof" in end.events)
    assert between.origin.received == b"all of it"


async def test_silence_ends_both(clock: Clock) -> None:
    between = Between(clock, idle_seconds=0.1)
    between.relay.start(up=b"", down=b"")
    await until(lambda: bool(between.ends))


def _held(transport: MemoryTransport) -> int:
    return transport.get_write_buffer_size()
