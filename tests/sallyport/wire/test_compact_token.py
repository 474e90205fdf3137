"""A token in its parts: base64url with one spelling for each value, headers without a second reading."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sallyport.claims import TokenError, TokenFault
from sallyport.wire.compact_token import bearer_token, decode_segment, parse_compact, token_object
from tests.support.signed_tokens import encode, mint


def test_a_token_in_its_parts() -> None:
    token = mint({"sub": "a"}, header={"alg": "EdDSA", "kid": "k"})
    parts = parse_compact(token)
    assert (parts.header, token_object(parts.payload, "payload")) == ({"alg": "EdDSA", "kid": "k"}, {"sub": "a"})
    assert parts.signing_input.decode() + "." + encode(parts.signature) == token


@pytest.mark.parametrize("value", [b"Bearer a.b.c", b"bearer  a.b.c ", b"\tBEARER a.b.c"])
def test_a_bearer_token(value: bytes) -> None:
    assert bearer_token(value) == "a.b.c"


def test_another_scheme_and_a_malformed_token() -> None:
    assert bearer_token(b"Basic eDp5") is None
    assert bearer_token(b"") is None
    for value in (b"Bearer", b"Bearer a b", b"Bearer \xff", b"Bearer a\x00"):
        with pytest.raises(TokenError) as caught:
            bearer_token(value)
        assert caught.value.reason is TokenFault.MALFORMED


@given(st.binary(min_size=1, max_size=40))
def test_property_what_was_encoded_is_decoded(value: bytes) -> None:
    segment = base64.urlsafe_b64encode(value).rstrip(b"=").decode()
    assert decode_segment(segment, "part") == value


@given(st.text(max_size=12) | st.text("AB-_=+/ \n", max_size=12))
def test_property_a_value_has_one_spelling(segment: str) -> None:
    try:
        value = decode_segment(segment, "part")
    except TokenError:
        return
    assert base64.urlsafe_b64encode(value).rstrip(b"=").decode() == segment


@given(st.text(max_size=80) | st.text("ab.-_=", max_size=40))
def test_property_any_text_is_refused_as_a_token_error(text: str) -> None:
    with pytest.raises(TokenError):
        parse_compact(text)
