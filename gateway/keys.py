"""The public keys that may have signed a token: read strictly, and replaced whole.

A key file or a JWK Set (RFC 7517) becomes a KeySet, which never changes; a KeyRing names the one in force, so that
every verifier sees a new set by one assignment.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm, RSAPSSAlgorithm

from sallyport.claims import TokenError, TokenFault
from sallyport.json_object import json_object
from sallyport.wire.compact_token import decode_segment

type PublicKey = Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey

# Only public-key algorithms: a gateway that held a shared key could mint the tokens it verifies, and a public key
# could be passed off as one (egress case T1). Any: PyJWT's classes share no typed interface for verify().
ALGORITHMS: Final[Mapping[str, Any]] = {
    "EdDSA": OKPAlgorithm(),
    "ES256": ECAlgorithm(ECAlgorithm.SHA256),
    "ES384": ECAlgorithm(ECAlgorithm.SHA384),
    "ES512": ECAlgorithm(ECAlgorithm.SHA512),
    "RS256": RSAAlgorithm(RSAAlgorithm.SHA256),
    "RS384": RSAAlgorithm(RSAAlgorithm.SHA384),
    "RS512": RSAAlgorithm(RSAAlgorithm.SHA512),
    "PS256": RSAPSSAlgorithm(RSAPSSAlgorithm.SHA256),
    "PS384": RSAPSSAlgorithm(RSAPSSAlgorithm.SHA384),
    "PS512": RSAPSSAlgorithm(RSAPSSAlgorithm.SHA512),
}
# Rotation keeps two keys; 64 and 256 KiB only stop a wrong file early.
MAX_KEYS: Final = 64
MAX_JWKS_BYTES: Final = 256 * 1024
# RFC 8037 section 3.1. Contracts section 3: nothing of ours is signed in another way.
TOKEN_ALGORITHMS: Final = ("EdDSA",)
# RFC 7518 section 3.3.
MIN_RSA_BITS: Final = 2048

_RSA_ALGORITHMS: Final = frozenset(name for name in ALGORITHMS if name[0] in "RP")
_CURVE_ALGORITHMS: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
# Any: PyJWT's classes share no typed interface for from_jwk().
_JWK_READERS: Final[Mapping[str, Any]] = {"OKP": OKPAlgorithm, "EC": ECAlgorithm, "RSA": RSAAlgorithm}
_JWK_PUBLIC_MEMBERS: Final = {"OKP": ("x",), "EC": ("x", "y"), "RSA": ("n", "e")}
_JWK_PRIVATE_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth"})
KEY_HELP: Final = "give an Ed25519 public key, as `sallyport token keygen` writes it"


class KeySetError(Exception):
    """The operator's key file cannot be used; the text says why and what to do."""


class VerificationKey(NamedTuple):
    """A public key, the id tokens name it by, and the algorithms it may be used with."""

    key_id: str
    public_key: PublicKey
    algorithms: frozenset[str]


