"""A token in its parts: JWS in compact serialisation, read but not believed (RFC 7515, egress case T1).

Whoever verifies tokens reads them here: the gateway, the control plane, the worker. What a token says is judged by
`sallyport.claims`.
"""

import base64
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from sallyport.claims import TokenError, TokenFault
from sallyport.json_object import json_object

# A token of ours is some 500 bytes. 8 KiB is what one header line may hold in common servers.
MAX_TOKEN_BYTES: Final = 8 * 1024

_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]+")
_VISIBLE: Final = bytes(range(0x21, 0x7F))


class CompactToken(NamedTuple):
    """A token in its parts, read but not believed."""

    header: Mapping[str, object]
    payload: bytes
    signing_input: bytes
    signature: bytes


def parse_compact(token: str) -> CompactToken:
    """Split a JWS in compact serialisation (RFC 7515 section 7.1), or raise TokenError.

    Stricter than most: no empty part, no padding, no character outside the alphabet, no
    unused bits set, no member twice in the header, and no critical extension.
    """
    if len(token) > MAX_TOKEN_BYTES:
        raise TokenError(TokenFault.TOO_LARGE, f"the token is longer than {MAX_TOKEN_BYTES} bytes")
    segments = token.split(".")
    if len(segments) != 3:
        raise TokenError(TokenFault.MALFORMED, "the token is not three parts between dots")
    header_bytes, payload, signature = (
        decode_segment(segment, name)
        for segment, name in zip(segments, ("header", "payload", "signature"), strict=True)
    )
    header = token_object(header_bytes, "header")
    if "crit" in header:
        raise TokenError(TokenFault.CRITICAL_HEADER, "the header demands an extension, and none is known here")
    if not isinstance(header.get("kid", ""), str):
        raise TokenError(TokenFault.MALFORMED, "kid is not a string")
    return CompactToken(header, payload, token[: token.rindex(".")].encode("ascii"), signature)


def token_object(part: bytes, name: str) -> dict[str, object]:
    """Return the members of a token's header or payload; raises TokenError."""
    try:
        return json_object(part)
    except ValueError as error:
        raise TokenError(TokenFault.MALFORMED, f"the {name} is not a JSON object") from error


def decode_segment(segment: object, name: str) -> bytes:
    """Decode canonical base64url (RFC 7515 section 2): one value has exactly one spelling."""
    if not isinstance(segment, str) or not _BASE64URL.fullmatch(segment) or len(segment) % 4 == 1:
        raise TokenError(TokenFault.MALFORMED, f"{name} is not base64url without padding")
    decoded = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != segment.encode("ascii"):
        raise TokenError(TokenFault.MALFORMED, f"{name} has unused bits set")
    return decoded


def bearer_token(value: bytes) -> str | None:
    """Return the token of an Authorization value, `Bearer TOKEN`; None where it has another scheme.

    Raises TokenError where one of ours is malformed.
    """
    scheme, _, token = value.strip(b" \t").partition(b" ")
    return visible_token(token.strip(b" ")) if scheme.lower() == b"bearer" else None


def visible_token(token: bytes) -> str:
    """Return what a header carried as a token; raises TokenError where it can be none."""
    if not token:
        raise TokenError(TokenFault.MALFORMED, "the token is empty; with Basic it is the password")
    if token.translate(None, _VISIBLE):  # something is left over
        raise TokenError(TokenFault.MALFORMED, "the token holds characters other than visible ASCII")
    return token.decode("ascii")
