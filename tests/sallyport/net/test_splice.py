"""Bulk that the kernel moves: what a relay does must look the same after it has handed a direction over as before."""

import asyncio
import contextlib
import errno
import os
import random
import socket
from collections.abc import AsyncIterator, Callable

import pytest

from sallyport.net.bulk_turns import TURN_READS, BulkTurns
from sallyport.net.clock import Clock
from sallyport.net.relay import Filter, Relay
from sallyport.net.splice import PIPE_BYTES, QUIET_SECONDS, SPLICE_AFTER_BYTES, Splice, Splices
from sallyport.net.transports import reset
from tests.support.descriptors import no_descriptors, open_sockets_and_pipes
from tests.support.passing_time import let_time_pass
from tests.support.transports import End, tcp_pair
from tests.support.until import until

pytestmark = pytest.mark.uvloop

MIB = 1024 * 1024
DIRECTIONS = ("up", "down")


class Between:
    """A relay with somebody at each side of it, all of them sockets."""

    def __init__(self) -> None:
        self.client, self.origin = End(keeps_half_open=True), End(keeps_half_open=True)
        self.down, self.up = End(), End()
        self.ends: list[tuple[int, int]] = []
        self.relay: Relay

    def sender(self, direction: str) -> End:
        return self.client if direction == "up" else self.origin

    def receiver(self, direction: str) -> End:
        return self.origin if direction == "up" else self.client

    def splice(self, direction: str) -> Splice | None:
        return (self.relay._up if direction == "up" else self.relay._down)._splice

    async def switch(self, direction: str) -> Splice:
        """Send as much as it takes; returns once the kernel moves this direction."""
        await fill(self, direction, SPLICE_AFTER_BYTES)
        await until(lambda: self.splice(direction) is not None)
        splice = self.splice(direction)
        assert splice is not None
        return splice

    async def block(self, direction: str) -> Splice:
        """Let the receiver take nothing until bytes wait in the pipe."""
        splice = await self.switch(direction)
        self.receiver(direction).transport.pause_reading()
        self.sender(direction).transport.write(bytes(64 * MIB))
        await until(lambda: splice.waiting > 0 and splice._is_writing)
        return splice

    async def over(self) -> None:
        await until(lambda: bool(self.ends))


async def fill(between: Between, direction: str, size: int) -> None:
    """Send so many bytes and wait for them."""
    receiver = between.receiver(direction)
    due = len(receiver.received) + size
    between.sender(direction).transport.write(bytes(size))
    await receiver.until(lambda end: len(end.received) == due)


def _knows_of_an_end(end: End) -> bool:
    return "eof" in end.events or "lost" in end.events


@contextlib.asynccontextmanager
async def relayed(
    clock: Clock, splices: Splices, *, through: Filter | None = None, bulk: BulkTurns | None = None
) -> AsyncIterator[Between]:
    """Whatever happens inside: the relay ends once, and every descriptor comes back."""

    def open_beside_splices() -> int:
        return open_sockets_and_pipes() - 4 * len(splices)

    before = open_beside_splices()
    between = Between()
    await tcp_pair(between.client, between.down)
    await tcp_pair(between.origin, between.up)
    between.relay = Relay(
        clock,
        between.down.transport,
        between.up.transport,
        idle_seconds=60.0,
        on_end=lambda *moved: between.ends.append(moved),
        filter_down=through,
        bulk=bulk,
        splices=splices,
    )
    between.relay.start(up=b"", down=b"")
    try:
        yield between
    finally:
        between.client.transport.abort()
        between.origin.transport.abort()
    await between.over()
    await until(lambda: open_beside_splices() == before)
    assert len(between.ends) == 1


@pytest.fixture
async def clock() -> AsyncIterator[Clock]:
    clock = Clock(asyncio.get_running_loop())
    yield clock
    clock.close()


@pytest.fixture
async def splices(clock: Clock) -> AsyncIterator[Splices]:
    """Whatever a test does, every descriptor comes back."""
    splices = Splices(clock, 8)
    yield splices
    assert len(splices) == 0


@pytest.fixture
async def between(clock: Clock, splices: Splices) -> AsyncIterator[Between]:
    async with relayed(clock, splices) as between:
        yield between


# ---- what is carried


