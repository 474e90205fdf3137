"""What a session sends, how much of it, and in which order."""

import random

from sallyport.wire.yamux.frames import INITIAL_WINDOW_BYTES, MAX_DATA_BYTES_SENT
from tests.support.yamux import Side, SidePair, carry, delivered, frames_in


def test_no_more_is_sent_than_the_window_allows() -> None:
    pair = SidePair()
    stream = pair.client.open()
    pair.client.session.write(stream, bytes(INITIAL_WINDOW_BYTES * 2))
    pair.deliver()
    served = pair.server.streams[1]
    assert (served.window.available, stream.unsent_bytes) == (0, INITIAL_WINDOW_BYTES)
    delivered(pair.server, served, INITIAL_WINDOW_BYTES // 2)
    pair.deliver()
    assert (served.window.available, stream.unsent_bytes) == (0, INITIAL_WINDOW_BYTES // 2)


def test_what_is_written_without_credit_waits_for_it() -> None:
    pair = SidePair()
    stream = pair.client.open()
    pair.client.session.write(stream, bytes(INITIAL_WINDOW_BYTES))
    pair.deliver()
    pair.client.session.write(stream, b"more")
    assert not pair.client.session.sending.is_ready
    delivered(pair.server, pair.server.streams[1], INITIAL_WINDOW_BYTES)
    pair.deliver()
    assert pair.server.heard()[-1] == "1 data b'more'"


def test_a_frame_is_not_cut_small_only_to_fill_a_message() -> None:
    pair = SidePair()
    stream = pair.client.open()
    pair.deliver()
    pair.client.session.write(stream, bytes(2_000))
    assert pair.client.take(1_023) == b""
    assert len(pair.client.take(1_024)) == 1_024
    assert frames_in(pair.client.take_all()) == [f"data 1 {2_000 - 1_012}"]


def test_data_frames_are_cut_to_sixteen_kib_and_messages_to_sixty_four() -> None:
    pair = SidePair()
    stream = pair.client.open()
    pair.client.session.write(stream, bytes(200_000))
    messages = []
    while message := pair.client.take():
        messages.append(message)
    assert [len(message) for message in messages] == [65536, 65536, 65536, 200_000 + 13 * 12 - 3 * 65536]
    assert frames_in(messages[0]) == [f"data 1 SYN {MAX_DATA_BYTES_SENT}"] + [f"data 1 {MAX_DATA_BYTES_SENT}"] * 3


def test_writers_take_turns_and_a_small_one_waits_for_one_frame_of_each_other() -> None:
    pair = SidePair()
    bulk = [pair.client.open() for _ in range(3)]
    tick = pair.client.open()
    pair.deliver()
    for stream in bulk:
        pair.client.session.write(stream, bytes(100_000))
    pair.client.take(MAX_DATA_BYTES_SENT + 12)
    pair.client.session.write(tick, b"tick")
    order = frames_in(pair.client.take_all())[:5]
    full = MAX_DATA_BYTES_SENT
    assert order == [f"data 3 {full}", f"data 5 {full}", f"data 1 {full}", "data 7 4", f"data 3 {full - 16}"]


def test_credit_goes_before_data() -> None:
    pair = SidePair()
    stream = pair.client.open()
    pair.client.session.write(stream, bytes(INITIAL_WINDOW_BYTES))
    pair.deliver()
    served = pair.server.streams[1]
    pair.server.session.write(served, bytes(50_000))
    delivered(pair.server, served, INITIAL_WINDOW_BYTES)
    assert frames_in(pair.server.take_all())[0] == f"window 1 {INITIAL_WINDOW_BYTES}"


def test_pieces_keep_their_order_however_they_are_cut() -> None:
    pair = SidePair()
    stream = pair.client.open()
    sent = b""
    for size in (1, 16_371, 16_372, 16_373, 40_000, 3, 0, 5):
        piece = random.Random(size).randbytes(size)
        pair.client.session.write(stream, piece)
        sent += piece
    taken = b""
    while message := pair.client.take(5_000):
        assert len(message) <= 5_000
        taken += message
    carry(taken, pair.server, 999)
    sink = pair.server.streams[1].sink
    assert getattr(sink, "received", b"") == sent


def test_streams_that_come_and_go_unread_leave_nothing_in_the_queues() -> None:
    side = Side(is_client=True)
    for _ in range(100):
        stream = side.open()
        side.session.write(stream, b"head")
        side.session.reset(stream)
    assert not side.session.sending.is_ready
    assert len(side.session.sending._writers) == 0
