"""Tokens, the header that carries them, and key sets.

Allowed outcomes, for any bytes:
- proxy_token: None, visible ASCII, or TokenError;
- TokenVerifier.verify: TokenError; claims for one of the tokens that were signed here, in its exact spelling, and for
  nothing else;
- KeySet.from_jwks and from_public_key_pem: keys, or KeySetError.
"""

import json

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.keys import KeyRing, KeySet, KeySetError
from gateway.revocations import Revocations
from gateway.tokens import TokenVerifier, proxy_token
from sallyport.claims import TokenError
from tests.support.fuzzing import run

NOW = 1_700_000_000
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PEM = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
JWKS = json.dumps({"keys": [json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(KEY.public_key())) | {"kid": "one"}]})


def signed(**claims: object) -> str:
    """Sign a token that is good at NOW, but for the claims given."""
    usual = {
        "iss": "sallyport",
        "aud": "sallyport-proxy",
        "sub": "sbx_one",
        "org": "org_one",
        "sid": "sid_one",
        "iat": NOW,
        "nbf": NOW,
        "exp": NOW + 3600,
        "jti": "jti_one",
    }
    return jwt.encode(usual | claims, KEY, algorithm="EdDSA", headers={"kid": "one"})


GOOD = signed()
TOKENS = (GOOD, signed(exp=NOW - 3600, iat=NOW - 7200, nbf=NOW - 7200), signed(aud="sallyport-tunnel"))
SEEDS = (
    *(token.encode("ascii") for token in TOKENS),
    b"Bearer " + GOOD.encode("ascii"),
    b"Basic eDp5",
    jwt.encode({"sub": "sbx_one"}, "", algorithm="none").encode("ascii"),
    JWKS.encode("ascii"),
    PEM,
)
VERIFIER = TokenVerifier(
    KeyRing(KeySet.from_jwks(JWKS.encode("ascii"))),
    issuer="sallyport",
    audience="sallyport-proxy",
    revocations=Revocations(),
)


def check(data: bytes) -> None:
    """Check one input."""
    check_token(data.decode("latin-1"))
    try:
        token = proxy_token(data)
    except TokenError:
        token = None
    if token is not None:
        assert all(0x21 <= ord(character) <= 0x7E for character in token)
        check_token(token)
    for read in (KeySet.from_jwks, KeySet.from_public_key_pem):
        try:
            assert isinstance(read(data), KeySet)
        except KeySetError:
            pass


def check_token(token: str) -> None:
    """No token but the good one is believed, in no other spelling."""
    try:
        claims = VERIFIER.verify(token, NOW + 1.0)
    except TokenError:
        return
    assert token == GOOD
    assert claims.sandbox_id == "sbx_one"


if __name__ == "__main__":
    run(check, SEEDS)