async def test_both_directions_go_over_without_losing_or_counting_a_byte_wrongly(
    between: Between, splices: Splices
) -> None:
    up, down = random.Random(1).randbytes(3 * MIB), random.Random(2).randbytes(2 * MIB)
    between.client.transport.write(up)
    between.origin.transport.write(down)
    await between.origin.until(lambda end: len(end.received) == len(up))
    await between.client.until(lambda end: len(end.received) == len(down))
    assert between.origin.received == up
    assert between.client.received == down
    assert len(splices) == 2
    assert repr(splices) == "<Splices: 2 of 8>"
    assert repr(between.splice("up")) == "<Splice: open, 0 bytes wait>"
    between.client.transport.write_eof()
    between.origin.transport.write_eof()
    await between.over()
    assert between.ends == [(3 * MIB, 2 * MIB)]


async def test_what_is_short_is_never_spliced(between: Between, splices: Splices) -> None:
    between.client.transport.write(bytes(SPLICE_AFTER_BYTES - 1))
    await between.origin.until(lambda end: len(end.received) == SPLICE_AFTER_BYTES - 1)
    assert len(splices) == 0


async def test_a_side_that_is_slow_as_the_kernel_takes_over_gets_all_in_order(
    between: Between, splices: Splices
) -> None:
    payload = random.Random(3).randbytes(2 * MIB)
    between.client.transport.pause_reading()
    for end, option in ((between.client, socket.SO_RCVBUF), (between.down, socket.SO_SNDBUF)):
        end.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, option, 16 * 1024)
    between.down.transport.set_write_buffer_limits(high=MIB, low=5)
    between.origin.transport.write(payload)
    await until(lambda: between.relay._down._awaits_splice)
    assert len(splices) == 0
    assert between.down.transport.get_write_buffer_size() > 0
    between.client.transport.resume_reading()
    await between.client.until(lambda end: len(end.received) == len(payload))
    assert between.client.received == payload
    splice = between.splice("down")
    assert splice is not None
    splice.give_back()
    assert between.down.transport.get_write_buffer_limits() == (5, MIB)


@pytest.mark.parametrize("direction", DIRECTIONS)
async def test_a_slow_side_holds_the_other_back(between: Between, direction: str) -> None:
    splice = await between.block(direction)
    assert splice.waiting <= PIPE_BYTES
    between.receiver(direction).transport.resume_reading()
    due = SPLICE_AFTER_BYTES + 64 * MIB
    await between.receiver(direction).until(lambda end: len(end.received) == due)
    assert splice._is_reading
    assert not splice._is_writing


# ---- ends


@pytest.mark.parametrize("direction", DIRECTIONS)
async def test_a_half_close_is_passed_on_and_the_other_way_stays_open(
    between: Between, splices: Splices, direction: str
) -> None:
    await between.switch(direction)
    sender, receiver = between.sender(direction), between.receiver(direction)
    sender.transport.write(b"last words")
    sender.transport.write_eof()
    await receiver.until_event("eof")
    assert receiver.received.endswith(b"last words")
    assert len(splices) == 0
    receiver.transport.write(b"answer")
    await sender.until(lambda end: end.received == b"answer")
    receiver.transport.write_eof()
    await between.over()


@pytest.mark.parametrize("direction", DIRECTIONS)
async def test_a_half_close_waits_for_what_is_in_the_pipe(between: Between, direction: str) -> None:
    await between.block(direction)
    between.sender(direction).transport.write_eof()
    receiver = between.receiver(direction)
    receiver.transport.resume_reading()
    await receiver.until_event("eof")
    assert len(receiver.received) == SPLICE_AFTER_BYTES + 64 * MIB


@pytest.mark.parametrize("gone", ["sender", "receiver"])
@pytest.mark.parametrize("spliced", ["one", "both"])
@pytest.mark.parametrize("direction", DIRECTIONS)
async def test_a_reset_of_either_side_ends_the_other(
    between: Between, splices: Splices, direction: str, spliced: str, gone: str
) -> None:
    await between.switch(direction)
    if spliced == "both":
        await between.switch("down" if direction == "up" else "up")
    sides = [between.sender(direction), between.receiver(direction)]
    if gone == "receiver":
        sides.reverse()
    reset(sides[0].transport)
    await sides[1].until(_knows_of_an_end)
    assert len(splices) == 0


