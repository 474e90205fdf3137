"""Every kind of token that is none (T1), for one listener and one sandbox; the table is the whole list.

Each is wrong in one thing alone: what is not named is as in a token that the gateways of tests.support.in_process take.
"""

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping

from cryptography.hazmat.primitives.asymmetric import ed25519

from tests.support import signed_tokens
from tests.support.in_process import signing_key
from tests.support.signed_tokens import OTHER_KEY, encode, pem


def _token(
    audience: str, subject: str, *, key: ed25519.Ed25519PrivateKey | None = None, header: object = None, **wrong: object
) -> str:
    now = time.time_ns() // 10**9
    times = {"iat": now - 60, "nbf": now - 60, "exp": now + 3600}
    organization = {} if audience == "sallyport-gateway" else {"org": "org_one", "sid": "sid_one"}
    members = {"iss": "sallyport", "aud": audience, "sub": subject, "jti": "tok_one"} | times | organization | wrong
    return signed_tokens.mint(members, key=key or signing_key(), header=header)


def _unsigned(audience: str, subject: str) -> str:
    _, payload, _ = _token(audience, subject).split(".")
    return f"{encode(b'{"alg":"none"}')}.{payload}."


def _confused(audience: str, subject: str) -> str:
    """The public key, which anybody may know, as the secret of an HMAC."""
    _, payload, _ = _token(audience, subject).split(".")
    signing_input = f"{encode(b'{"alg":"HS256"}')}.{payload}"
    digest = hmac.digest(pem(signing_key().public_key()), signing_input.encode(), hashlib.sha256)
    return f"{signing_input}.{encode(digest)}"


def _another_s_signature(audience: str, subject: str) -> str:
    """The claims of one token under the signature of another."""
    header, payload, _ = _token(audience, subject).split(".")
    return f"{header}.{payload}.{_token(audience, 'sbx_another').split('.')[2]}"


def _offered(audience: str, subject: str) -> str:
    """Signed by a key that the token brings along."""
    jwk = signed_tokens.jwk(OTHER_KEY)
    return _token(audience, subject, key=OTHER_KEY, header={"alg": "EdDSA", "jwk": jwk})


def _year_ago() -> int:
    return time.time_ns() // 10**9 - 365 * 86_400


BAD_TOKENS: Mapping[str, Callable[[str, str], str]] = {
    "expired": lambda audience, subject: _token(
        audience, subject, iat=_year_ago(), nbf=_year_ago(), exp=_year_ago() + 60
    ),
    "not yet valid": lambda audience, subject: _token(
        audience, subject, nbf=time.time_ns() // 10**9 + 3000, exp=time.time_ns() // 10**9 + 6000
    ),
    "alg none": _unsigned,
    "alg none, signed": lambda audience, subject: _token(audience, subject, header={"alg": "none"}),
    "key confusion": _confused,
    "another audience": lambda audience, subject: _token("sallyport-worker", subject),
    "several audiences": lambda audience, subject: _token(audience, subject, aud=[audience]),
    "another issuer": lambda audience, subject: _token(audience, subject, iss="elsewhere"),
    "a foreign key": lambda audience, subject: _token(audience, subject, key=OTHER_KEY),
    "an unknown kid": lambda audience, subject: _token(
        audience, subject, key=OTHER_KEY, header={"alg": "EdDSA", "kid": "nobody"}
    ),
    "a key of its own": _offered,
    "another token's signature": _another_s_signature,
    "padded base64": lambda audience, subject: _token(audience, subject) + "=",
    "base64 that is not base64url": lambda audience, subject: _token(audience, subject)[:-1] + "+",
    "base64 of another length": lambda audience, subject: _token(audience, subject) + "A",
    "no signature": lambda audience, subject: _token(audience, subject).rpartition(".")[0] + ".",
    "two parts": lambda audience, subject: _token(audience, subject).rpartition(".")[0],
    "no claims": lambda audience, subject: signed_tokens.mint({}, key=signing_key()),
    "JSON that is none": lambda audience, subject: signed_tokens.mint_raw(
        b'{"alg":"EdDSA"}', json.dumps(["sub", subject]).encode()[:-1], key=signing_key()
    ),
}


def good_token(audience: str, subject: str) -> str:
    """Return what all of them are but for one thing."""
    return _token(audience, subject)
