"""Two tunnels joined in memory: opening, control, turns, limits, every way to the end."""

import asyncio
import json
import logging
import socket
import tracemalloc
from collections.abc import AsyncIterator
from types import FunctionType
from typing import cast

import pytest

from sallyport.net.clock import Clock
from sallyport.net.memory import MemoryTransport, memory_pair
from sallyport.net.tunnel import Tunnel, TunnelUnavailable
from sallyport.net.tunnel_limits import (
    CLOSE_SECONDS,
    LARGE_PIECE_BYTES,
    ORPHAN_SECONDS,
    TURN_PIECES,
    TunnelLimits,
)
from sallyport.net.tunnel_pace import CONTROLS_BURST, EMPTY_BURST, PINGS_BURST, RESETS_BURST, TunnelPace
from sallyport.net.tunnel_stream import TunnelStream
from sallyport.wire import websocket
from sallyport.wire.errors import LocalProtocolError
from sallyport.wire.websocket import BINARY, MAX_MESSAGE_BYTES, TEXT, MessageReader, close_payload, message
from sallyport.wire.yamux.frames import ACK, DATA, FIN, GO_AWAY, PING, RST, SYN, WINDOW_UPDATE
from sallyport.wire.yamux.session import MAX_ANSWERS
from tests.support.passing_time import let_time_pass
from tests.support.transports import End, tcp_pair
from tests.support.tunnels import Owner, TunnelPair
from tests.support.until import until
from tests.support.yamux import frame, frames_in

MASK = b"\x01\x02\x03\x04"
BUILT_IN = pytest.mark.skipif(
    not isinstance(Tunnel.start, FunctionType), reason="a compiled tunnel has its constants built in"
)


@pytest.fixture
async def clock() -> AsyncIterator[Clock]:
    clock = Clock(asyncio.get_running_loop())
    yield clock
    clock.close()


