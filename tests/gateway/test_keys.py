"""Keys that verify tokens: files, sets, and the ring that replaces them (contracts section 3, egress case T1)."""

import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, x25519
from jwt.algorithms import OKPAlgorithm, RSAAlgorithm

from gateway.keys import ALGORITHMS, MAX_KEYS, KeyRing, KeySet, KeySetError, thumbprint
from tests.support.signed_tokens import EC_KEY, KEY, OTHER_KEY, RSA_KEY, SMALL_RSA, Jwk, jwk, key_set, pem


def test_pem_of_every_supported_kind() -> None:
    for key, algorithm in ((KEY.public_key(), "EdDSA"), (RSA_KEY, "PS256"), (EC_KEY.public_key(), "ES256")):
        keys = KeySet.from_public_key_pem(pem(key))
        assert keys.supports([algorithm])
        assert not keys.supports(["ES512"])
        assert thumbprint(key) in repr(keys)


def test_thumbprint_is_that_of_the_rfc() -> None:
    """RFC 7638 section 3.1, RFC 8037 appendix A.3."""
    ed = OKPAlgorithm.from_jwk({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})
    assert isinstance(ed, ed25519.Ed25519PublicKey)
    assert thumbprint(ed) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    assert thumbprint(RSA_KEY) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"", "not a PEM public key"),
        (b"ssh-ed25519 AAAA", "not a PEM public key"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "not a PEM public key"),
        (pem(SMALL_RSA), "1024 bits is too short"),
        (pem(ec.derive_private_key(7, ec.SECP256K1()).public_key()), "curve secp256k1"),
        (pem(ec.derive_private_key(7, ec.SECP224R1()).public_key()), "curve secp224r1"),
        (pem(x25519.X25519PrivateKey.generate().public_key()), "X25519PublicKey cannot verify"),
        (
            KEY.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
            "private key, which must never be on a gateway",
        ),
    ],
)
def test_pem_that_cannot_be_used_says_why_and_what_to_do(document: bytes, reason: str) -> None:
    with pytest.raises(KeySetError, match=reason) as caught:
        KeySet.from_public_key_pem(document)
    assert "sallyport token keygen" in str(caught.value)


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"keys":[],"keys":[]}', "twice"),
        (b"{}", 'no list "keys"'),
        (json.dumps(jwk()).encode(), "wrap a single key"),
        (b'{"keys":[1]}', 'no list "keys"'),
        (b'{"keys":[]}', "no key that can verify"),
        (json.dumps({"keys": [{}] * (MAX_KEYS + 1)}).encode(), "more than 64 keys"),
        (b" " * (256 * 1024 + 1), "larger than"),
    ],
)
def test_jwk_set_that_cannot_be_used(document: bytes, reason: str) -> None:
    with pytest.raises(KeySetError, match=reason):
        KeySet.from_jwks(document)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ({**OKPAlgorithm.to_jwk(KEY, as_dict=True)}, r"keys\[1\] is a private"),
        ({"kty": "oct", "k": "AAAA"}, "private or shared"),
        (jwk(x=None), r"keys\[1\]: x is not base64url"),
        (jwk(x="AA=="), "x is not base64url"),
        (jwk(x="AB"), "unused bits"),
        (jwk(x="AAAA"), "not a valid OKP public key"),
        ({"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"}, "not a valid EC public key"),
        ({"kty": "RSA", "n": "AAAA", "e": "AQAB"}, "not a valid RSA public key|too short"),
        (jwk(OTHER_KEY, kid=""), "kid is not a string"),
        (jwk(OTHER_KEY, kid=7), "kid is not a string"),
        (jwk(OTHER_KEY, kid="a"), "two keys have the kid 'a'"),
        ({**RSAAlgorithm.to_jwk(SMALL_RSA, as_dict=True)}, "1024 bits"),
    ],
)
def test_one_bad_key_refuses_the_set(key: Jwk, reason: str) -> None:
    with pytest.raises(KeySetError, match=reason):
        key_set(jwk(kid="a"), key)


@pytest.mark.parametrize(
    "key",
    [
        jwk(use="enc"),
        jwk(use=["sig"]),
        jwk(key_ops=["sign"]),
        jwk(key_ops="verify"),
        jwk(alg="ES256"),
        jwk(alg="ES521"),
        jwk(alg=["EdDSA"]),
        jwk(crv="Ed448"),
        {"kty": "AKP", "pub": "AAAA"},
        {"kty": ["OKP"]},
        {"kid": "a"},
    ],
)
def test_keys_not_meant_for_this_are_passed_over(key: Jwk) -> None:
    with pytest.raises(KeySetError, match="no key that can verify"):
        key_set(key)
    assert repr(key_set(key, jwk(kid="good", use="sig", key_ops=["verify"], alg="EdDSA"))) == "<KeySet good>"


def test_a_ring_names_the_set_in_force() -> None:
    ring = KeyRing()
    assert repr(ring) == "<KeyRing None>"
    first, second = key_set(jwk(kid="a")), key_set(jwk(OTHER_KEY, kid="b"))
    ring.replace(first)
    ring.replace(second)
    assert ring.current is second
    assert repr(ring) == "<KeyRing <KeySet b>>"


def test_a_ring_keeps_its_set_rather_than_one_that_verifies_nothing() -> None:
    ring = KeyRing(key_set(jwk()))
    with pytest.raises(KeySetError, match=r"no key can be used with \['EdDSA'\]"):
        ring.replace(KeySet.from_public_key_pem(pem(EC_KEY.public_key())))
    assert ring.current is not None
    assert ring.current.supports(["EdDSA"])


def test_no_shared_key_algorithm_is_known() -> None:
    assert not any(name.startswith("HS") or name == "none" for name in ALGORITHMS)
