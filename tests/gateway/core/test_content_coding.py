"""Content codings of answers (C3): which are undone, and gzip in steps: any cut, many members, bombs, broken ends."""

import gzip
import random
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.content_coding import (
    STEP_BYTES,
    Coding,
    GzipReader,
    drop_coded_trailers,
    drop_coding,
    read_coding,
)
from gateway.core.scrub import Needles, Scrubber
from sallyport.secret import Secret
from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.codec import parse_response
from sallyport.wire.http1.head import ResponseHead

SECRET = b"sk-canary-51/Ab+cd=Zz9"


def head_of(*lines: bytes, status: int = 200) -> ResponseHead:
    return parse_response(b"\r\n".join((b"HTTP/1.1 %d OK" % status, *lines)))


def undo(*pieces: bytes) -> bytes:
    reader = GzipReader()
    got = b""
    for piece in pieces:
        reader.feed(piece)
        while reader.has_more:
            step = reader.step()
            assert len(step) <= STEP_BYTES
            got += step
    reader.finish()
    return got


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(at, len(data)) for at in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


# Which


@pytest.mark.parametrize(
    ("lines", "coding"),
    [
        ([], Coding.IDENTITY),
        ([b"Content-Encoding: identity"], Coding.IDENTITY),
        ([b"Content-Encoding:"], Coding.IDENTITY),
        ([b"Content-Encoding: gzip"], Coding.GZIP),
        ([b"content-encoding:\tGZip "], Coding.GZIP),
        ([b"Content_Encoding: x-gzip"], Coding.GZIP),
        ([b"Content-Encoding: gzip, identity"], Coding.GZIP),
        ([b"Content-Encoding: identity", b"Content-Encoding: , gzip,"], Coding.GZIP),
        ([b"Content-Encoding: gzip, gzip"], Coding.OPAQUE),
        ([b"Content-Encoding: gzip", b"Content-Encoding: gzip"], Coding.OPAQUE),
        ([b"Content-Encoding: br"], Coding.OPAQUE),
        ([b"Content-Encoding: deflate"], Coding.OPAQUE),
        ([b"Content-Encoding: zstd, gzip"], Coding.OPAQUE),
        ([b"Content-Encoding: gzip;q=1"], Coding.OPAQUE),
    ],
)
def test_c3_a_coding_is_read_from_every_line(lines: list[bytes], coding: Coding) -> None:
    assert read_coding(head_of(*lines)) is coding
    assert read_coding(head_of(b"X: gzip", *lines, b"Vary: gzip")) is coding, "no other field says it"


def test_c3_a_part_of_something_coded_cannot_be_undone() -> None:
    assert read_coding(head_of(b"Content-Encoding: gzip", status=206)) is Coding.OPAQUE
    assert read_coding(head_of(b"Content-Encoding: identity", status=206)) is Coding.IDENTITY


def test_c3_what_is_said_of_the_coded_bytes_goes_with_the_coding() -> None:
    head = head_of(
        b"Content-Encoding: gzip",
        b'ETag: W/"x"',
        b"Vary: Accept-Encoding",
        b"Digest: sha-256=x",
        b"Content-Digest: sha-256=:x:",
        b"Repr-Digest: sha-256=:x:",
        b"Content-MD5: x",
        b"Content-Length: 20",
    )
    drop_coding(head)
    assert (tuple(head.names), tuple(head.lines), head.body) == ((b"vary",), (b"Vary: Accept-Encoding",), None)
    assert drop_coded_trailers([b"Digest: x", b"X-End: 1", b"Repr_Digest: x"]) == [b"X-End: 1"]


# Gzip in steps


