"""Answers that are searched, as mitmproxy hands them over: the gateway's rule about codings, piece by piece."""

import gzip

import pytest

from gateway.core.content_coding import STEP_BYTES, Coding
from gateway.core.scrub import Needles, Scrubber
from gateway.mitm_answer import AnswerBody, Fields, answer_coding, has_body, without_coding
from sallyport.secret import Secret
from sallyport.wire.errors import RemoteProtocolError

SECRET = b"canary-of-an-answer"
GZIP = (b"Content-Encoding", b"gzip")


def body_of(*, is_gzip: bool) -> AnswerBody:
    return AnswerBody(Scrubber(Needles.of(Secret(SECRET))), is_gzip=is_gzip)


@pytest.mark.parametrize(
    ("status", "fields", "expected"),
    [
        (200, [(b"Content-Type", b"text/plain")], Coding.IDENTITY),
        (200, [(b"content_encoding", b"gzip")], Coding.GZIP),  # some readers take it for the same
        (200, [(b"Content-Encoding", b"identity")], Coding.IDENTITY),
        (200, [(b"content-encoding", b"x-gzip")], Coding.GZIP),
        (206, [GZIP], Coding.OPAQUE),
        (200, [GZIP, (b"Content-Encoding", b"br")], Coding.OPAQUE),
        (200, [GZIP, (b"Content-Length", b"+5")], Coding.OPAQUE),  # our codec reads no such head
    ],
)
def test_which_coding_it_is(status: int, fields: Fields, expected: Coding) -> None:
    assert answer_coding(status, fields) is expected


def test_whether_bytes_follow() -> None:
    assert has_body("GET", 200, [])
    assert has_body("GET", 200, [(b"Content-Length", b"10")])
    assert not has_body("GET", 200, [(b"Content-Length", b"0")])
    assert not has_body("HEAD", 200, [(b"Content-Length", b"10")])
    assert not has_body("GET", 304, [])


def test_the_head_is_that_of_the_answer_without_its_coding() -> None:
    fields = [GZIP, (b"ETag", b'"x"'), (b"Content-Length", b"9"), (b"X", b"y"), (b"Transfer-Encoding", b"chunked")]
    assert without_coding(fields, is_followed=True) == [(b"X", b"y"), (b"Transfer-Encoding", b"chunked")]
    assert without_coding(fields, is_followed=False) == [(b"X", b"y")]


@pytest.mark.parametrize("is_gzip", [False, True])
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_c3_the_secret_does_not_come_back_however_it_is_cut(size: int, *, is_gzip: bool) -> None:
    plain = b"a" * STEP_BYTES + SECRET + b"z" * 10
    coded = gzip.compress(plain[:-30]) + gzip.compress(plain[-30:]) if is_gzip else plain
    pieces = [coded[start : start + size] for start in range(0, len(coded), size)]
    body = body_of(is_gzip=is_gzip)
    out = [piece for data in (*pieces, b"") for piece in body.take(data)]
    assert all(out)
    assert len(b"".join(out)) == len(plain)
    assert SECRET not in b"".join(out)
    assert b"".join(out).endswith(b"z" * 10)


@pytest.mark.parametrize("coded", [b"no gzip at all", gzip.compress(SECRET)[:-3]], ids=["not gzip", "cut short"])
def test_what_is_not_what_it_says_is_told(coded: bytes) -> None:
    body = body_of(is_gzip=True)
    with pytest.raises(RemoteProtocolError):
        [*body.take(coded), *body.take(b"")]


def test_a_bomb_is_undone_in_steps() -> None:
    body = body_of(is_gzip=True)
    pieces = [len(piece) for piece in body.take(gzip.compress(bytes(100 * STEP_BYTES)))]
    assert len(pieces) >= 100
    assert max(pieces) <= 2 * STEP_BYTES
