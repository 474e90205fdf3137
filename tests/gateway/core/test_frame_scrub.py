"""Frames of a server after a 101 (C3): every cut, fragments, control frames between them, and what is no frame."""

import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.frame_scrub import MAX_WAITING_HEADS, RUN_BYTES, FrameScrubber
from gateway.core.scrub import Needles, Scrubber
from sallyport.secret import Secret
from sallyport.wire.websocket import BINARY, CLOSE, CONTINUATION, PING, TEXT, MessageReader, message
from tests.support.second_scrub import scrub_frames

SECRET = b"canary-5e81c0ffee+/=Zq"
NEEDLES = Needles.of(Secret(SECRET))


def frame(opcode: int, payload: bytes, *, final: bool = True) -> bytes:
    whole = message(opcode, payload, None)
    return whole if final else bytes([whole[0] & 0x7F]) + whole[1:]


def scrub(data: bytes, cuts: list[int]) -> tuple[bytes, int]:
    scrubber = Scrubber(NEEDLES)
    frames = FrameScrubber(scrubber)
    edges = [0, *sorted(min(at, len(data)) for at in cuts), len(data)]
    out = b"".join(frames.feed(data[start:end]) for start, end in pairwise(edges))
    return out + frames.finish(), scrubber.matches


def every_cut(data: bytes) -> tuple[bytes, int]:
    """Scrub with each cut alone, byte by byte and whole; require one outcome."""
    (outcome,) = {scrub(data, cuts) for cuts in ([], list(range(len(data))), *([at] for at in range(len(data))))}
    return outcome