class Peer(asyncio.Protocol):
    """The other end of one tunnel, by hand: speaks raw WebSocket messages and writes down what it reads."""

    def __init__(self, *, is_client: bool) -> None:
        self._mask = MASK if is_client else None
        self._reader = MessageReader(self, is_client=is_client)
        self.lines: list[str] = []
        self.raw = b""
        self.is_lost = False
        self.transport = cast(asyncio.Transport, None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.raw += data
        self._reader.feed(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True

    def binary_received(self, data: bytes) -> None:
        self.lines += frames_in(data)

    def text_received(self, data: bytes) -> None:
        self.lines.append(f"text {data.decode()}")

    def ping_received(self, payload: bytes) -> None:
        self.lines.append(f"ping {payload!r}")

    def close_received(self, code: int | None, reason: str) -> None:
        self.lines.append(f"close {code} {reason!r}")

    def send(self, payload: bytes, opcode: int = BINARY) -> None:
        self.transport.write(message(opcode, payload, self._mask))

    async def hears(self, line: str) -> None:
        await until(lambda: any(line in each for each in self.lines))


class OneSide:
    """The gateway's tunnel, or sandboxd's, and a peer by hand."""

    def __init__(self, clock: Clock, *, is_client: bool = False, limits: TunnelLimits | None = None) -> None:
        self.owner = Owner()
        pair = TunnelPair(clock=clock, limits=limits or TunnelLimits())
        self.budget = pair.gateway_budget
        self.tunnel = Tunnel(
            self.owner,
            is_client=is_client,
            clock=clock,
            budget=self.budget,
            limits=limits or TunnelLimits(),
            pace=None if is_client else TunnelPace(),
        )
        self.peer = Peer(is_client=not is_client)
        mine, _ = memory_pair(asyncio.get_running_loop(), asyncio.Protocol(), self.peer)
        self.transport: MemoryTransport = mine
        self.tunnel.start(mine)

    async def lost(self) -> tuple[int | None, str]:
        await until(lambda: bool(self.owner.losses))
        (loss,) = self.owner.losses
        return loss


# Opening ---------------------------------------------------------------------------------------------


async def test_bytes_that_came_with_the_upgrade_are_read(clock: Clock) -> None:
    owner = Owner()
    tunnel = Tunnel(owner, is_client=False, clock=clock, budget=TunnelPair(clock=clock).gateway_budget)
    peer = Peer(is_client=True)
    mine, _ = memory_pair(asyncio.get_running_loop(), asyncio.Protocol(), peer)
    assert repr(tunnel) == "<Tunnel new: 0 streams>"
    tunnel.start(mine, message(BINARY, frame(DATA, SYN, 1, b"head"), MASK))
    assert cast(End, owner.accepted[0]).received == b"head"
    await peer.hears("window 1 ACK 0")
    assert peer.lines[0] == "ping 0 SYN 0"
    assert repr(tunnel) == "<Tunnel open: 1 streams>"


async def test_a_transport_that_ended_before_the_start(clock: Clock) -> None:
    owner = Owner()
    tunnel = Tunnel(owner, is_client=False, clock=clock, budget=TunnelPair(clock=clock).gateway_budget)
    mine, _ = memory_pair(asyncio.get_running_loop(), asyncio.Protocol(), asyncio.Protocol())
    mine.abort()
    tunnel.start(mine)
    await until(lambda: bool(owner.losses))
    await asyncio.sleep(0)
    ((code, reason),) = owner.losses
    assert code is None
    assert reason.startswith("the connection was lost")


async def test_a_stream_knows_its_tunnel_and_not_its_socket(clock: Clock) -> None:
    pair = TunnelPair(clock=clock)
    end = End()
    stream = pair.sandbox.open_stream(end)
    assert end.transport is stream
    assert stream.get_extra_info("tunnel") is pair.sandbox
    assert stream.get_extra_info("peername") == ("memory", 0)
    assert stream.get_extra_info("socket") is None
    assert stream.get_extra_info("socket", "none") == "none"


async def test_an_answer_from_inside_data_received_costs_no_further_turn(clock: Clock) -> None:
    side = OneSide(clock)
    await side.peer.hears("ping")
    side.owner._accept = lambda: End(on_data=lambda end: end.transport.write(b"answer"))
    side.tunnel.data_received(message(BINARY, frame(DATA, SYN, 1, b"question"), MASK))
    assert side.transport.get_write_buffer_size() == len(message(BINARY, frame(DATA, ACK, 1, b"answer"), None))


async def test_what_is_written_in_one_turn_is_one_message(clock: Clock) -> None:
    pair = TunnelPair(clock=clock)
    ends = [End() for _ in range(8)]
    for end in ends:
        pair.sandbox.open_stream(end)
    await until(lambda: len(pair.gateway_owner.streams) == 8)
    before = pair.sandbox.bytes_out
    for end in ends:
        end.transport.write(b"x")
    await until(lambda: all(cast(End, end).received for end in pair.gateway_owner.accepted))
    assert pair.sandbox.bytes_out - before == len(message(BINARY, bytes(8 * 13), MASK))
    assert pair.gateway.bytes_in == pair.sandbox.bytes_out


# Control ---------------------------------------------------------------------------------------------


async def test_control_documents_travel_as_text(clock: Clock) -> None:
    pair = TunnelPair(clock=clock)
    document = {"type": "token.request", "requestId": "é1"}
    pair.sandbox.send_control(document)
    await until(lambda: bool(pair.gateway_owner.controls))
    assert [json.loads(text) for text in pair.gateway_owner.controls] == [document]


async def test_a_control_document_has_a_limit(clock: Clock) -> None:
    pair = TunnelPair(clock=clock)
    pair.gateway.send_control({"a": "x" * (MAX_MESSAGE_BYTES - 8)})
    with pytest.raises(LocalProtocolError):
        pair.gateway.send_control({"a": "x" * (MAX_MESSAGE_BYTES - 7)})
    await until(lambda: bool(pair.sandbox_owner.controls))
    assert len(pair.sandbox_owner.controls[0]) == MAX_MESSAGE_BYTES


async def test_a_websocket_ping_is_answered(clock: Clock) -> None:
    side = OneSide(clock, is_client=True)
    side.peer.send(b"hi", websocket.PING)
    first_ping = len(message(BINARY, frame(PING, SYN, 0), MASK))
    await until(lambda: side.tunnel.bytes_out == first_ping + len(message(websocket.PONG, b"hi", MASK)))


async def test_a_peer_that_reads_nothing_is_not_written_to_for_ever(clock: Clock) -> None:
    side = OneSide(clock)
    side.peer.transport.pause_reading()
    for _ in range(40):
        side.tunnel.send_control({"a": "x" * 60_000})
    assert await side.lost() == (None, "the peer does not read")


# Turns and pauses ------------------------------------------------------------------------------------


async def test_a_small_write_is_not_held_up_by_bulk(clock: Clock) -> None:
    side = OneSide(clock)
    bulk = [End() for _ in range(4)]
    tick = End()
    for end in [*bulk, tick]:
        side.tunnel.open_stream(end)
    await side.peer.hears("data 10 SYN 0")
    side.peer.send(b"".join(frame(WINDOW_UPDATE, ACK, number) for number in (2, 4, 6, 8, 10)))
    await until(lambda: side.tunnel.session._unacknowledged == 0)
    side.peer.lines.clear()
    for end in bulk:
        end.transport.write(bytes(200_000))
    tick.transport.write(b"tick")
    await side.peer.hears("data 10")
    place = next(place for place, line in enumerate(side.peer.lines) if line == "data 10 4")
    assert side.peer.lines[:place] == ["data 2 16372", "data 4 16372", "data 6 16372", "data 8 16372"]


async def test_a_transport_that_is_full_takes_nothing_more_from_streams(clock: Clock) -> None:
    side = OneSide(clock)
    end = End()
    side.tunnel.open_stream(end)
    await side.peer.hears("SYN 0")
    side.peer.send(frame(WINDOW_UPDATE, ACK, 2, 4_000_000))
    await until(lambda: side.tunnel.session._unacknowledged == 0)
    side.peer.transport.pause_reading()
    for _ in range(10):
        end.transport.write(bytes(100_000))
        await asyncio.sleep(0)
    assert end.events == ["made", "pause"]
    held = side.transport.get_write_buffer_size()
    assert held <= 64 * 1024 + MAX_MESSAGE_BYTES + 100
    assert end.transport.get_write_buffer_size() + held > 1_000_000
    side.peer.transport.resume_reading()
    await end.until_event("resume")
    await until(lambda: sum(int(line.split()[-1]) for line in side.peer.lines if line.startswith("data")) == 1_000_000)


async def test_one_turn_of_the_loop_writes_a_bounded_amount(clock: Clock) -> None:
    side = OneSide(clock)
    side.transport.set_write_buffer_limits(high=10_000_000)
    for _ in range(10):
        end = End()
        side.tunnel.open_stream(end)
        end.transport.write(bytes(200_000))
    before = side.tunnel.bytes_out
    side.tunnel._flush()
    assert 256 * 1024 <= side.tunnel.bytes_out - before <= 256 * 1024 + MAX_MESSAGE_BYTES
    await until(lambda: side.tunnel.bytes_out > 2_000_000)


@pytest.mark.uvloop
async def test_over_a_socket_the_kernel_holds_little(clock: Clock) -> None:
    kept: list[asyncio.Transport] = []

    class Keeps(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            kept.append(cast(asyncio.Transport, transport))

    await tcp_pair(Keeps(), Keeps())
    pair = TunnelPair(clock=clock)
    tunnels = [
        Tunnel(Owner(accept=End), is_client=is_client, clock=clock, budget=pair.gateway_budget)
        for is_client in (True, False)
    ]
    for tunnel, transport in zip(tunnels, kept, strict=True):
        tunnel.start(transport)
        lowat = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)
        assert lowat == 128 * 1024
    end = End()
    tunnels[0].open_stream(end)
    end.transport.write(bytes(1_000_000))
    owner = cast(Owner, tunnels[1]._owner)
    await until(lambda: bool(owner.accepted) and len(cast(End, owner.accepted[0]).received) == 1_000_000)
    await until(lambda: tunnels[0].round_trip > 0)
    tunnels[0].close(websocket.DRAINING, "")
    await until(lambda: bool(owner.losses))


# Limits ----------------------------------------------------------------------------------------------


async def test_no_more_streams_than_the_limit(clock: Clock) -> None:
    pair = TunnelPair(clock=clock, limits=TunnelLimits(max_streams=2))
    pair.sandbox.open_stream(End())
    await until(lambda: pair.gateway.stream_count == 1)
    pair.gateway.open_stream(End())
    with pytest.raises(TunnelUnavailable):
        pair.gateway.open_stream(End())
    await until(lambda: pair.sandbox.stream_count == 2)
    carried = message(BINARY, frame(DATA, SYN, 5, b"x"), MASK)
    pair.gateway.data_received(carried)
    assert pair.gateway.stream_count == 2
    assert not pair.gateway.can_open
    assert pair.gateway.is_open


async def test_a_burst_beyond_the_accept_backlog_loses_nothing(clock: Clock) -> None:
    pair = TunnelPair(clock=clock)
    ends = [End() for _ in range(300)]
    for number, end in enumerate(ends):
        pair.sandbox.open_stream(end)
        end.transport.write(b"%d" % number)
    assert pair.sandbox.stream_count == 300
    await until(lambda: sum(bool(cast(End, end).received) for end in pair.gateway_owner.accepted) == 300)
    assert [cast(End, end).received for end in pair.gateway_owner.accepted] == [b"%d" % n for n in range(300)]


async def test_go_away_lets_open_streams_finish(clock: Clock) -> None:
    pair = TunnelPair(clock=clock)
    end = End()
    pair.sandbox.open_stream(end)
    await until(lambda: bool(pair.gateway_owner.streams))
    pair.gateway.go_away()
    await until(lambda: not pair.sandbox.can_open)
    with pytest.raises(TunnelUnavailable):
        pair.sandbox.open_stream(End())
    pair.gateway_owner.streams[0].write(b"last words")
    await end.until_received(b"last words")


# Signs of life ---------------------------------------------------------------------------------------


async def test_a_ping_every_ten_seconds_and_the_round_trip(clock: Clock) -> None:
    pair = TunnelPair(clock=clock)
    await until(lambda: pair.sandbox.round_trip > 0 and pair.gateway.round_trip > 0)
    side = OneSide(clock)
    await side.peer.hears("ping 0 SYN 0")
    side.peer.send(frame(PING, ACK, 0, 0))
    await until(lambda: side.tunnel.round_trip > 0)
    let_time_pass(clock, 11)
    await side.peer.hears("ping 0 SYN 1")
    assert side.tunnel.is_open


async def test_a_peer_that_answers_no_ping_is_dead_after_thirty_seconds(clock: Clock) -> None:
    side = OneSide(clock)
    end = End()
    side.tunnel.open_stream(end)
    for _ in range(2):
        let_time_pass(clock, 11)
        side.owner.controls.clear()
        side.peer.send(b"{}", TEXT)  # what it says otherwise does not matter
        await until(lambda: bool(side.owner.controls))
        assert side.tunnel.is_open
    let_time_pass(clock, 11)
    assert await side.lost() == (None, "the peer answers no ping")
    await end.until_event("lost")
    assert isinstance(end.error, ConnectionResetError)


# Ends ------------------------------------------------------------------------------------------------


async def test_close_tells_both_owners_the_code_and_the_streams_a_reset(clock: Clock) -> None:
    pair = TunnelPair(clock=clock)
    mine = End()
    pair.sandbox.open_stream(mine)
    mine.transport.write(b"said before")
    await until(lambda: bool(pair.gateway_owner.accepted))
    theirs = cast(End, pair.gateway_owner.accepted[0])
    await theirs.until_received(b"said before")
    theirs.transport.write(b"last answer")
    pair.gateway.close(websocket.DRAINING, "draining")
    assert not pair.gateway.is_open
    await until(lambda: bool(pair.sandbox_owner.losses and pair.gateway_owner.losses))
    assert pair.sandbox_owner.losses == pair.gateway_owner.losses == [(4001, "draining")]
    assert mine.received == b"last answer"
    for end in (mine, theirs):
        await end.until_event("lost")
        assert end.events.count("lost") == 1
        assert isinstance(end.error, ConnectionResetError)
    pair.gateway.close(websocket.REVOKED, "again")
    pair.gateway.abort()
    pair.sandbox.send_control({})
    with pytest.raises(TunnelUnavailable):
        pair.sandbox.open_stream(End())
    assert (pair.sandbox.stream_count, pair.gateway.stream_count) == (0, 0)


async def test_a_close_that_is_not_answered_ends_all_the_same(clock: Clock) -> None:
    side = OneSide(clock)
    side.peer.transport.pause_reading()
    side.tunnel.close(websocket.EXPIRED, "expired")
    let_time_pass(clock, CLOSE_SECONDS + 1)
    assert await side.lost() == (4004, "expired")


async def test_a_close_of_the_peer_is_answered(clock: Clock) -> None:
    side = OneSide(clock, is_client=True)
    side.peer.send(close_payload(websocket.REPLACED, "a newer one\n"), websocket.CLOSE)
    await side.peer.hears("close 4002 ''")
    assert await side.lost() == (4002, "'a newer one\\n'")


async def test_a_close_without_a_code(clock: Clock) -> None:
    side = OneSide(clock)
    side.peer.send(b"", websocket.CLOSE)
    await side.peer.hears("close None ''")
    assert await side.lost() == (None, "")


async def test_an_end_without_a_close_frame(clock: Clock) -> None:
    side = OneSide(clock)
    side.peer.transport.close()
    assert await side.lost() == (None, "the peer ended the connection without a close frame")


async def test_a_connection_that_is_reset(clock: Clock) -> None:
    side = OneSide(clock)
    end = End()
    side.tunnel.open_stream(end)
    side.peer.transport.abort()
    assert (await side.lost())[1].startswith("the connection was lost")
    await end.until_event("lost")
    assert isinstance(end.error, ConnectionResetError)


async def test_abort(clock: Clock) -> None:
    side = OneSide(clock)
    side.tunnel.abort()
    assert await side.lost() == (None, "aborted here")
    await until(lambda: side.peer.is_lost)


BREAKS = [
    (b"\x82\x00", "an unmasked frame"),
    (message(BINARY, frame(DATA, 0, 7, b"x"), MASK), "a frame for a stream that was never opened"),
    (message(BINARY, frame(GO_AWAY, 0, 0, 9), MASK), "a go-away that means nothing"),
    (message(TEXT, b"\xff", MASK), "a text message that is not UTF-8"),
    (message(BINARY, b"", MASK) * (EMPTY_BURST + 1), "frames without a meaning"),
    (message(BINARY, frame(DATA, SYN, 1) + frame(DATA, 0, 1) * (EMPTY_BURST + 1), MASK), "frames without a meaning"),
    (
        message(BINARY, frame(DATA, SYN, 1) + frame(WINDOW_UPDATE, 0, 1) * (EMPTY_BURST + 1), MASK),
        "frames without a meaning",
    ),
    (message(BINARY, frame(PING, SYN, 0) * (PINGS_BURST + 1), MASK), "more pings than a sandbox needs"),
    (message(websocket.PING, b"", MASK) * (PINGS_BURST + 1), "more pings than a sandbox needs"),
    (message(TEXT, b"{}", MASK) * (CONTROLS_BURST + 1), "more control messages than a sandbox needs"),
    (
        b"".join(
            message(BINARY, frame(DATA, SYN, number) + frame(WINDOW_UPDATE, RST, number), MASK)
            for number in range(1, 2 * RESETS_BURST + 2, 2)
        ),
        "more resets than a sandbox needs",
    ),
    (
        b"".join(message(BINARY, frame(DATA, SYN, 2 * number + 1), MASK) for number in range(RESETS_BURST + 1025)),
        "more resets than a sandbox needs",
    ),
]


@pytest.mark.parametrize(("lie", "reason"), BREAKS)
async def test_a_peer_that_breaks_the_protocol(clock: Clock, lie: bytes, reason: str) -> None:
    side = OneSide(clock)
    end = End()
    side.tunnel.open_stream(end)
    await side.peer.hears("SYN 0")
    side.tunnel.data_received(lie)
    await until(lambda: not side.tunnel.is_open)  # a long one takes several turns
    side.tunnel.data_received(lie)  # not read any more
    await side.peer.hears("close 1008")
    side.peer.transport.close()
    code, told = await side.lost()
    assert code == websocket.PROTOCOL
    assert told.startswith(reason)
    await end.until_event("lost")


async def test_a_gateway_that_asks_and_does_not_read_the_answers(clock: Clock) -> None:
    side = OneSide(clock, is_client=True)
    side.tunnel.pause_writing()
    side.tunnel.data_received(message(BINARY, frame(PING, SYN, 0) * 4000, None) * (MAX_ANSWERS // 4000 + 1))
    side.peer.transport.close()
    code, told = await side.lost()
    assert (code, told) == (websocket.PROTOCOL, "the peer asks and does not read the answers")


async def test_a_gateway_may_reset_and_tell_as_much_as_it_must(clock: Clock) -> None:
    side = OneSide(clock, is_client=True)
    side.tunnel.data_received(message(TEXT, b"{}", None) * (CONTROLS_BURST + 1))
    for number in range(2, 2 * RESETS_BURST + 4, 2):
        frames = frame(DATA, SYN, number) + frame(WINDOW_UPDATE, RST, number)
        side.tunnel.data_received(message(BINARY, frames, None))
    assert side.tunnel.is_open
    assert len(side.owner.controls) == CONTROLS_BURST + 1


async def test_a_peer_that_breaks_the_protocol_and_stays(clock: Clock) -> None:
    side = OneSide(clock)
    side.tunnel.data_received(b"\x00\x00")
    await side.peer.hears("close 1008")
    assert "go-away 0 1" in side.peer.lines
    assert not side.owner.losses
    let_time_pass(clock, CLOSE_SECONDS + 1)
    assert (await side.lost())[0] == websocket.PROTOCOL


async def test_a_defect_of_ours_closes_with_1011(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    side = OneSide(clock)

    def fail(text: bytes) -> None:
        raise RuntimeError("a defect")

    side.owner.control_received = fail  # type: ignore[method-assign]  # the owner's defect
    with caplog.at_level(logging.CRITICAL):
        side.tunnel.data_received(message(TEXT, b"{}", MASK))
    await side.peer.hears("close 1011 'internal error'")
    side.peer.transport.close()
    assert await side.lost() == (1011, "internal error")


async def test_a_defect_while_sending_closes_with_1011(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    side = OneSide(clock)
    await side.peer.hears("ping")
    end = End()
    stream = side.tunnel.open_stream(end)
    stream.mux.unsent_bytes += 1  # the books are wrong
    with caplog.at_level(logging.CRITICAL):
        await side.peer.hears("close 1011 'internal error'")
    await end.until_event("lost")
    side.peer.transport.close()
    assert await side.lost() == (1011, "internal error")


async def test_an_owner_that_fails_to_take_a_stream_loses_that_stream(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    side = OneSide(clock)

    def fail() -> asyncio.Protocol:
        raise RuntimeError("a defect")

    side.owner._accept = fail
    with caplog.at_level(logging.CRITICAL):
        side.tunnel.data_received(message(BINARY, frame(DATA, SYN, 1, b"head"), MASK))
    await side.peer.hears("window 1 RST")
    assert side.tunnel.is_open


@pytest.mark.parametrize("at", ["made", "data", "resume"])
async def test_a_tunnel_may_be_closed_from_inside_any_call(clock: Clock, at: str) -> None:
    side = OneSide(clock)

    class Closes(End):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self._now("made")

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.write(bytes(100_000))
            self._now("data")

        def resume_writing(self) -> None:
            super().resume_writing()
            self._now("resume")

        def _now(self, event: str) -> None:
            if event == at:
                side.tunnel.close(websocket.REVOKED, "revoked")

    side.owner._accept = Closes
    side.peer.send(frame(DATA, SYN, 1, b"head") + frame(DATA, SYN, 3, b"head"))
    await side.peer.hears("close 4003")
    side.peer.transport.close()
    assert await side.lost() == (4003, "revoked")
    for end in side.owner.accepted:
        await cast(End, end).until_event("lost")
        assert cast(End, end).events.count("lost") == 1
    # Nothing follows a close frame (RFC 6455 section 5.5.1).
    assert side.peer.raw.endswith(message(websocket.CLOSE, close_payload(websocket.REVOKED, "revoked"), None))


async def test_a_tunnel_closed_while_it_sends_leaves_no_hole_in_a_stream(clock: Clock) -> None:
    class Closes(End):
        def resume_writing(self) -> None:
            self.transport.write(b"tail")
            pair.sandbox.close(websocket.REVOKED, "revoked")

    pair = TunnelPair(clock=clock)
    writer = Closes()
    pair.sandbox.open_stream(writer)
    await until(lambda: bool(pair.gateway_owner.accepted))
    written = bytes(range(250)) * 400
    writer.transport.write(written)
    reader = cast(End, pair.gateway_owner.accepted[0])
    await reader.until_event("lost")
    assert reader.received
    assert written.startswith(reader.received)


async def test_a_stream_closed_here_that_the_peer_leaves_open_is_reset_in_the_end(clock: Clock) -> None:
    side = OneSide(clock)
    end = End()
    side.tunnel.open_stream(end)
    await side.peer.hears("SYN 0")
    side.peer.send(frame(WINDOW_UPDATE, ACK, 2))
    end.transport.close()
    await end.until_event("lost")
    await side.peer.hears("data 2 FIN 0")
    assert side.tunnel.stream_count == 1
    side.peer.send(frame(PING, ACK, 0, 0))
    await until(lambda: not side.tunnel.session.is_ping_unanswered)
    let_time_pass(clock, ORPHAN_SECONDS + 1)
    await side.peer.hears("window 2 RST")
    assert side.tunnel.stream_count == 0


# Memory ----------------------------------------------------------------------------------------------


async def test_an_idle_tunnel_is_small(clock: Clock) -> None:
    """The tunnel alone; asyncio's transport is a page at most (docs/performance.md has it measured with sockets)."""
    loop = asyncio.get_running_loop()
    pair = TunnelPair(clock=clock)
    transport = memory_pair(loop, asyncio.Protocol(), asyncio.Protocol())[0]

    def make() -> Tunnel:
        return Tunnel(Owner(), is_client=False, clock=clock, budget=pair.gateway_budget, limits=pair.gateway.limits)

    make().start(transport)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tunnels = [make() for _ in range(50)]
        each = (tracemalloc.get_traced_memory()[0] - before) / len(tunnels)
    finally:
        tracemalloc.stop()
    assert each < 6 * 1024


async def test_a_paused_reader_holds_its_window_and_the_budget_counts_it(clock: Clock) -> None:
    pair = TunnelPair(clock=clock)
    reader = End()
    pair.gateway_owner._accept = lambda: reader
    writer = End()
    pair.sandbox.open_stream(writer)
    await until(lambda: bool(pair.gateway_owner.streams))
    reader.transport.pause_reading()
    for _ in range(40):
        writer.transport.write(bytes(50_000))
        await asyncio.sleep(0)
    await until(lambda: pair.gateway_budget.held == 256 * 1024)
    for _ in range(20):
        await asyncio.sleep(0)
    assert pair.gateway_budget.held == 256 * 1024
    assert cast(TunnelStream, writer.transport).get_write_buffer_size() == 2_000_000 - 256 * 1024
    reader.transport.resume_reading()
    await reader.until_received(bytes(2_000_000))
    assert pair.gateway_budget.held == 0


async def test_over_budget_no_credit_is_returned_and_then_the_largest_is_reset(clock: Clock) -> None:
    pair = TunnelPair(clock=clock, budget_bytes=300_000)
    writers = [End() for _ in range(3)]
    for writer in writers:
        pair.sandbox.open_stream(writer)
    await until(lambda: len(pair.gateway_owner.streams) == 3)
    readers = [cast(End, end) for end in pair.gateway_owner.accepted]
    readers[0].transport.pause_reading()
    readers[1].transport.pause_reading()
    writers[0].transport.write(bytes(262_144))
    writers[1].transport.write(bytes(60_000))
    await until(lambda: pair.gateway_budget.is_over)
    writers[2].transport.write(bytes(400_000))
    await until(lambda: len(readers[2].received) == 262_144)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(readers[2].received) == 262_144  # taken, but nobody gets credit
    readers[1].transport.resume_reading()
    await readers[2].until_received(bytes(400_000))
    readers[1].transport.pause_reading()
    writers[1].transport.write(bytes(150_000))
    await readers[0].until_event("lost")
    assert "can hold" in str(readers[0].error)
    await writers[0].until_event("lost")
    assert "lost" not in readers[1].events + readers[2].events
    assert pair.gateway_budget.held == 150_000


@BUILT_IN
async def test_t6_a_long_read_of_small_frames_leaves_others_their_turn(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sallyport.net.tunnel.TURN_SECONDS", 0.0)
    side = OneSide(clock)
    count = 10_000
    frames = b"".join(frame(DATA, 0, 1, b"%d" % (number % 10)) for number in range(count))
    sent = message(BINARY, frame(DATA, SYN, 1), MASK)
    sent += b"".join(message(BINARY, frames[at : at + 60_000], MASK) for at in range(0, len(frames), 60_000))
    side.tunnel.data_received(sent[:-100])
    assert not side.transport.is_reading()
    side.tunnel.data_received(sent[-100:])  # what a transport had read already
    end = cast(End, side.owner.accepted[0])
    assert len(end.received) < count
    await until(lambda: len(end.received) == count)
    assert end.received == b"0123456789" * (count // 10)
    await until(side.transport.is_reading)
    assert side.tunnel.bytes_in == len(sent)


@BUILT_IN
async def test_a_tunnel_that_is_lost_between_two_turns_reads_no_further(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sallyport.net.tunnel.TURN_SECONDS", 0.0)
    side = OneSide(clock)
    side.tunnel.data_received(message(BINARY, frame(DATA, SYN, 1) + frame(DATA, 0, 1, bytes(60_000)), MASK))
    side.tunnel.data_received(message(TEXT, b"x" * 60_000, MASK) * 3)
    side.tunnel.abort()
    await side.lost()
    await asyncio.sleep(0)
    assert len(side.owner.controls) <= 1


@BUILT_IN
async def test_t6_a_message_for_many_streams_leaves_others_their_turn(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits keeps its order, is dropped by a reset, and comes before the end of its stream."""
    monkeypatch.setattr("sallyport.net.tunnel.TURN_SECONDS", -1.0)
    side = OneSide(clock)
    ids = range(1, 2 * 3 * TURN_PIECES, 2)
    sent = b"".join(frame(DATA, SYN, number, b"a") for number in ids)
    sent += b"".join(frame(DATA, 0, number, b"b") for number in ids)
    sent += frame(WINDOW_UPDATE, RST, ids[-1]) + frame(DATA, FIN, ids[-2], b"c")
    side.tunnel.data_received(message(BINARY, sent, MASK))
    ends = [cast(End, end) for end in side.owner.accepted]
    assert [end.received for end in ends] == [b"a"] * (TURN_PIECES - 1) + [b""] * (len(ids) - TURN_PIECES + 1)
    assert not side.transport.is_reading()
    side.tunnel.data_received(message(BINARY, frame(DATA, 0, 1, b"d"), MASK))  # what a transport had read already
    await until(side.transport.is_reading)
    assert [end.received for end in ends] == [b"abd"] + [b"ab"] * (len(ids) - 3) + [b"abc", b""]
    assert ends[-2].events[:2] == ["made", "eof"]
    assert isinstance(ends[-1].error, ConnectionResetError)
    assert side.tunnel.budget.held == 0


@BUILT_IN
async def test_t6_a_piece_that_may_end_a_large_head_is_a_reason_to_look_at_the_clock(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("sallyport.net.tunnel.read_clock", lambda: now)
    monkeypatch.setattr("sallyport.net.tunnel.TURN_SECONDS", 1.0)

    class Dear(End):
        def data_received(self, data: bytes) -> None:
            nonlocal now
            super().data_received(data)
            now += 1.0

    side = OneSide(clock)
    side.owner._accept = Dear
    first, large = b"a" * (LARGE_PIECE_BYTES - 1), b"a" * LARGE_PIECE_BYTES
    pieces = [first, large, *[large] * 5]
    sent = b"".join(frame(DATA, SYN, 2 * at + 1, piece) for at, piece in enumerate(pieces))
    side.tunnel.data_received(message(BINARY, sent, MASK))
    ends = [cast(End, end) for end in side.owner.accepted]
    # The small one starts no clock. The first large one does, and what comes at its limit is not behind it.
    assert [bool(end.received) for end in ends] == [True] * 3 + [False] * 4
    assert not side.transport.is_reading()
    await asyncio.sleep(0)
    assert [bool(end.received) for end in ends] == [True] * 5 + [False] * 2
    await until(side.transport.is_reading)
    assert [end.received for end in ends] == pieces


@BUILT_IN
async def test_a_tunnel_that_ends_gives_no_turn_to_who_waits_for_one(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sallyport.net.tunnel.TURN_SECONDS", -1.0)
    side = OneSide(clock)
    ids = range(1, 2 * 3 * TURN_PIECES, 2)
    side.tunnel.data_received(message(BINARY, b"".join(frame(DATA, SYN, number, b"a") for number in ids), MASK))
    side.tunnel.close(1000, "enough")
    ends = [cast(End, end) for end in side.owner.accepted]
    await until(lambda: all("lost" in end.events for end in ends))
    assert sum(len(end.received) for end in ends) == TURN_PIECES - 1
    assert side.tunnel.budget.held == 0
