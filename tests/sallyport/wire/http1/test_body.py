"""Bodies: framing comes off and goes on; how the bytes were cut never matters (egress cases S2, S11)."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.body import (
    LAST_CHUNK,
    MAX_CHUNK_LINE_BYTES,
    MAX_TRAILER_BYTES,
    ChunkedReader,
    LengthReader,
    UntilCloseReader,
    frame_chunk,
    frame_end,
)

# What a reader may make of any bytes: payload so far, trailers, rest and whether it is done, or the reason it refused.
type Outcome = tuple[bytes, list[bytes], bytes, bool] | str


def read(pieces: Sequence[bytes]) -> Outcome:
    """Feed pieces as they would arrive; what comes after the end is rest."""
    reader = ChunkedReader()
    payload = b""
    rest = b""
    try:
        for piece in pieces:
            if reader.done:
                rest += piece
            else:
                payload += reader.feed(piece)
                rest = reader.rest
    except RemoteProtocolError as error:
        return error.reason
    return payload, reader.trailers, rest, reader.done


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


# --- known length, and none -------------------------------------------------------------------------------------------


def test_a_body_of_known_length() -> None:
    reader = LengthReader(5)
    assert (reader.feed(b"ab"), reader.done, reader.remaining) == (b"ab", False, 3)
    assert (reader.feed(b""), reader.done) == (b"", False)
    assert (reader.feed(b"cde"), reader.done, reader.rest) == (b"cde", True, b"")
    assert reader.trailers == []


def test_s11_what_follows_a_body_is_not_part_of_it() -> None:
    reader = LengthReader(3)
    assert (reader.feed(b"abcGET /"), reader.rest, reader.remaining) == (b"abc", b"GET /", 0)


def test_a_body_of_no_length_is_done_at_once() -> None:
    reader = LengthReader(0)
    assert reader.done
    assert (reader.feed(b""), reader.rest) == (b"", b"")
    assert (reader.feed(b"GET /"), reader.rest) == (b"", b"GET /")


def test_a_whole_body_is_not_copied() -> None:
    data = b"x" * 1000
    assert LengthReader(1000).feed(data) is data
    assert LengthReader(2000).feed(data) is data


def test_a_body_that_ends_with_its_link() -> None:
    reader = UntilCloseReader()
    assert (reader.feed(b"abc"), reader.done, reader.rest, reader.trailers) == (b"abc", False, b"", [])


@given(st.binary(max_size=40), st.integers(0, 40), st.lists(st.integers(0, 40), max_size=5))
def test_a_body_of_known_length_however_it_is_cut(data: bytes, length: int, cuts: list[int]) -> None:
    reader = LengthReader(length)
    payload = b""
    rest = b""
    for piece in cut(data, cuts):
        if reader.done:
            rest += piece
        else:
            payload += reader.feed(piece)
            rest = reader.rest
        assert len(payload) + reader.remaining == length
    assert (payload, rest) == (data[:length], data[length:])


# --- chunked: what is read --------------------------------------------------------------------------------------------


def cut(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = sorted({0, len(data), *(place for place in cuts if place < len(data))})
    return [data[start:end] for start, end in pairwise(places)]


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        (b"0\r\n\r\n", (b"", [], b"", True)),
        (b"5\r\nhello\r\n0\r\n\r\nGET", (b"hello", [], b"GET", True)),
        (b"000000000000005\r\nhello\r\n000\r\n\r\n", (b"hello", [], b"", True)),
        (b"aA\r\n" + b"x" * 0xAA + b"\r\n0\r\n\r\n", (b"x" * 0xAA, [], b"", True)),
        (b"1;a=b;c\r\nx\r\n1 \t;a\r\ny\r\n0;last\r\n\r\n", (b"xy", [], b"", True)),
        (b'1;a="\xe9 \t"\r\nx\r\n0\r\n\r\n', (b"x", [], b"", True)),
        (b"1\r\nx\r\n0\r\nX-A: 1\r\nX-B: 2\r\n\r\nrest", (b"x", [b"X-A: 1", b"X-B: 2"], b"rest", True)),
        (b"2\r\n\r\n\r\n0\r\n\r\n", (b"\r\n", [], b"", True)),
        (b"", (b"", [], b"", False)),
        (b"5\r\nhel", (b"hel", [], b"", False)),
        (b"5\r\nhello", (b"hello", [], b"", False)),
        (b"5\r\nhello\r", (b"hello", [], b"", False)),
        (b"5\r\nhello\r\n", (b"hello", [], b"", False)),
        (b"5\r", (b"", [], b"", False)),
        (b"0\r\n", (b"", [], b"", False)),
        (b"0\r\n\r", (b"", [], b"", False)),
        (b"0\r\nX-A: 1\r\n", (b"", [], b"", False)),
    ],
    ids=repr,
)
def test_chunked_whole_and_byte_by_byte(data: bytes, outcome: Outcome) -> None:
    assert read([data]) == outcome
    assert read(bytewise(data)) == outcome


def test_a_piece_of_one_chunk_is_not_copied() -> None:
    reader = ChunkedReader()
    reader.feed(b"3e8\r\n")
    data = b"x" * 500
    assert reader.feed(data) is data


# --- chunked: what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b" 5\r\nhello\r\n",
        b"5 \r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b"+5\r\nhello\r\n",
        b"-0\r\n\r\n",
        b"1_0\r\n",
        b"g\r\n",
        b"\xb2\r\n",
        b";a\r\n",
        b"5\nhello\r\n",
        b"5;a\nhello\r\n",
        b"5\r\r\nhello",
        b"5;\r\r\nhello",
        b"5;a\rb\r\nhello",
        b"5;\x00\r\nhello",
        b"\x005\r\nhello",
        b"1000000000000000\r\n",
        b"0000000000000005\r\nhello\r\n",
        b"ffffffffffffffff\r\n",
        b"5\r\nhelloX",
        b"5\r\nhello\n",
        b"5\r\nhello\rX",
        b"5\r\nhello\r\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"0\r\n\n\r\n\r\n",
        b"0\r\nX-A\r\n\r\n",
        b"0\r\nX-A: 1\n\r\n\r\n",
        b"0\r\n folded\r\n\r\n",
        b"0\r\nContent-Length: 5\r\n\r\n",
        b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"0\r\nHost: a\r\n\r\n",
        b"0\r\nAuthorization: Bearer a\r\n\r\n",
        b"0\r\nX-A: 1\r\nX-Api-Key: a\r\n\r\n",
    ],
    ids=repr,
)
def test_s2_refused_whole_and_byte_by_byte(data: bytes) -> None:
    assert isinstance(read([data]), str)
    assert read(bytewise(data)) == read([data])


def line_of(length: int) -> bytes:
    return b"1;" + b"a" * (length - 4) + b"\r\n"


def test_s2_a_chunk_size_line_has_a_limit() -> None:
    longest = line_of(MAX_CHUNK_LINE_BYTES) + b"x\r\n0\r\n\r\n"
    assert read([longest]) == read(bytewise(longest)) == (b"x", [], b"", True)
    for data in (line_of(MAX_CHUNK_LINE_BYTES + 1), b"1;" + b"a" * MAX_CHUNK_LINE_BYTES):
        assert read([data]) == read(bytewise(data)) == "an endless chunk-size line"


def test_s2_trailers_have_a_limit() -> None:
    def body(trailer_bytes: int) -> bytes:
        return b"0\r\nX-A: " + b"a" * (trailer_bytes - 9) + b"\r\n\r\n"

    fits = body(MAX_TRAILER_BYTES)
    outcome = read([fits])
    assert isinstance(outcome, tuple)
    assert outcome[3]
    assert read([fits[:-1], fits[-1:]]) == outcome
    for data in (body(MAX_TRAILER_BYTES + 1), body(MAX_TRAILER_BYTES + 4), b"0\r\n" + b"a" * MAX_TRAILER_BYTES):
        assert read([data]) == read([data[:-1], data[-1:]]) == read([data[:50], data[50:]]) == "endless trailers"


def test_s2_a_refusal_never_quotes_what_came() -> None:
    outcomes = [read([data]) for data in (b"secret\r\n", b"6\r\nsecretsecret", b"0\r\nsecret\r\n\r\n")]
    assert all(isinstance(outcome, str) and "secret" not in outcome for outcome in outcomes)


# --- framing that goes on ---------------------------------------------------------------------------------------------


def test_framing() -> None:
    assert frame_chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert frame_end([]) == LAST_CHUNK == b"0\r\n\r\n"
    assert frame_end([b"X-A: 1", b"X-B: 2"]) == b"0\r\nX-A: 1\r\nX-B: 2\r\n\r\n"


TRAILERS = st.lists(st.sampled_from([b"X-A: 1", b"X-B:", b"Grpc-Status: 0"]), max_size=3)


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=4), TRAILERS, st.binary(max_size=8), st.data())
def test_what_is_framed_reads_back(
    pieces: list[bytes], trailers: list[bytes], rest: bytes, data: st.DataObject
) -> None:
    stream = b"".join(map(frame_chunk, pieces)) + frame_end(trailers) + rest
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=8))
    assert read(cut(stream, cuts)) == (b"".join(pieces), trailers, rest, True)


# --- any bytes --------------------------------------------------------------------------------------------------------

FRAGMENTS = st.sampled_from(
    [b"0", b"1", b"5", b"a", b"\r\n", b"\r", b"\n", b";", b";a=b", b" ", b"x", b"hello", b"X-A: 1", b"Host: a", b"\x00"]
)


@given(st.lists(FRAGMENTS | st.binary(max_size=3), max_size=16).map(b"".join), st.lists(st.integers(0, 60), max_size=8))
@example(b"5\r\nhello\r\n0\r\nX-A: 1\r\n\r\nx", [6, 9])
def test_s2_any_bytes_however_they_are_cut(data: bytes, cuts: list[int]) -> None:
    # Nothing but RemoteProtocolError may come out; an error may only come earlier or later, not change.
    whole = read([data])
    assert read(cut(data, cuts)) == whole
    assert read(bytewise(data)) == whole
