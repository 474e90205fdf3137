"""What header fields are to a proxy, and that a head never shows what it carries (egress case C14)."""

import pytest

from sallyport.wire.http1.codec import parse_request, parse_response
from sallyport.wire.http1.head import FIELD_KINDS, FRAMING_NAMES, FieldKind, RequestHead

CANARY = b"canary-5d41402abc4b"


def test_c14_no_repr_shows_a_value() -> None:
    request = parse_request(
        b"GET /v1?key=%b HTTP/1.1\r\nHost: %b\r\nCookie: %b\r\nProxy-Authorization: Bearer %b" % ((CANARY,) * 4)
    )
    response = parse_response(b"HTTP/1.1 200 %b\r\nSet-Cookie: %b\r\nContent-Length: 3" % ((CANARY,) * 2))
    assert repr(request) == "<RequestHead GET HTTP/1.1 1 fields>"
    assert repr(response) == "<ResponseHead 200 HTTP/1.1 1 fields>"
    assert CANARY.decode() not in f"{request}{response}"


@pytest.mark.parametrize("name", sorted(FRAMING_NAMES))
def test_s1_what_frames_or_routes_is_never_an_ordinary_field(name: bytes) -> None:
    assert FIELD_KINDS[name] not in (FieldKind.PLAIN, FieldKind.HOP)


def test_names_are_looked_up_in_lower_case() -> None:
    assert all(name == name.lower() for name in FIELD_KINDS)


def head_of(*lines: bytes) -> RequestHead:
    return parse_request(b"\r\n".join((b"GET / HTTP/1.1", b"Host: a.example", *lines)))


COOKIE = frozenset({b"cookie"})


@pytest.mark.parametrize(
    ("connection", "removed", "left"),
    [
        ([], frozenset[bytes](), [b"X_A: 1", b"Cookie: 2", b"COOKIE: 3", b"X-B: 4"]),
        ([], COOKIE, [b"X_A: 1", b"X-B: 4"]),
        ([], COOKIE | {b"x-a"}, [b"X-B: 4"]),
        ([], COOKIE | {b"x-a", b"x-b"}, []),
        ([], frozenset({b"authorization"}), [b"X_A: 1", b"Cookie: 2", b"COOKIE: 3", b"X-B: 4"]),
        # A shape does not know what Connection took out (S5).
        ([b"Connection: x-b"], frozenset[bytes](), [b"X_A: 1", b"Cookie: 2", b"COOKIE: 3"]),
        ([b"Connection: x-b"], COOKIE, [b"X_A: 1"]),
        ([b"Connection: cookie"], frozenset({b"x-a"}), [b"X-B: 4"]),
        # Close is an option and no field, so the shape holds.
        ([b"Connection: close"], COOKIE, [b"X_A: 1", b"X-B: 4"]),
    ],
)
def test_c1_lines_without_what_is_removed(
    connection: list[bytes], removed: frozenset[bytes], left: list[bytes]
) -> None:
    head = head_of(b"X_A: 1", b"Cookie: 2", *connection, b"COOKIE: 3", b"X-B: 4")
    before = list(head.lines)
    # The second time by what the shape remembers; the head itself loses nothing.
    for _ in range(2):
        assert list(head.without(removed)) == left
    assert list(head.lines) == before


def test_c1_lines_of_a_head_that_has_none() -> None:
    assert list(head_of().without(COOKIE)) == []


@pytest.mark.parametrize("connection", [[], [b"Connection: x-b"]])
def test_whether_a_field_is_there_whatever_its_spelling(connection: list[bytes]) -> None:
    head = head_of(b"X_A: 1", b"COOKIE: 3", b"X-B: 4", *connection)
    assert [head.has(name) for name in (b"x-a", b"cookie", b"x-c")] == [True, True, False]
    assert head.has(b"x-b") is not bool(connection)  # it is between us and whoever sent it
