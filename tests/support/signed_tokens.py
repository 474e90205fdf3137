"""Keys and tokens signed by hand, right and wrong: PyJWT would refuse to make most of what is tested with them."""

import base64
import json
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from jwt.algorithms import OKPAlgorithm

from gateway.keys import KeySet

NOW = 1_750_000_000.0
KEY = ed25519.Ed25519PrivateKey.from_private_bytes(b"k" * 32)
OTHER_KEY = ed25519.Ed25519PrivateKey.from_private_bytes(b"o" * 32)
EC_KEY = ec.derive_private_key(7, ec.SECP256R1())
# RFC 7638 section 3.1.
RSA_MODULUS = (
    "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhM"
    "stn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5"
    "hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
)
RSA_KEY = rsa.RSAPublicNumbers(65537, int.from_bytes(base64.urlsafe_b64decode(RSA_MODULUS + "=="), "big")).public_key()
SMALL_RSA = rsa.RSAPublicNumbers(65537, 2**1023 + 1).public_key()

type Jwk = dict[str, Any]  # what a JWK file may hold, right or wrong


def pem(key: ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey | x25519.X25519PublicKey) -> bytes:
    """Return a public key in PEM."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def jwk(key: ed25519.Ed25519PrivateKey = KEY, **members: object) -> Jwk:
    """Return a public key as a JWK, members over it."""
    return {**OKPAlgorithm.to_jwk(key.public_key(), as_dict=True), **members}


def key_set(*keys: Jwk) -> KeySet:
    """Read a JWK Set of these keys."""
    return KeySet.from_jwks(json.dumps({"keys": list(keys)}).encode())


def claims(**members: object) -> dict[str, object]:
    """Return a good payload, members over it."""
    now = int(NOW)
    good: dict[str, object] = {
        "iss": "sallyport",
        "aud": "sallyport-proxy",
        "sub": "sbx_1",
        "org": "org_1",
        "sid": "lin_1",
        "iat": now,
        "nbf": now,
        "exp": now + 3600,
        "jti": "tok_1",
    }
    return {**good, **members}


def encode(part: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def mint(
    payload: dict[str, object] | None = None, *, key: ed25519.Ed25519PrivateKey = KEY, header: object = None
) -> str:
    """Sign a token; claims() and a bare header unless given."""
    return mint_raw(
        json.dumps({"alg": "EdDSA"} if header is None else header).encode(),
        json.dumps(claims() if payload is None else payload).encode(),
        key=key,
    )


def mint_raw(header: bytes, payload: bytes, *, key: ed25519.Ed25519PrivateKey = KEY) -> str:
    """Sign these very bytes."""
    signing_input = f"{encode(header)}.{encode(payload)}"
    return f"{signing_input}.{encode(key.sign(signing_input.encode()))}"
