"""What header fields are to a proxy, and that a head never shows what it carries (egress case C14)."""

import pytest

from sallyport.wire.http1.codec import parse_request, parse_response
from sallyport.wire.http1.head import FIELD_KINDS, FRAMING_NAMES, FieldKind

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
