"""Two sessions talking, and every lie one of them could be told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sallyport.wire.errors import LocalProtocolError, RemoteProtocolError
from sallyport.wire.yamux.frames import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    INITIAL_WINDOW_BYTES,
    NORMAL,
    PING,
    RST,
    SYN,
    WINDOW_UPDATE,
)
from sallyport.wire.yamux.session import MAX_ANSWERS
from sallyport.wire.yamux.stream_state import StreamState
from tests.support.yamux import Hearing, Side, SidePair, carry, delivered, frame, frames_in

CHUNKS = pytest.mark.parametrize("chunk", [0, 1, 7])


# Conversations ---------------------------------------------------------------------------------------


@CHUNKS
def test_question_and_answer(chunk: int) -> None:
    pair = SidePair()
    stream = pair.client.open()
    pair.client.session.write(stream, b"question")
    pair.deliver(chunk)
    assert pair.server.heard() == ["1 opened", "1 data b'question'"]
    served = pair.server.streams[1]
    pair.server.session.write(served, b"answer")
    pair.server.session.end(served)
    pair.client.session.end(stream)
    pair.deliver(chunk)
    assert pair.client.heard() == ["1 finished", "1 data b'answer'", "1 ended"]
    assert pair.server.heard() == ["1 ended", "1 finished"]
    assert repr(pair.client.session) == repr(pair.server.session) == "<Session 0 streams, 0 waiting, 0 writing>"


def test_syn_and_ack_travel_with_the_first_bytes() -> None:
    pair = SidePair()
    stream = pair.client.open()
    pair.client.session.write(stream, b"head")
    opening = pair.client.take_all()
    assert frames_in(opening) == ["data 1 SYN 4"]
    pair.server.on_open = lambda served: pair.server.session.write(served, b"ok")
    carry(opening, pair.server)
    assert frames_in(pair.server.take_all()) == ["data 1 ACK 2"]


def test_a_stream_without_bytes_is_opened_and_accepted_all_the_same() -> None:
    pair = SidePair()
    pair.client.open()
    opening = pair.client.take_all()
    assert frames_in(opening) == ["data 1 SYN 0"]
    carry(opening, pair.server)
    assert frames_in(pair.server.take_all()) == ["window 1 ACK 0"]


def test_both_sides_open_with_ids_of_their_own() -> None:
    pair = SidePair()
    for _ in range(3):
        pair.client.open()
        pair.server.open()
    pair.deliver()
    assert pair.server.heard() == ["1 opened", "3 opened", "5 opened"]
    assert pair.client.heard() == ["2 opened", "4 opened", "6 opened"]


def test_a_half_close_leaves_the_other_half() -> None:
    pair = SidePair()
    stream = pair.client.open()
    pair.client.session.write(stream, b"all")
    pair.client.session.end(stream)
    out = pair.client.take_all()
    assert frames_in(out) == ["data 1 SYN|FIN 3"]
    carry(out, pair.server)
    assert pair.server.heard() == ["1 opened", "1 data b'all'", "1 ended"]
    with pytest.raises(LocalProtocolError):
        pair.client.session.write(stream, b"more")
    pair.server.session.write(pair.server.streams[1], b"still here")
    pair.deliver()
    assert pair.client.heard() == ["1 finished", "1 data b'still here'"]
    assert (stream.state, pair.server.streams[1].state) == (StreamState.LOCAL_ENDED, StreamState.REMOTE_ENDED)


def test_a_fin_waits_behind_what_was_written() -> None:
    pair = SidePair()
    stream = pair.client.open()
    pair.client.session.write(stream, bytes(INITIAL_WINDOW_BYTES + 5))
    pair.client.session.end(stream)
    carry(pair.client.take_all(), pair.server)
    served = pair.server.streams[1]
    assert served.state is StreamState.OPEN
    delivered(pair.server, served, INITIAL_WINDOW_BYTES)
    pair.deliver()
    assert pair.server.lines[-2:] == ["1 data b'\\x00\\x00\\x00\\x00\\x00'", "1 ended"]


def test_a_reset_while_data_is_in_flight() -> None:
    pair = SidePair()
    stream = pair.client.open()
    pair.deliver()
    pair.client.session.write(stream, b"12345678")
    in_flight = pair.client.take_all()
    pair.client.session.write(stream, b"never sent")
    pair.server.session.reset(pair.server.streams[1])
    carry(pair.server.take_all(), pair.client)
    carry(in_flight, pair.server)  # late, and tolerated
    assert pair.client.heard() == ["1 reset"]
    assert pair.server.heard() == ["1 opened"]
    assert pair.client.take_all() == pair.server.take_all() == b""
    assert pair.client.session.count == pair.server.session.count == 0


def test_late_frames_for_an_ended_stream_are_tolerated() -> None:
    pair = SidePair()
    stream = pair.client.open()
    pair.deliver()
    served = pair.server.streams[1]
    pair.client.session.write(stream, bytes(INITIAL_WINDOW_BYTES))
    pair.client.session.end(stream)
    carry(pair.client.take_all(), pair.server)
    pair.server.session.end(served)
    carry(pair.server.take_all(), pair.client)
    assert pair.client.session.count == 0
    carry(frame(WINDOW_UPDATE, 0, 1, 131072) + frame(WINDOW_UPDATE, RST, 1), pair.client)
    with pytest.raises(RemoteProtocolError, match="has ended"):
        carry(frame(DATA, 0, 1, b"x"), pair.client)


def test_late_bytes_are_bounded_by_what_was_left_of_the_window() -> None:
    pair = SidePair()
    pair.client.open()
    pair.deliver()
    pair.server.session.reset(pair.server.streams[1])
    late = frame(DATA, 0, 1, bytes(65536))
    carry(late * 4, pair.server)
    with pytest.raises(RemoteProtocolError, match="has ended"):
        carry(frame(DATA, 0, 1, b"x"), pair.server)


def test_a_stream_reset_before_its_syn_leaves_no_trace() -> None:
    pair = SidePair()
    stream = pair.client.open()
    pair.client.session.write(stream, b"head")
    pair.client.session.reset(stream)
    pair.client.session.reset(stream)
    assert pair.client.take_all() == b""
    pair.client.open()
    pair.deliver()
    assert pair.server.heard() == ["3 opened"]
    assert repr(pair.client.session) == "<Session 1 streams, 0 waiting, 0 writing>"


def test_a_stream_whose_far_side_has_ended_lets_nothing_come_late() -> None:
    pair = SidePair()
    stream = pair.client.open()
    pair.client.session.end(stream)
    pair.deliver()
    pair.server.session.reset(pair.server.streams[1])
    assert frames_in(pair.server.take_all()) == ["window 1 RST 0"]
    with pytest.raises(RemoteProtocolError, match="has ended"):
        carry(frame(DATA, 0, 1, b"x"), pair.server)


def test_a_fin_behind_data_that_the_sink_reset_the_stream_for_is_passed_over() -> None:
    side = Side(is_client=False)
    carry(frame(DATA, SYN, 1), side)
    sink = side.streams[1].sink
    assert isinstance(sink, Hearing)
    sink.on_data = lambda: side.session.reset(side.streams[1])
    carry(frame(DATA, FIN, 1, b"too much"), side)
    assert side.heard() == ["1 opened", "1 data b'too much'"]
    assert side.session.count == 0


def test_credit_for_a_stream_with_nothing_to_say_is_kept() -> None:
    side = Side(is_client=False)
    carry(frame(DATA, SYN, 1) + frame(WINDOW_UPDATE, 0, 1, 5) + frame(WINDOW_UPDATE, FIN, 1, 5), side)
    assert side.streams[1].credit == INITIAL_WINDOW_BYTES + 10
    assert side.heard() == ["1 opened", "1 ended"]
    assert frames_in(side.take_all()) == ["window 1 ACK 0"]


# Opening ---------------------------------------------------------------------------------------------


def test_streams_wait_here_for_their_place_in_the_backlog() -> None:
    pair = SidePair(accept_backlog=2)
    streams = [pair.client.open() for _ in range(5)]
    for number, stream in enumerate(streams):
        pair.client.session.write(stream, b"%d" % number)
    assert pair.client.session.count == 5
    assert frames_in(pair.client.take_all()) == ["data 1 SYN 1", "data 3 SYN 1"]
    carry(frame(WINDOW_UPDATE, RST, 1), pair.client)
    assert frames_in(pair.client.take_all()) == ["data 5 SYN 1"]
    pair.client.session.reset(streams[3])
    carry(frame(WINDOW_UPDATE, ACK, 3), pair.client)
    assert frames_in(pair.client.take_all()) == ["data 7 SYN 1"]
    assert streams[4].id == 7


def test_what_is_opened_beyond_the_backlog_is_reset_alone() -> None:
    side = Side(is_client=False, accept_backlog=2)
    carry(b"".join(frame(DATA, SYN, number, b"x") for number in (1, 3, 5)), side)
    assert side.heard() == ["1 opened", "1 data b'x'", "3 opened", "3 data b'x'"]
    assert frames_in(side.take_all()) == ["window 5 RST 0", "window 1 ACK 0", "window 3 ACK 0"]
    carry(frame(DATA, 0, 5, b"late") + frame(DATA, SYN, 7, b"y"), side)
    assert side.heard() == ["7 opened", "7 data b'y'"]


def test_a_reset_stream_gives_its_place_in_the_backlog_back() -> None:
    side = Side(is_client=False, accept_backlog=1)
    carry(frame(DATA, SYN, 1) + frame(DATA, RST, 1) + frame(DATA, SYN, 3), side)
    assert side.heard() == ["1 opened", "1 reset", "3 opened"]


def test_what_is_opened_beyond_the_most_streams_is_reset_alone() -> None:
    pair = SidePair(max_streams=2)
    pair.client.open()
    pair.server.open()
    pair.deliver()
    with pytest.raises(LocalProtocolError):
        pair.client.open()
    carry(frame(DATA, SYN, 3, b"x"), pair.server)
    assert frames_in(pair.server.take_all()) == ["window 3 RST 0"]
    assert pair.server.session.count == 2


def test_a_stream_refused_by_the_sink_is_reset() -> None:
    side = Side(is_client=False)
    side.on_open = side.session.reset
    carry(frame(DATA, SYN | FIN, 1, b"head"), side)
    assert side.heard() == ["1 opened"]
    assert frames_in(side.take_all()) == ["window 1 RST 0"]


# Ping and go-away ------------------------------------------------------------------------------------


def test_ping_and_answer() -> None:
    pair = SidePair()
    assert pair.client.session.ping(7)
    assert pair.client.session.is_ping_unanswered
    assert not pair.client.session.ping(8)
    out = pair.client.take_all()
    assert frames_in(out) == ["ping 0 SYN 7"]
    carry(out, pair.server)
    back = pair.server.take_all()
    assert frames_in(back) == ["ping 0 ACK 7"]
    carry(back, pair.client)
    assert pair.client.heard() == ["ping answered"]
    assert pair.client.session.ping(8)


def test_after_a_go_away_open_streams_go_on_and_no_new_ones_begin() -> None:
    pair = SidePair()
    stream = pair.client.open()
    pair.deliver()
    pair.server.session.go_away(NORMAL)
    pair.server.session.go_away(NORMAL)
    out = pair.server.take_all()
    assert frames_in(out) == ["go-away 0 0"]
    crossing = pair.client.open()
    crossed = pair.client.take_all()
    carry(out, pair.client)
    assert pair.client.heard() == ["go-away 0"]
    for side in (pair.client, pair.server):
        assert not side.session.may_open
    carry(crossed, pair.server)
    pair.client.session.write(stream, b"on")
    pair.deliver()
    assert pair.server.heard() == ["1 opened", "1 data b'on'"]
    assert crossing.state is StreamState.RESET


def test_giving_up_ends_all_without_a_word() -> None:
    pair = SidePair(accept_backlog=1)
    streams = [pair.client.open(), pair.client.open()]
    pair.client.session.write(streams[0], b"x")
    pair.client.session.ping(1)
    carry(frame(DATA, SYN, 2), pair.client)  # which owes an ACK
    pair.client.session.give_up()
    assert {stream.state for stream in streams} == {StreamState.RESET}
    assert not pair.client.session.sending.is_ready
    for stream in streams:
        pair.client.session.reset(stream)
        pair.client.session.end(stream)
        pair.client.session.return_credit(stream, 5)
    assert pair.client.take_all() == b""


# Lies ------------------------------------------------------------------------------------------------


OPENED = frame(DATA, SYN, 1, b"x")


@CHUNKS
@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        (bytes.fromhex("01 00 0001 00000001 00000000"), "unknown version or type"),
        (bytes.fromhex("00 04 0000 00000000 00000000"), "unknown version or type"),
        (frame(DATA, 0, 3, b"x"), "never opened"),
        (frame(DATA, 0, 2, b"x"), "never opened"),
        (frame(DATA, 0, 0, b"x"), "never opened"),
        (frame(WINDOW_UPDATE, 0, 3, 1), "never opened"),
        (frame(WINDOW_UPDATE, RST, 3, 0), "never opened"),
        (frame(WINDOW_UPDATE, ACK, 2, 0), "never opened"),
        (frame(DATA, SYN, 2, b"x"), "other side"),
        (frame(DATA, SYN, 0, b"x"), "other side"),
        (OPENED, "used already"),
        (frame(DATA, SYN, 9) + frame(DATA, SYN, 7), "used already"),
        (frame(WINDOW_UPDATE, ACK, 1, 0), "did not ask"),
        (frame(DATA, 16, 1, b"x"), "mean nothing"),
        (frame(DATA, SYN | ACK, 3, b"x"), "mean nothing"),
        (frame(DATA, FIN, 1) + frame(DATA, 0, 1, b"x"), "data after FIN"),
        (frame(DATA, FIN, 1) + frame(DATA, FIN, 1), "data after FIN"),
        (frame(DATA, FIN, 1) + frame(WINDOW_UPDATE, FIN, 1), "FIN received"),
        (frame(DATA, 0, 1, bytes(65536)) * 4, "into a window"),
        (frame(DATA, 0, 1, 65537), "too long"),
        (frame(DATA, 0, 1, 0xFFFFFFFF), "too long"),
        (frame(WINDOW_UPDATE, 0, 1, 0xFFFFFFFF), "too large"),
        (frame(PING, 0, 0, 1), "neither question nor answer"),
        (frame(PING, SYN | ACK, 0, 1), "neither question nor answer"),
        (frame(PING, SYN, 1, 1), "neither question nor answer"),
        (frame(PING, ACK, 0, 1), "not sent"),
        (frame(GO_AWAY, 0, 1, 0), "go-away"),
        (frame(GO_AWAY, 0, 0, 3), "go-away"),
        (frame(GO_AWAY, FIN, 0, 0), "go-away"),
    ],
)
def test_every_lie_is_refused(lie: bytes, reason: str, chunk: int) -> None:
    side = Side(is_client=False)
    carry(OPENED, side)
    with pytest.raises(RemoteProtocolError, match=reason):
        carry(lie, side, chunk if len(lie) < 1000 or not chunk else 1000)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (frame(DATA, 0, 1, b"x"), "not accepted"),
        (frame(WINDOW_UPDATE, 0, 1, 5), "not accepted"),
        (frame(DATA, FIN, 1), "not accepted"),
        (frame(WINDOW_UPDATE, ACK, 1) + frame(WINDOW_UPDATE, ACK, 1), "did not ask"),
        (frame(DATA, SYN, 1, b"x"), "other side"),
    ],
)
def test_lies_about_a_stream_of_ours(answer: bytes, reason: str) -> None:
    side = Side(is_client=True)
    side.open()
    side.take_all()
    with pytest.raises(RemoteProtocolError, match=reason):
        carry(answer, side)


@pytest.mark.parametrize("flags", [ACK, RST])
def test_an_answer_to_a_syn_that_was_not_sent(flags: int) -> None:
    side = Side(is_client=True)
    side.open()
    with pytest.raises(RemoteProtocolError):
        carry(frame(WINDOW_UPDATE, flags, 1), side)


def test_who_asks_and_does_not_read_the_answers_is_refused() -> None:
    side = Side(is_client=False)
    carry(frame(PING, SYN, 0, 1) * MAX_ANSWERS, side)
    with pytest.raises(RemoteProtocolError, match="does not read"):
        carry(frame(PING, SYN, 0, 1), side)


# Anything --------------------------------------------------------------------------------------------

any_frame = st.builds(
    frame,
    st.sampled_from([DATA, WINDOW_UPDATE, PING, GO_AWAY]),
    st.sampled_from([0, 0, 0, SYN, ACK, FIN, RST, SYN | FIN, ACK | FIN]),
    st.integers(0, 6),
    st.one_of(st.binary(max_size=40), st.integers(0, 3)),
)


@given(frames=st.lists(any_frame, max_size=30), cuts=st.lists(st.integers(1, 30), min_size=1), opens=st.integers(0, 2))
def test_chunking_never_matters_and_nothing_else_is_raised(frames: list[bytes], cuts: list[int], opens: int) -> None:
    data = b"".join(frames)
    outcomes = []
    for sizes in ([max(1, len(data))], cuts):
        side = Side(is_client=False)
        for _ in range(opens):
            side.open()
        side.take_all()
        at = turn = 0
        refused = ""
        while at < len(data) and not refused:
            try:
                side.session.receive(data[at : (at := at + sizes[turn % len(sizes)])])
            except RemoteProtocolError as error:
                refused = error.reason
            turn += 1
        outcomes.append((side.lines, refused, repr(side.session)))
    assert outcomes[0] == outcomes[1]


# What costs the peer nothing -------------------------------------------------------------------------


def test_what_costs_the_peer_nothing_is_told() -> None:
    pair = SidePair()
    stream = pair.client.open()
    pair.client.session.write(stream, b"x")
    pair.deliver()
    pair.client.session.ping(1)
    pair.deliver()
    assert (pair.server.counted, pair.client.counted) == (["ping"], [])
    for empty in (frame(DATA, 0, 1), frame(WINDOW_UPDATE, 0, 1)):
        pair.server.session.receive(empty)
    pair.client.session.reset(stream)
    pair.deliver()
    assert pair.server.counted == ["ping", "empty", "empty", "reset"]


def test_a_stream_too_many_counts_as_a_reset() -> None:
    pair = SidePair()
    for number in range(65):
        pair.server.session.receive(frame(DATA, SYN, 2 * number + 1))
    assert pair.server.counted == ["reset"]