class KeySet:
    """The public keys that may have signed a token, by key id. Never changes."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Iterable[VerificationKey]) -> None:
        self._keys: dict[str, VerificationKey] = {}
        for key in keys:
            if key.key_id in self._keys:
                raise KeySetError(f"two keys have the kid {key.key_id!r}; give each key a kid of its own")
            self._keys[key.key_id] = key
        if not self._keys:
            raise KeySetError(f"the key set holds no key that can verify a token; {KEY_HELP}")

    @classmethod
    def from_public_key_pem(cls, pem: bytes) -> "KeySet":
        """Return the set of one PEM public key, whose key id is its thumbprint; KeySetError if it is none."""
        if b"PRIVATE KEY-----" in pem:
            raise KeySetError(f"this file holds a private key, which must never be on a gateway; {KEY_HELP}")
        try:
            key = load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise KeySetError(f"this is not a PEM public key (-----BEGIN PUBLIC KEY-----); {KEY_HELP}") from error
        if not isinstance(key, Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey):
            raise KeySetError(f"a key of type {type(key).__name__} cannot verify a token; {KEY_HELP}")
        algorithms = _key_algorithms(key)  # first: a curve that is not supported has no thumbprint
        return cls([VerificationKey(thumbprint(key), key, algorithms)])

    @classmethod
    def from_jwks(cls, document: bytes) -> "KeySet":
        """Return the set of a JWK Set (RFC 7517 section 5).

        Keys of other uses, types or algorithms are passed over, as the RFC asks. A malformed
        one, a private one, a shared one, or two of one kid is a KeySetError.
        """
        if len(document) > MAX_JWKS_BYTES:
            raise KeySetError(f"the JWK set is larger than {MAX_JWKS_BYTES} bytes")
        try:
            entries = json_object(document).get("keys")
        except ValueError as error:
            raise KeySetError(f"the JWK set is not a JSON object: {error}") from error
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise KeySetError('the JWK set has no list "keys" of objects; wrap a single key as {"keys": [KEY]}')
        if len(entries) > MAX_KEYS:
            raise KeySetError(f"the JWK set holds more than {MAX_KEYS} keys; publish only those in use")
        keys = [_read_jwk(entry, index) for index, entry in enumerate(entries)]
        return cls(key for key in keys if key is not None)

    def find(self, key_id: str | None) -> VerificationKey:
        """Return the key a token names, or the only one if it names none; TokenError otherwise."""
        if key_id is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        key = None if key_id is None else self._keys.get(key_id)
        if key is None:
            raise TokenError(TokenFault.UNKNOWN_KEY, "no key of that kid" if key_id else "no kid, and several keys")
        return key

    def supports(self, algorithms: Iterable[str]) -> bool:
        """Say whether at least one key can be used with one of these algorithms."""
        wanted = frozenset(algorithms)
        return any(wanted & key.algorithms for key in self._keys.values())

    def __repr__(self) -> str:
        return f"<KeySet {', '.join(sorted(self._keys))}>"


class KeyRing:
    """The key set in force; every verifier of a process looks here."""

    __slots__ = ("_current",)

    def __init__(self, keys: KeySet | None = None) -> None:
        self._current = keys

    @property
    def current(self) -> KeySet | None:
        """The set in force; None before the first has come."""
        return self._current

    def replace(self, keys: KeySet) -> None:
        """Put a set in force; raise KeySetError where no key of it could verify a token of ours."""
        if not keys.supports(TOKEN_ALGORITHMS):
            raise KeySetError(f"no key can be used with {sorted(TOKEN_ALGORITHMS)}; {KEY_HELP}")
        self._current = keys

    def __repr__(self) -> str:
        return f"<KeyRing {self._current!r}>"


def thumbprint(key: PublicKey) -> str:
    """Return the JWK thumbprint of a key (RFC 7638, SHA-256): the kid of a key that was given none."""
    if isinstance(key, Ed25519PublicKey):
        members = OKPAlgorithm.to_jwk(key, as_dict=True)
    elif isinstance(key, EllipticCurvePublicKey):
        members = ECAlgorithm.to_jwk(key, as_dict=True)
    else:
        members = RSAAlgorithm.to_jwk(key, as_dict=True)
    required = {"kty", "crv", *_JWK_PUBLIC_MEMBERS[members["kty"]]} & members.keys()
    canonical = json.dumps({name: members[name] for name in sorted(required)}, separators=(",", ":"))
    return base64.urlsafe_b64encode(hashlib.sha256(canonical.encode("ascii")).digest()).rstrip(b"=").decode("ascii")


def _key_algorithms(key: PublicKey) -> frozenset[str]:
    """Return what a key may be used with: decided by the key alone, never by a token."""
    if isinstance(key, Ed25519PublicKey):
        return frozenset({"EdDSA"})
    if isinstance(key, RSAPublicKey):
        if key.key_size < MIN_RSA_BITS:
            raise KeySetError(f"an RSA key of {key.key_size} bits is too short, {MIN_RSA_BITS} are needed; {KEY_HELP}")
        return _RSA_ALGORITHMS
    algorithm = _CURVE_ALGORITHMS.get(key.curve.name)
    if algorithm is None:
        raise KeySetError(f"the curve {key.curve.name} is not supported; {KEY_HELP}")
    return frozenset({algorithm})


def _read_jwk(jwk: dict[str, object], index: int) -> VerificationKey | None:
    """Return one key of a set, or None for a key that is not meant for verifying signatures here."""
    where = f"keys[{index}]"
    kind = jwk.get("kty")
    if kind == "oct" or not _JWK_PRIVATE_MEMBERS.isdisjoint(jwk):
        raise KeySetError(f"{where} is a private or shared key, which must never be on a gateway; {KEY_HELP}")
    operations = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return None
    if not isinstance(kind, str) or kind not in _JWK_READERS or (kind == "OKP" and jwk.get("crv") != "Ed25519"):
        return None
    for member in _JWK_PUBLIC_MEMBERS[kind]:
        try:
            decode_segment(jwk.get(member), member)
        except TokenError as error:
            raise KeySetError(f"{where}: {error}") from error
    try:
        key = _JWK_READERS[kind].from_jwk(jwk)
    except (jwt.InvalidKeyError, ValueError, UnsupportedAlgorithm) as error:
        raise KeySetError(f"{where} is not a valid {kind} public key; copy it again from where it was made") from error
    algorithms = _key_algorithms(key)
    if "alg" in jwk:
        algorithms &= frozenset({jwk["alg"]}) if isinstance(jwk["alg"], str) else frozenset()
        if not algorithms:
            return None
    key_id = jwk.get("kid", thumbprint(key))
    if not isinstance(key_id, str) or not key_id:
        raise KeySetError(f"{where}: kid is not a string; give the key a kid, or leave it out")
    return VerificationKey(key_id, key, algorithms)