@pytest.mark.parametrize("direction", DIRECTIONS)
async def test_a_reset_of_who_takes_nothing_is_seen(between: Between, splices: Splices, direction: str) -> None:
    await between.block(direction)
    reset(between.receiver(direction).transport)
    await between.sender(direction).until(_knows_of_an_end)
    assert len(splices) == 0


@pytest.mark.parametrize("direction", DIRECTIONS)
async def test_an_abort_drops_what_is_in_the_pipe_and_ends_both_at_once(
    between: Between, splices: Splices, direction: str
) -> None:
    await between.block(direction)
    between.relay.abort()
    await between.over()
    assert len(splices) == 0
    await between.sender(direction).until(_knows_of_an_end)


async def test_nothing_moves_any_more_between_an_abort_and_what_the_loop_says_of_it(between: Between) -> None:
    splice = await between.switch("up")
    between.client.transport.write(b"too late")
    between.relay.abort()
    splice._readable()
    assert between.relay._up.bytes == SPLICE_AFTER_BYTES
    assert repr(splice) == "<Splice: closed, 0 bytes wait>"


async def test_silence_ends_it_and_bytes_put_that_off(between: Between, clock: Clock) -> None:
    await between.switch("up")
    let_time_pass(clock, 50)
    between.client.transport.write(b"x")
    await between.origin.until(lambda end: end.received.endswith(b"x"))
    let_time_pass(clock, 50)
    assert not between.ends
    let_time_pass(clock, 20)
    await between.over()


# ---- turns


async def test_who_brings_bulk_waits_for_its_turn(clock: Clock, splices: Splices) -> None:
    turns: list[Callable[[], None]] = []
    size = 4 * TURN_READS * PIPE_BYTES
    async with relayed(clock, splices, bulk=BulkTurns(turns.append)) as between:
        between.client.transport.write(bytes(size))
        await until(lambda: repr(between.splice("up")) == "<Splice: held, 0 bytes wait>")
        assert len(between.origin.received) < size
        while len(between.origin.received) < size:
            while turns:
                turns.pop()()
            await asyncio.sleep(0)
    for turn in turns:  # one that comes after the end finds nothing to read
        turn()


async def test_who_is_held_reads_nothing_until_every_reason_is_gone(between: Between) -> None:
    splice = await between.switch("up")
    side = between.relay._up
    side.hold_reading("backlog")
    side.hold_reading("bulk")
    between.client.transport.write(b"later")
    for _ in range(20):
        await asyncio.sleep(0)
    side.resume_reading("bulk")
    assert repr(splice) == "<Splice: held, 0 bytes wait>"
    assert len(between.origin.received) == SPLICE_AFTER_BYTES
    side.resume_reading("backlog")
    await between.origin.until(lambda end: end.received.endswith(b"later"))


async def test_reasons_to_hold_outlive_a_splice(between: Between) -> None:
    splice = await between.switch("up")
    side = between.relay._up
    side.hold_reading("backlog")
    splice.give_back()
    assert not between.down.transport.is_reading()
    between.client.transport.write(b"later")
    side.resume_reading("backlog")
    await between.origin.until(lambda end: end.received.endswith(b"later"))


# ---- where it is not, or no more


async def test_a_filter_keeps_its_direction(clock: Clock, splices: Splices) -> None:
    class Nothing:
        pieces = 0

        def feed(self, data: bytes) -> bytes:
            return data

        def finish(self) -> bytes:
            return b""

    async with relayed(clock, splices, through=Nothing()) as between:
        for direction in DIRECTIONS:
            receiver = between.receiver(direction)
            between.sender(direction).transport.write(bytes(MIB))
            await receiver.until(lambda end: len(end.received) == MIB)
        assert between.splice("down") is None
        assert between.splice("up") is not None


async def test_as_many_as_there_may_be_and_who_is_quiet_makes_room(clock: Clock) -> None:
    splices = Splices(clock, 1)
    async with relayed(clock, splices) as first, relayed(clock, splices) as second:
        await first.switch("up")
        await fill(second, "up", SPLICE_AFTER_BYTES)
        await until(lambda: not second.relay._up._awaits_splice)
        assert second.splice("up") is None
        let_time_pass(clock, 2 * QUIET_SECONDS)
        await second.switch("up")
        assert first.splice("up") is None
        assert len(splices) == 1
        for between in (first, second):
            await fill(between, "up", 100_000)