class Messages:
    """A MessageSink that keeps the payloads."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []

    def binary_received(self, data: bytes) -> None:
        self.payloads.append(data)

    def text_received(self, data: bytes) -> None:
        self.payloads.append(data)

    def ping_received(self, payload: bytes) -> None:
        self.payloads.append(payload)

    def close_received(self, code: int | None, reason: str) -> None:
        self.payloads.append(reason.encode())


def payloads_of(data: bytes) -> list[bytes]:
    messages = Messages()
    MessageReader(messages, is_client=True).feed(data)
    return messages.payloads


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_frames_of_every_length_are_passed_on(size: int) -> None:
    data = frame(BINARY, bytes(size)) + frame(TEXT, b"next")
    assert scrub(data, [1, 2, 3, 5, 9, 11]) == scrub(data, []) == (data, 0)


@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING])
def test_c3_a_secret_in_a_frame_is_blanked_wherever_it_is_cut(opcode: int) -> None:
    data = frame(opcode, b"<" + SECRET + b">") + frame(TEXT, b"clean")
    assert every_cut(data) == (data.replace(SECRET, b"b" * len(SECRET)), 1)


def test_c3_a_secret_in_the_reason_of_a_close_is_blanked() -> None:
    out, matches = every_cut(frame(CLOSE, b"\x03\xe8" + SECRET))
    assert (payloads_of(out), matches) == ([b"b" * len(SECRET)], 1)


@pytest.mark.parametrize("at", range(1, len(SECRET)))
def test_c3_a_secret_across_fragments_is_blanked(at: int) -> None:
    data = frame(TEXT, b"<" + SECRET[:at], final=False) + frame(CONTINUATION, SECRET[at:] + b">")
    out, matches = every_cut(data)
    assert (payloads_of(out), matches) == ([b"<" + b"b" * len(SECRET) + b">"], 1)
    assert len(out) == len(data)


@pytest.mark.parametrize("form", [SECRET, SECRET.hex().encode()])
@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_c3_a_secret_across_many_fragments_is_blanked(form: bytes, size: int) -> None:
    text = b"<" + form + b">"
    fragments = [text[at : at + size] for at in range(0, len(text), size)]
    data = frame(TEXT, b"", final=False)
    data += b"".join(frame(CONTINUATION, fragment, final=False) for fragment in fragments)
    data += frame(CONTINUATION, b"")
    out, matches = every_cut(data)
    assert (payloads_of(out), matches) == ([b"<" + b"b" * len(form) + b">"], 1)
    assert len(out) == len(data)


def test_c3_fragments_without_end_do_not_gather() -> None:
    frames = FrameScrubber(Scrubber(NEEDLES))
    begun, empty = frame(TEXT, SECRET[:9], final=False), frame(CONTINUATION, b"", final=False)
    assert frames.feed(begun + empty * MAX_WAITING_HEADS) == begun[:2]
    assert frames.feed(empty) == begun[2:] + empty * (MAX_WAITING_HEADS + 1)


def test_c3_what_begins_a_secret_is_not_held_at_the_end_of_a_message() -> None:
    frames = FrameScrubber(Scrubber(NEEDLES))
    for data in (frame(TEXT, SECRET[:9]), frame(TEXT, b"", final=False) + frame(CONTINUATION, SECRET[:9])):
        assert frames.feed(data) == data
        assert frames.feed(data[:3]) + frames.feed(data[3:]) == data


def test_c3_what_begins_a_secret_waits_for_the_next_fragment_and_for_nothing_else() -> None:
    frames = FrameScrubber(Scrubber(NEEDLES))
    begun = frame(TEXT, SECRET[:9], final=False)
    ping, empty = frame(PING, b"p"), frame(CONTINUATION, b"", final=False)
    assert frames.feed(begun) == begun[:2]
    assert frames.feed(empty) == b""
    assert frames.feed(empty) == b""
    # A ping waits behind nothing.
    assert frames.feed(ping) == begun[2:] + empty + empty + ping
    assert frames.feed(begun) == begun[:2]
    assert frames.feed(ping) == begun[2:] + ping
    assert frames.feed(frame(CONTINUATION, SECRET[9:])) == frame(CONTINUATION, SECRET[9:])


def test_what_is_under_way_is_given_out_at_the_end() -> None:
    for data in (b"\x81", b"\x81\x7e\x01", frame(TEXT, SECRET)[:9], frame(TEXT, SECRET[:4], final=False) + b"\x80\x7f"):
        assert scrub(data, []) == (data, 0)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(message(TEXT, b"masked", b"mask"), id="masked"),
        pytest.param(b"\x81\xfe\x00\x04", id="masked, and the secret where its mask would be"),
        pytest.param(b"\xc1\x01x", id="compressed"),
        pytest.param(b"HTTP/1.1 200 OK", id="no frame"),
        pytest.param(b"\x82\x7f\x80" + bytes(7), id="longer than any"),
    ],
)
def test_c3_from_what_is_no_frame_on_bytes_are_searched_as_they_come(data: bytes) -> None:
    out, matches = every_cut(frame(TEXT, b"fine") + data + SECRET + b"!")
    assert (out, matches) == (frame(TEXT, b"fine") + data + b"b" * len(SECRET) + b"!", 1)


@pytest.mark.parametrize("form", [SECRET, SECRET.hex().encode()])
def test_c3_a_secret_that_stands_where_a_frame_would_is_blanked(form: bytes) -> None:
    assert every_cut(form + b"!") == (b"b" * len(form) + b"!", 1)


def test_c3_what_begins_a_secret_before_what_is_no_frame_keeps_its_place() -> None:
    data = (
        frame(TEXT, SECRET[:9], final=False) + frame(CONTINUATION, SECRET[9:12], final=False)[:1] + b"\xff" + b"x" * 9
    )
    assert every_cut(data) == (data, 0)


@pytest.mark.parametrize("payload", [b"", b"x", SECRET[:1]], ids=["empty", "of a byte", "of a secret's first byte"])
@pytest.mark.parametrize(("opcode", "final"), [(TEXT, True), (PING, True), (CONTINUATION, False)])
def test_short_frames_are_not_looked_at_one_by_one(opcode: int, final: bool, payload: bytes) -> None:
    """A server that sends nothing else would hold up all others."""
    count = 10_000
    data = frame(opcode, payload, final=final) * count
    out, calls = count_calls(data)
    assert out == data
    assert calls < count / 10


def count_calls(data: bytes) -> tuple[bytes, int]:
    """Scrub data in one read; return what came of it, and how many functions were called on the way."""
    frames = FrameScrubber(Scrubber(NEEDLES))
    calls = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        out = frames.feed(data)
    finally:
        sys.setprofile(before)
    return out + frames.finish(), calls


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param([frame(CONTINUATION, bytes([code]), final=False) for code in SECRET], id="fragments"),
        pytest.param([b"\0\x7e\0\1%c" % code for code in SECRET], id="longer heads than they need"),
        pytest.param(
            [frame(CONTINUATION, bytes([code]), final=False) + frame(PING, b"") for code in SECRET], id="pings between"
        ),
        pytest.param(
            [frame(CONTINUATION, bytes([code]), final=False) + b"\0\0" for code in SECRET], id="empty between"
        ),
        pytest.param([frame(TEXT, bytes([code])) for code in SECRET], id="messages"),
    ],
)
def test_c3_frames_that_step_through_a_secret_are_not_looked_at_one_by_one(sent: list[bytes]) -> None:
    """Something is held all the time: a search for each frame alone made a read take a second."""
    repeated = b"".join(sent) * (10_000 // len(sent))
    out, calls = count_calls(repeated)
    assert out == scrub_frames(repeated, NEEDLES)
    assert calls < 10_000 / 10


def test_c3_a_secret_of_every_byte_there_is_is_blanked() -> None:
    """No byte is left to tell messages apart by; no credential is so."""
    secret = bytes(range(256))
    needles = Needles.of(Secret(secret))
    fragments = b"".join(frame(CONTINUATION, secret[at : at + 9], final=False) for at in range(0, 256, 9))
    for data in (frame(TEXT, b"", final=False) + fragments + frame(CONTINUATION, b""), frame(TEXT, b"x") * 9):
        frames = FrameScrubber(Scrubber(needles))
        assert frames.feed(data) + frames.finish() == scrub_frames(data, needles)


@pytest.mark.parametrize("between", [frame(PING, b""), frame(CONTINUATION, b"61"), frame(CONTINUATION, b"")])
def test_c3_what_is_held_unseen_of_a_secret_that_repeats_itself_is_of_one_message(between: bytes) -> None:
    """More is held of it than begins a match, and what stands behind it in a run counted on none of that."""
    needles = Needles.of(Secret(b"a" * 1022))
    fragment = frame(CONTINUATION, b"61", final=False)
    data = fragment * 65 + between + fragment * 4
    frames = FrameScrubber(Scrubber(needles))
    assert frames.feed(data).startswith(fragment * 65 + between)
    assert frames.finish() == (fragment * 4)[2:]


@pytest.mark.parametrize("more", [-1, 0, 1, MAX_WAITING_HEADS // 2, MAX_WAITING_HEADS, 3 * MAX_WAITING_HEADS])
@pytest.mark.parametrize("size", [1, 9])
def test_c3_fragments_that_are_too_many_to_wait_are_let_go_wherever_they_are_cut(size: int, more: int) -> None:
    begun = b"".join(frame(CONTINUATION, SECRET[at : at + size], final=False) for at in range(0, 9, size))
    empty = frame(CONTINUATION, b"", final=False) * (MAX_WAITING_HEADS - 9 // size + more)
    data = begun + empty + frame(CONTINUATION, SECRET[9:], final=False) + frame(CONTINUATION, b"x")
    edge = len(begun + empty)
    (outcome,) = {
        scrub(data, cuts) for cuts in ([], list(range(len(data))), *([edge + at] for at in range(-5, 6)), [edge // 2])
    }
    assert (outcome[0] == data) is (outcome[1] == 0) is (more > 0)


@pytest.mark.parametrize("size", [1, 5, len(SECRET)])
@pytest.mark.parametrize("final", [False, True], ids=["of one message", "each a message"])
def test_c3_a_secret_among_many_short_frames_is_blanked(size: int, final: bool) -> None:
    """At the border of what is searched together, too; in frames that are messages there is none but in one of them."""
    short = frame(CONTINUATION, b"x", final=final)
    pieces = [SECRET[at : at + size] for at in range(0, len(SECRET), size)]
    for before in (0, 1, 3, RUN_BYTES // 3 - 9, RUN_BYTES // 3 - 1, RUN_BYTES // 3, 2 * RUN_BYTES):
        secret = b"".join(frame(CONTINUATION, piece, final=final) for piece in pieces)
        data = (short * before + secret) * 2 + short * 50
        out, matches = scrub(data, [])
        assert (out, matches) == scrub(data, list(range(len(data))))
        assert matches == (2 if not final or size == len(SECRET) else 0)
        assert (out == data) is (matches == 0)
        assert len(out) == len(data)


HEX = SECRET.hex().encode()
slices = st.tuples(st.sampled_from([SECRET, HEX]), st.integers(0, 44), st.integers(0, 44)).map(
    lambda cut: cut[0][min(cut[1:]) : max(cut[1:])]
)
frames_sent = st.builds(
    lambda opcode, payload, final: frame(opcode, payload, final=final),
    st.sampled_from([CONTINUATION, CONTINUATION, TEXT, BINARY, CLOSE, PING]),
    slices | st.just(SECRET) | st.binary(max_size=130),
    st.sampled_from([False, False, True]),
)
# Mostly the fragments of a form, cut anywhere: what a frame's head may stand in.
in_fragments = st.tuples(st.sampled_from([SECRET, HEX]), st.lists(st.integers(0, 44), max_size=6)).map(
    lambda told: b"".join(
        frame(TEXT, told[0][start:end], final=False) for start, end in pairwise([0, *sorted(told[1]), len(told[0])])
    )
)


@given(
    st.lists(frames_sent | in_fragments | st.binary(max_size=20) | st.just(SECRET), max_size=6).map(b"".join),
    st.lists(st.integers(0, 600), max_size=8),
)
def test_property_whatever_is_sent_is_scrubbed_as_if_all_of_it_were_here(data: bytes, cuts: list[int]) -> None:
    out, matches = scrub(data, cuts)
    assert (out, matches) == scrub(data, [])
    assert out == scrub_frames(data, NEEDLES)


# A server that steps through forms of a secret in fragments of a few bytes, in which messages end anywhere.
steps = st.tuples(
    st.sampled_from([SECRET, HEX, SECRET[:-1], b"x" + SECRET]),
    st.sampled_from([b"\0%c", b"\0\x7e\0%c", b"\x80%c", b"\0\0\0%c", b"\x89\0\0%c", b"\0\1x\0%c"]),
    st.integers(1, 4),
    st.integers(1, 60),
).map(
    lambda told: (
        b"".join(
            told[1] % len(told[0][at : at + told[2]]) + told[0][at : at + told[2]]
            for at in range(0, len(told[0]), told[2])
        )
        * told[3]
    )
)


@given(st.lists(steps | frames_sent, min_size=1, max_size=6).map(b"".join), st.lists(st.integers(0, 9_000), max_size=8))
def test_property_runs_of_short_frames_are_scrubbed_as_if_each_were_looked_at(data: bytes, cuts: list[int]) -> None:
    outcome = scrub(data, cuts)
    assert outcome == scrub(data, []) == scrub(data, list(range(len(data))))
    assert outcome[0] == scrub_frames(data, NEEDLES)


def test_repr_says_where_it_stands() -> None:
    frames = FrameScrubber(Scrubber(NEEDLES))
    frames.feed(frame(TEXT, SECRET)[:5])
    assert repr(frames) == "<FrameScrubber: 19 bytes of a frame to come, <Scrubber: 0 matches, 3 bytes held>>"
