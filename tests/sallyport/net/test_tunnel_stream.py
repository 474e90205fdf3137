"""A stream as a transport, beyond the contract of tests/contract: resets, half-closes, credit, failing protocols."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from types import FunctionType
from typing import cast

import pytest

from sallyport.net.clock import Clock
from sallyport.net.tunnel import Tunnel
from sallyport.net.tunnel_limits import TunnelLimits
from sallyport.net.tunnel_stream import PIECE_BYTES, TunnelStream
from sallyport.wire.websocket import BINARY, message
from sallyport.wire.yamux.frames import DATA, FIN
from tests.support.transports import End
from tests.support.tunnels import Owner, TunnelPair
from tests.support.until import until
from tests.support.yamux import frame

WINDOW = 256 * 1024
MASK = b"\x01\x02\x03\x04"
BUILT_IN = pytest.mark.skipif(
    not isinstance(Tunnel.start, FunctionType), reason="a compiled tunnel has its constants built in"
)


@pytest.fixture
async def clock() -> AsyncIterator[Clock]:
    clock = Clock(asyncio.get_running_loop())
    yield clock
    clock.close()


class Joined:
    """A stream of one tunnel: sandboxd's end opened it, the gateway's accepted it."""

    def __init__(self, pair: TunnelPair, sandbox: End, gateway: End) -> None:
        self.pair = pair
        self.sandbox = sandbox
        self.gateway = gateway

    async def settled(self) -> None:
        """Wait until both tunnels have nothing more to say."""
        for _ in range(30):
            await asyncio.sleep(0)

    def is_clean(self) -> bool:
        budgets = (self.pair.sandbox_budget, self.pair.gateway_budget)
        return (
            self.pair.sandbox.stream_count == self.pair.gateway.stream_count == sum(each.held for each in budgets) == 0
        )


async def join(clock: Clock, sandbox: End, gateway: End, limits: TunnelLimits | None = None) -> Joined:
    pair = TunnelPair(clock=clock, gateway=Owner(accept=lambda: gateway), limits=limits or TunnelLimits())
    pair.sandbox.open_stream(sandbox)
    await until(lambda: bool(pair.gateway_owner.streams))
    return Joined(pair, sandbox, gateway)


async def test_a_reset_reaches_a_reader_that_pauses_at_once(clock: Clock) -> None:
    joined = await join(clock, End(), End())
    joined.gateway.transport.pause_reading()
    joined.sandbox.transport.write(bytes(1000))
    await joined.settled()
    assert joined.pair.gateway_budget.held == 1000
    joined.sandbox.transport.abort()
    await joined.gateway.until_event("lost")
    assert isinstance(joined.gateway.error, ConnectionResetError)
    assert joined.gateway.received == b""
    assert joined.sandbox.error is None
    assert joined.is_clean()


async def test_who_was_answered_early_may_read_the_whole_answer(clock: Clock) -> None:
    joined = await join(clock, End(keeps_half_open=True), End())
    joined.sandbox.transport.pause_reading()
    joined.sandbox.transport.write(bytes(1_000_000))  # more than the window
    joined.gateway.transport.write(b"413, and why")
    joined.gateway.transport.close()
    await joined.gateway.until_event("lost")
    await joined.settled()
    assert joined.sandbox.events == ["made", "pause"]
    joined.sandbox.transport.write(b"ignored")
    joined.sandbox.transport.resume_reading()
    await joined.sandbox.until_event("lost")
    assert joined.sandbox.received == b"413, and why"
    assert joined.sandbox.events[-2:] == ["eof", "lost"]
    assert isinstance(joined.sandbox.error, ConnectionResetError)
    await until(joined.is_clean)


async def test_bytes_for_a_stream_that_was_closed_are_answered_by_a_reset(clock: Clock) -> None:
    joined = await join(clock, End(keeps_half_open=True), End())
    joined.gateway.transport.close()
    await joined.sandbox.until_event("eof")
    await joined.gateway.until_event("lost")
    assert joined.sandbox.events == ["made", "eof"]
    joined.sandbox.transport.write(b"more")
    await joined.sandbox.until_event("lost")
    assert isinstance(joined.sandbox.error, ConnectionResetError)
    assert joined.gateway.received == b""
    await until(joined.is_clean)


async def test_both_may_close_with_more_to_send_than_their_windows_allow(clock: Clock) -> None:
    joined = await join(clock, End(), End())
    ends = (joined.sandbox, joined.gateway)
    for end in ends:
        end.transport.pause_reading()
        end.transport.write(bytes(2 * WINDOW))
    await joined.settled()
    for end in ends:
        end.transport.close()
    for end in ends:
        await end.until_event("lost")
    await until(joined.is_clean)


async def test_close_after_the_peers_end_is_clean(clock: Clock) -> None:
    joined = await join(clock, End(keeps_half_open=True), End(keeps_half_open=True))
    joined.sandbox.transport.write(b"question")
    joined.sandbox.transport.write_eof()
    joined.sandbox.transport.write_eof()
    await joined.gateway.until_event("eof")
    joined.gateway.transport.write(b"answer")
    joined.gateway.transport.close()
    await joined.sandbox.until_event("eof")
    joined.sandbox.transport.close()
    joined.sandbox.transport.close()
    await joined.sandbox.until_event("lost")
    assert (joined.sandbox.error, joined.gateway.error) == (None, None)
    assert joined.sandbox.received == b"answer"
    assert joined.is_clean()


async def test_a_fin_is_told_when_reading_goes_on(clock: Clock) -> None:
    joined = await join(clock, End(), End(keeps_half_open=True))
    joined.gateway.transport.pause_reading()
    joined.sandbox.transport.write_eof()
    await joined.settled()
    assert joined.gateway.events == ["made"]
    joined.gateway.transport.resume_reading()
    assert joined.gateway.events == ["made"]
    await joined.gateway.until_event("eof")


async def test_what_comes_between_resuming_and_delivering_keeps_its_place(clock: Clock) -> None:
    joined = await join(clock, End(), End(keeps_half_open=True))
    joined.gateway.transport.pause_reading()
    for payload in (b"first, ", b"second, "):
        joined.pair.gateway.data_received(message(BINARY, frame(DATA, 0, 1, payload), MASK))
    joined.gateway.transport.resume_reading()
    joined.pair.gateway.data_received(message(BINARY, frame(DATA, FIN, 1, b"third"), MASK))
    assert joined.gateway.events == ["made"]
    assert joined.gateway.deliveries == 0
    await joined.gateway.until_event("eof")
    assert joined.gateway.received == b"first, second, third"


async def send_small_frames(joined: Joined, stream_id: int = 1, count: int = WINDOW // 2) -> bytes:
    """Fill the window with frames of two bytes, each of which says which it is."""
    payloads = [(number & 0xFFFF).to_bytes(2) for number in range(count)]
    frames = b"".join(frame(DATA, 0, stream_id, each) for each in payloads)
    before = joined.pair.gateway_budget.held
    for at in range(0, len(frames), 60_000):
        joined.pair.gateway.data_received(message(BINARY, frames[at : at + 60_000], MASK))
    await until(lambda: joined.pair.gateway_budget.held == before + 2 * count)
    return b"".join(payloads)


def one_piece_is_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sallyport.net.tunnel.TURN_SECONDS", -1.0)


async def test_t6_small_frames_are_held_for_about_what_the_budget_counts(clock: Clock) -> None:
    joined = await join(clock, End(), End())
    joined.gateway.transport.pause_reading()
    sent = await send_small_frames(joined)
    held = cast(TunnelStream, joined.gateway.transport)._held
    assert held is not None
    assert len(held) <= 2 * len(sent) // PIECE_BYTES
    assert len(sent) <= sum(map(sys.getsizeof, held)) + sys.getsizeof(held) < 1.2 * len(sent)
    joined.gateway.transport.resume_reading()
    await joined.gateway.until_received(sent)
    assert joined.pair.gateway_budget.held == 0


async def test_a_large_frame_is_held_as_it_came(clock: Clock) -> None:
    joined = await join(clock, End(), End())
    joined.gateway.transport.pause_reading()
    for size in (1, 2, PIECE_BYTES - 3, 1, 60_000, 5):
        joined.pair.gateway.data_received(message(BINARY, frame(DATA, 0, 1, bytes(size)), MASK))
    held = cast(TunnelStream, joined.gateway.transport)._held
    assert held is not None
    assert [(type(each), len(each)) for each in held] == [
        (bytearray, PIECE_BYTES),
        (bytes, 1),
        (bytes, 60_000),
        (bytes, 5),
    ]


@BUILT_IN
async def test_t6_a_stream_that_resumes_leaves_others_their_turn(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    joined = await join(clock, End(), End(keeps_half_open=True))
    end = joined.gateway
    end.transport.pause_reading()
    sent = await send_small_frames(joined)
    joined.pair.gateway.data_received(message(BINARY, frame(DATA, FIN, 1), MASK))
    one_piece_is_a_turn(monkeypatch)
    end.transport.resume_reading()
    turns = 0
    while "eof" not in end.events:
        before = len(end.received)
        await asyncio.sleep(0)
        assert len(end.received) - before <= PIECE_BYTES
        assert ("eof" in end.events) == (len(end.received) == len(sent))
        assert joined.pair.gateway_budget.held == len(sent) - len(end.received)
        turns += 1
    assert turns >= len(sent) // PIECE_BYTES
    assert end.received == sent


@BUILT_IN
async def test_t6_streams_that_resume_together_leave_others_their_turn(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sallyport.net.tunnel.TURN_SECONDS", -1.0)
    joined = await join(clock, End(), End())
    joined.pair.gateway_owner._accept = End
    count = 24
    writers = [End() for _ in range(count)]
    for writer in writers:
        joined.pair.sandbox.open_stream(writer)
    await until(lambda: len(joined.pair.gateway_owner.accepted) == 1 + count)
    ends = [cast(End, end) for end in joined.pair.gateway_owner.accepted[1:]]
    for writer, end in zip(writers, ends, strict=True):
        end.transport.pause_reading()
        writer.transport.write(b"held")
    await until(lambda: joined.pair.gateway_budget.held == 4 * count)
    await until(joined.pair.gateway_transport.is_reading)
    for end in ends:
        end.transport.resume_reading()
    assert sum(end.deliveries for end in ends) == 0
    await asyncio.sleep(0)
    assert sum(end.deliveries for end in ends) == 1
    assert not joined.pair.gateway_transport.is_reading()
    await until(joined.pair.gateway_transport.is_reading)
    assert [end.received for end in ends] == [b"held"] * count


async def test_who_pauses_in_the_middle_gets_the_rest_later(clock: Clock) -> None:
    def pause_at_third(end: End) -> None:
        if end.deliveries == 3:
            end.transport.pause_reading()

    joined = await join(clock, End(), End(on_data=pause_at_third, keeps_half_open=True))
    end = joined.gateway
    end.transport.pause_reading()
    sent = await send_small_frames(joined)
    joined.pair.gateway.data_received(message(BINARY, frame(DATA, FIN, 1), MASK))
    end.transport.resume_reading()
    await end.until_delivery(3)
    await joined.settled()
    assert (end.deliveries, end.events) == (3, ["made"])
    assert bytes(end.received) == sent[: 3 * PIECE_BYTES]
    # The third piece counts until the protocol goes on.
    assert joined.pair.gateway_budget.held == len(sent) - 2 * PIECE_BYTES
    assert joined.pair.gateway_transport.is_reading()
    end.transport.resume_reading()
    await end.until_event("eof")
    assert end.received == sent
    assert joined.pair.gateway_budget.held == 0


@BUILT_IN
@pytest.mark.parametrize("way", ["close", "abort"])
async def test_who_ends_between_two_turns_gives_the_rest_back(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    joined = await join(clock, End(), End())
    end = joined.gateway
    end.transport.pause_reading()
    await send_small_frames(joined)
    one_piece_is_a_turn(monkeypatch)
    end.transport.resume_reading()
    await end.until_delivery(1)
    received = len(end.received)
    assert joined.pair.gateway_budget.held == WINDOW - received > 0
    getattr(end.transport, way)()
    assert joined.pair.gateway_budget.held == 0
    await end.until_event("lost")
    await joined.settled()
    assert len(end.received) == received
    assert joined.pair.gateway_transport.is_reading()
    await joined.sandbox.until_event("lost")
    await until(joined.is_clean)


async def test_closing_with_bytes_unread_resets_the_peer_behind_the_answer(clock: Clock) -> None:
    joined = await join(clock, End(keeps_half_open=True), End())
    joined.gateway.transport.pause_reading()
    joined.sandbox.transport.write(b"nobody reads this")
    await joined.settled()
    joined.gateway.transport.write(b"answer")
    joined.gateway.transport.close()
    await joined.sandbox.until_event("lost")
    assert joined.sandbox.received == b"answer"
    assert joined.sandbox.events == ["made", "eof", "lost"]
    assert isinstance(joined.sandbox.error, ConnectionResetError)
    assert joined.gateway.error is None
    await until(joined.is_clean)


async def test_closing_while_paused_gives_back_what_was_held(clock: Clock) -> None:
    joined = await join(clock, End(), End())
    joined.gateway.transport.pause_reading()
    joined.sandbox.transport.write(bytes(5000))
    await joined.settled()
    joined.gateway.transport.close()
    assert joined.pair.gateway_budget.held == 0
    await joined.gateway.until_event("lost")
    await joined.sandbox.until_event("lost")
    await until(joined.is_clean)


async def test_a_stream_may_end_before_anything_was_sent(clock: Clock) -> None:
    pair = TunnelPair(clock=clock)
    ends = [End(), End()]
    for end in ends:
        pair.sandbox.open_stream(end)
    ends[0].transport.abort()
    ends[1].transport.close()
    for end in ends:
        await end.until_event("lost")
        assert end.events == ["made", "lost"]
    await until(lambda: pair.sandbox.stream_count == pair.gateway.stream_count == 0)
    assert len(pair.gateway_owner.streams) == 1


async def test_credit_waits_for_a_protocol_that_pauses_after_taking(clock: Clock) -> None:
    joined = await join(clock, End(), End(on_data=lambda end: end.transport.pause_reading()))
    stream = cast(TunnelStream, joined.gateway.transport)
    joined.sandbox.transport.write(bytes(16_000))
    await joined.gateway.until_delivery(1)
    assert joined.pair.gateway_budget.held == 16_000
    assert stream.mux.window._unreturned == 0
    stream.resume_reading()
    assert joined.pair.gateway_budget.held == 0
    assert stream.mux.window._unreturned == 16_000


async def test_a_window_grows_when_it_drains_within_two_round_trips(clock: Clock) -> None:
    joined = await join(clock, End(), End(), TunnelLimits(max_window_bytes=4 * WINDOW))
    await until(lambda: joined.pair.gateway.round_trip > 0)
    joined.pair.gateway.round_trip = 60.0  # whatever it takes here, it is within two of these
    joined.sandbox.transport.write(bytes(20 * WINDOW))
    await joined.gateway.until_received(bytes(20 * WINDOW))
    assert cast(TunnelStream, joined.gateway.transport).mux.window.size == 4 * WINDOW


async def test_a_window_does_not_grow_where_the_budget_has_no_room(clock: Clock) -> None:
    joined = await join(clock, End(), End())
    await until(lambda: joined.pair.gateway.round_trip > 0)
    joined.pair.gateway.round_trip = 60.0
    joined.pair.gateway_budget.limit = WINDOW
    joined.sandbox.transport.write(bytes(20 * WINDOW))
    await joined.gateway.until_received(bytes(20 * WINDOW))
    assert cast(TunnelStream, joined.gateway.transport).mux.window.size == WINDOW


@pytest.mark.parametrize("call", ["connection_made", "data_received", "eof_received", "pause_writing"])
async def test_a_protocol_that_fails_loses_its_stream_alone(
    clock: Clock, call: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Fails(End):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self._fail("connection_made")

        def data_received(self, data: bytes) -> None:
            self._fail("data_received")
            self.transport.write(bytes(70_000))

        def eof_received(self) -> bool:
            self._fail("eof_received")
            return True

        def pause_writing(self) -> None:
            self._fail("pause_writing")

        def _fail(self, where: str) -> None:
            if where == call:
                raise RuntimeError("a defect")

    with caplog.at_level(logging.CRITICAL):
        joined = await join(clock, End(keeps_half_open=True), Fails())
        other = End()
        joined.sandbox.transport.write(b"x")
        joined.sandbox.transport.write_eof()
        await joined.gateway.until_event("lost")
        await joined.sandbox.until_event("lost")
    assert isinstance(joined.gateway.error, RuntimeError)
    assert isinstance(joined.sandbox.error, ConnectionResetError)
    joined.pair.gateway_owner._accept = lambda: other
    joined.pair.sandbox.open_stream(End())
    await until(lambda: "made" in other.events)


async def test_writing_pauses_and_resumes_by_the_streams_own_bytes(clock: Clock) -> None:
    joined = await join(clock, End(), End())
    writer = joined.sandbox
    writer.transport.set_write_buffer_limits(high=1000)
    assert writer.transport.get_write_buffer_limits() == (250, 1000)
    writer.transport.write(bytes(1000))
    assert writer.events == ["made"]
    writer.transport.write(b"x")
    assert writer.events == ["made", "pause"]
    await writer.until_event("resume")
    writer.transport.write(bytes(900))
    writer.transport.set_write_buffer_limits(low=100)
    assert writer.events[-1] == "pause"
    assert writer.transport.get_write_buffer_limits() == (100, 400)
    writer.transport.set_write_buffer_limits()
    assert writer.transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
    await writer.until(lambda end: end.events[-1] == "resume")


async def test_another_protocol_may_take_over(clock: Clock) -> None:
    joined = await join(clock, End(), End())
    after = End()
    joined.gateway.transport.set_protocol(after)
    assert joined.gateway.transport.get_protocol() is after
    joined.sandbox.transport.write(b"x")
    joined.sandbox.transport.close()
    await after.until_event("lost")
    assert bytes(after.received) == b"x"
    assert not joined.gateway.received
    assert joined.gateway.events == ["made"]
    assert joined.gateway.transport.get_protocol() is not after  # nothing keeps it alive


async def test_what_is_written_may_change_afterwards(clock: Clock) -> None:
    joined = await join(clock, End(), End())
    buffer = bytearray(b"first")
    joined.sandbox.transport.write(buffer)
    buffer[:] = b"wrong"
    await joined.gateway.until_received(b"first")


async def test_repr_says_the_state(clock: Clock) -> None:
    joined = await join(clock, End(), End())
    stream = joined.sandbox.transport
    assert repr(stream) == "<TunnelStream 1 open: 0 bytes unsent>"
    stream.write(b"x")
    stream.close()
    assert repr(stream) == "<TunnelStream 1 closing: 1 bytes unsent>"
    await joined.sandbox.until_event("lost")
    assert repr(stream) == "<TunnelStream 1 lost: 0 bytes unsent>"