@pytest.mark.parametrize("size", [0, 1, STEP_BYTES - 1, STEP_BYTES, STEP_BYTES + 1, 3 * STEP_BYTES])
@pytest.mark.parametrize("level", [0, 9])
def test_c3_gzip_of_any_size_is_undone(size: int, level: int) -> None:
    plain = random.Random(size).randbytes(size // 2) + bytes(size - size // 2)
    assert undo(gzip.compress(plain, level)) == plain


def test_c3_nothing_at_all_is_nothing() -> None:
    assert undo() == undo(b"") == b""


def test_c3_members_follow_one_another_empty_ones_too() -> None:
    plain = [b"one", b"", bytes(2 * STEP_BYTES), b"", b"four"]
    data = b"".join(map(gzip.compress, plain))
    assert undo(data) == undo(*[data[at : at + 1] for at in range(len(data))]) == b"".join(plain)


def test_c3_a_bomb_gives_a_step_at_a_time_and_holds_its_input_alone() -> None:
    bomb = gzip.compress(bytes(64 * 1024 * 1024), 9)
    assert len(bomb) < STEP_BYTES
    reader = GzipReader()
    reader.feed(bomb)
    for _ in range(1024):
        assert reader.step() == bytes(STEP_BYTES)
    held = int(repr(reader).rpartition(", ")[2].split(" ")[0])
    assert held < 16
    while reader.has_more:
        assert reader.step() == b""
    reader.finish()


def test_c3_many_empty_members_cost_a_step_each() -> None:
    reader = GzipReader()
    reader.feed(gzip.compress(b"") * 100)
    steps = 0
    while reader.has_more:
        assert reader.step() == b""
        steps += 1
    assert steps == 100
    reader.finish()


WHOLE = gzip.compress(b"an answer, and not a short one: " + bytes(range(256)))


@pytest.mark.parametrize("end", range(1, len(WHOLE)))
def test_c3_a_gzip_that_is_cut_short_is_refused(end: int) -> None:
    with pytest.raises(RemoteProtocolError, match="cut short"):
        undo(WHOLE[:end])


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"not gzip", id="no gzip"),
        pytest.param(zlib.compress(b"deflate"), id="deflate"),
        pytest.param(WHOLE + b"garbage", id="garbage behind the end"),
        pytest.param(WHOLE + bytes(8), id="padding behind the end"),
        pytest.param(WHOLE[:-8] + bytes(4) + WHOLE[-4:], id="a wrong checksum"),
        pytest.param(WHOLE[:-4] + bytes(4), id="a wrong length"),
        pytest.param(WHOLE[:20] + b"\xff" * 20 + WHOLE[40:], id="broken in the middle"),
        pytest.param(b"\x1f\x8b\x09" + WHOLE[3:], id="another method"),
    ],
)
def test_c3_what_is_not_gzip_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="says gzip and is not"):
        undo(data)


@given(st.lists(st.binary(max_size=200), max_size=4), st.lists(st.integers(0, 400), max_size=6), st.integers(0, 9))
def test_property_cuts_do_not_matter(plain: list[bytes], cuts: list[int], level: int) -> None:
    data = b"".join(gzip.compress(part, level) for part in plain)
    assert undo(*cut(data, cuts)) == b"".join(plain)


@given(st.binary(max_size=300), st.lists(st.integers(0, 400), max_size=6))
def test_property_any_bytes_are_undone_or_refused(data: bytes, cuts: list[int]) -> None:
    def outcome(pieces: list[bytes]) -> bytes | None:
        try:
            return undo(*pieces)
        except RemoteProtocolError:
            return None

    assert outcome(cut(data, cuts)) == outcome([data])


@given(
    st.lists(st.one_of(st.just(SECRET), st.just(SECRET[:9]), st.just(SECRET.hex().encode()), st.binary(max_size=30))),
    st.lists(st.integers(0, 400), max_size=6),
)
def test_property_gzip_and_identity_are_scrubbed_alike(parts: list[bytes], cuts: list[int]) -> None:
    plain = b"".join(parts)
    needles = Needles.of(Secret(SECRET))
    by_identity, by_gzip = Scrubber(needles), Scrubber(needles)
    expected = by_identity.feed(plain) + by_identity.finish()
    reader = GzipReader()
    got = b""
    for piece in cut(gzip.compress(plain), cuts):
        reader.feed(piece)
        while reader.has_more:
            got += by_gzip.feed(reader.step())
    got += by_gzip.finish()
    assert (got, by_gzip.matches) == (expected, by_identity.matches)
    assert len(got) == len(plain)
    assert needles.is_clean(got)


def test_repr_says_where_it_stands() -> None:
    reader = GzipReader()
    assert repr(reader) == "<GzipReader between members, 0 bytes held>"
    reader.feed(WHOLE[:20])
    reader.step()
    assert repr(reader) == "<GzipReader inside a member, 0 bytes held>"