async def test_who_waits_for_a_slow_side_makes_room_too_and_loses_nothing(clock: Clock) -> None:
    splices = Splices(clock, 1)
    async with relayed(clock, splices) as first, relayed(clock, splices) as second:
        await first.block("down")
        await fill(second, "up", SPLICE_AFTER_BYTES)
        assert second.splice("up") is None
        let_time_pass(clock, 2 * QUIET_SECONDS)
        await second.switch("up")
        assert first.splice("down") is None
        first.client.transport.resume_reading()
        await first.client.until(lambda end: len(end.received) == SPLICE_AFTER_BYTES + 64 * MIB)


async def test_without_descriptors_it_stays_as_it_is(between: Between, splices: Splices) -> None:
    with no_descriptors():
        await fill(between, "up", MIB)
        assert len(splices) == 0
    await between.switch("up")


async def test_a_user_with_too_many_pipes_keeps_his_descriptors(
    between: Between, splices: Splices, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, command: int, value: int) -> int:
        raise PermissionError(errno.EPERM, "too many pipes")

    before = open_sockets_and_pipes()
    monkeypatch.setattr("sallyport.net.splice.fcntl.fcntl", refuse)
    await fill(between, "up", MIB)
    assert len(splices) == 0
    assert open_sockets_and_pipes() == before


@pytest.mark.parametrize("refused", ["from the socket", "to the socket"])
async def test_where_the_kernel_refuses_nobody_tries_again(
    between: Between, splices: Splices, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    splice, calls = os.splice, []

    def refuse(source: int, sink: int, count: int, *, flags: int) -> int:
        calls.append(count)
        if len(calls) == (1 if refused == "from the socket" else 2):
            raise OSError(errno.EINVAL, "invalid argument")
        return splice(source, sink, count, flags=flags)

    monkeypatch.setattr("sallyport.net.splice.os.splice", refuse)
    payload = random.Random(4).randbytes(4 * MIB)
    between.client.transport.write(payload)
    await between.origin.until(lambda end: len(end.received) == len(payload))
    assert between.origin.received == payload
    assert len(calls) <= 2
    assert repr(splices) == "<Splices: 0 of 0>"


async def test_where_there_is_no_splice_nothing_is_spliced(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.delattr(os, "splice")
        splices = Splices(clock, 8)
    async with relayed(clock, splices) as between:
        await fill(between, "up", MIB)
        assert len(splices) == 0


# ---- everything at once


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_comes_in_whatever_order_arrives(clock: Clock, splices: Splices, seed: int) -> None:
    """Pieces of any size both ways, readers that stop and go on, ends at any time."""
    chance = random.Random(seed)
    turns = BulkTurns(asyncio.get_running_loop().call_soon)
    async with relayed(clock, splices, bulk=turns) as between:
        sent = await _exchange(between, chance)
        await between.over()
        for direction in DIRECTIONS:
            await between.receiver(direction).until_event("eof")
            assert between.receiver(direction).received == sent[direction], f"seed {seed}"
        assert between.ends == [(len(sent["up"]), len(sent["down"]))]


async def _exchange(between: Between, chance: random.Random) -> dict[str, bytearray]:
    sent = {direction: bytearray() for direction in DIRECTIONS}
    open_ways = set(DIRECTIONS)
    while open_ways:
        direction = chance.choice(DIRECTIONS)
        receiver = between.receiver(direction).transport
        if chance.random() < 0.3:
            (receiver.pause_reading if receiver.is_reading() else receiver.resume_reading)()
        if direction in open_ways:
            piece = chance.randbytes(chance.choice((1, 100, 70_000, 300_000, 2_000_000)))
            between.sender(direction).transport.write(piece)
            sent[direction] += piece
            if len(sent[direction]) > 6 * MIB:
                between.sender(direction).transport.write_eof()
                open_ways.discard(direction)
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
    for direction in DIRECTIONS:
        if not between.receiver(direction).transport.is_reading():
            between.receiver(direction).transport.resume_reading()
    return sent
