"""Tokens: the keys that sign them, the strict reading of one, and the verifier with its cache.

Claims are judged by `sallyport.claims`; here stand signatures and what may surround them
(contracts section 3, RFC 7515). Only public-key algorithms: a gateway that held a shared key
could mint the tokens it verifies, and a public key could be passed off as one (egress case T1).

Read top to bottom: keys, one token, the verifier, the header that carries a token. One
file, though a long one, because it is one decision: whom to believe.
"""

import base64
import binascii
import hashlib
import json
import math
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm, RSAPSSAlgorithm

from sallyport.claims import Claims, TokenError, TokenFault, check_claims, check_instant

type PublicKey = Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey

# A token of ours is some 500 bytes. 8 KiB is what one header line may hold in common servers.
MAX_TOKEN_BYTES: Final = 8 * 1024
# Rotation keeps two keys; 64 and 256 KiB only stop a wrong file early.
MAX_KEYS: Final = 64
MAX_JWKS_BYTES: Final = 256 * 1024
# RFC 7518 section 3.3.
MIN_RSA_BITS: Final = 2048
# About 1 KiB an entry: 64 MiB at the very worst, one entry per live token.
CACHE_ENTRIES: Final = 65_536
# A revocation lives until its token would have expired; 100,000 at once is an incident, not a load.
MAX_REVOCATIONS: Final = 100_000
PURGE_AFTER_SECONDS: Final = 60.0
# Hosts on NTP agree within milliseconds; this is for the signer whose clock runs ahead.
LEEWAY_SECONDS: Final = 10.0

# Any, twice: PyJWT's classes share no typed interface for verify() and from_jwk().
_ALGORITHMS: Final[Mapping[str, Any]] = {
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
_RSA_ALGORITHMS: Final = frozenset(name for name in _ALGORITHMS if name[0] in "RP")
_CURVE_ALGORITHMS: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_JWK_READERS: Final[Mapping[str, Any]] = {"OKP": OKPAlgorithm, "EC": ECAlgorithm, "RSA": RSAAlgorithm}
_JWK_PUBLIC_MEMBERS: Final = {"OKP": ("x",), "EC": ("x", "y"), "RSA": ("n", "e")}
_JWK_PRIVATE_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth"})
_KEY_HELP: Final = "give an Ed25519 public key, as `sallyport token keygen` writes it"
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]+")
_VISIBLE: Final = bytes(range(0x21, 0x7F))


# ---- keys


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
            raise KeySetError(f"the key set holds no key that can verify a token; {_KEY_HELP}")

    @classmethod
    def from_public_key_pem(cls, pem: bytes) -> "KeySet":
        """Return the set of one PEM public key, whose key id is its thumbprint; KeySetError if it is none."""
        if b"PRIVATE KEY-----" in pem:
            raise KeySetError(f"this file holds a private key, which must never be on a gateway; {_KEY_HELP}")
        try:
            key = load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise KeySetError(f"this is not a PEM public key (-----BEGIN PUBLIC KEY-----); {_KEY_HELP}") from error
        if not isinstance(key, Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey):
            raise KeySetError(f"a key of type {type(key).__name__} cannot verify a token; {_KEY_HELP}")
        return cls([VerificationKey(thumbprint(key), key, _key_algorithms(key))])

    @classmethod
    def from_jwks(cls, document: bytes) -> "KeySet":
        """Return the set of a JWK Set (RFC 7517 section 5).

        Keys of other uses, types or algorithms are passed over, as the RFC asks. A malformed
        one, a private one, a shared one, or two of one kid is a KeySetError.
        """
        if len(document) > MAX_JWKS_BYTES:
            raise KeySetError(f"the JWK set is larger than {MAX_JWKS_BYTES} bytes")
        try:
            entries = _json_object(document).get("keys")
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
            raise KeySetError(f"an RSA key of {key.key_size} bits is too short, {MIN_RSA_BITS} are needed; {_KEY_HELP}")
        return _RSA_ALGORITHMS
    algorithm = _CURVE_ALGORITHMS.get(key.curve.name)
    if algorithm is None:
        raise KeySetError(f"the curve {key.curve.name} is not supported; {_KEY_HELP}")
    return frozenset({algorithm})


def _read_jwk(jwk: dict[str, object], index: int) -> VerificationKey | None:
    """Return one key of a set, or None for a key that is not meant for verifying signatures here."""
    where = f"keys[{index}]"
    kind = jwk.get("kty")
    if kind == "oct" or not _JWK_PRIVATE_MEMBERS.isdisjoint(jwk):
        raise KeySetError(f"{where} is a private or shared key, which must never be on a gateway; {_KEY_HELP}")
    operations = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return None
    if not isinstance(kind, str) or kind not in _JWK_READERS or (kind == "OKP" and jwk.get("crv") != "Ed25519"):
        return None
    for member in _JWK_PUBLIC_MEMBERS[kind]:
        try:
            _decode_segment(jwk.get(member), member)
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


# ---- one token


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
        _decode_segment(segment, name)
        for segment, name in zip(segments, ("header", "payload", "signature"), strict=True)
    )
    try:
        header = _json_object(header_bytes)
    except ValueError as error:
        raise TokenError(TokenFault.MALFORMED, "the header is not a JSON object") from error
    if "crit" in header:
        raise TokenError(TokenFault.CRITICAL_HEADER, "the header demands an extension (crit), and none is known here")
    if not isinstance(header.get("kid", ""), str):
        raise TokenError(TokenFault.MALFORMED, "kid is not a string")
    return CompactToken(header, payload, token[: token.rindex(".")].encode("ascii"), signature)


def _decode_segment(segment: object, name: str) -> bytes:
    """Decode canonical base64url (RFC 7515 section 2): one value has exactly one spelling."""
    if not isinstance(segment, str) or not _BASE64URL.fullmatch(segment) or len(segment) % 4 == 1:
        raise TokenError(TokenFault.MALFORMED, f"{name} is not base64url without padding")
    decoded = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != segment.encode("ascii"):
        raise TokenError(TokenFault.MALFORMED, f"{name} has unused bits set")
    return decoded


def _json_object(document: bytes) -> dict[str, object]:
    """Parse one JSON object strictly; raises ValueError for anything else, however deep or odd."""
    try:
        value = json.loads(document.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member appears twice")
    return members


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


# ---- the verifier


class RevocationLimitError(Exception):
    """Too many revocations are in force: the new one was NOT recorded. Revoke the sandbox instead of single tokens."""


class TokenVerifier:
    """Verify tokens of one issuer for one audience.

    A verification costs some 100 us, a cache hit about 2. The cache only ever holds claims whose
    signature was good; expiry and revocation are looked at on every use.
    """

    def __init__(
        self,
        keys: KeySet,
        *,
        issuer: str,
        audience: str,
        algorithms: Iterable[str] = ("EdDSA",),
        leeway_seconds: float = LEEWAY_SECONDS,
        cache_entries: int = CACHE_ENTRIES,
        max_revocations: int = MAX_REVOCATIONS,
    ) -> None:
        """Raises ValueError for an algorithm unknown here, KeySetError when no key fits the algorithms."""
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._algorithms = frozenset(algorithms)
        self._leeway_seconds = leeway_seconds
        self._cache_entries = cache_entries
        self._max_revocations = max_revocations
        unknown = sorted(self._algorithms - _ALGORITHMS.keys())
        if unknown:
            raise ValueError(f"unsupported token algorithms {unknown}; supported: {sorted(_ALGORITHMS)}")
        if not keys.supports(self._algorithms):
            raise KeySetError(f"no key can be used with {sorted(self._algorithms)}; {_KEY_HELP}")
        self._cache: OrderedDict[bytes, Claims] = OrderedDict()
        self._revoked: dict[str, dict[str, float]] = {"jti": {}, "sid": {}, "sandbox": {}}
        # Whether any revocation is known. Nearly always not, and then nobody need ask is_revoked per request.
        self.has_revocations = False
        self._purge_at = -math.inf
        self._seen_at = -math.inf  # the latest `now` of a caller, for purging when there is none at hand

    def verify(self, token: str, now: float) -> Claims:
        """Return the claims of a good token, or raise TokenError. `now` is in Unix seconds."""
        self._purge(now)
        if len(token) > MAX_TOKEN_BYTES:  # before hashing what a peer sent
            raise TokenError(TokenFault.TOO_LARGE, f"the token is longer than {MAX_TOKEN_BYTES} bytes")
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        claims = self._cache.get(digest)
        if claims is None:
            claims = self._verify_fresh(token, now)
            if len(self._cache) >= self._cache_entries:
                self._cache.popitem(last=False)
            self._cache[digest] = claims
        elif now >= claims.expires_at:
            del self._cache[digest]
        check_instant(claims, now=now, leeway_seconds=self._leeway_seconds)
        if self.is_revoked(claims, now):
            raise TokenError(TokenFault.REVOKED, "the token, its session or its sandbox has been revoked")
        return claims

    def verify_signature(self, token: str) -> bytes:
        """Return the payload of a token whose signature is good; its claims are NOT looked at."""
        parts = parse_compact(token)
        algorithm = parts.header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            raise TokenError(TokenFault.ALGORITHM, "the algorithm is not one of the configured ones")
        key_id = parts.header.get("kid")
        key = self._keys.find(key_id if isinstance(key_id, str) else None)
        if algorithm not in key.algorithms:
            raise TokenError(TokenFault.ALGORITHM, "the algorithm is not one of the key's")
        if not _ALGORITHMS[algorithm].verify(parts.signing_input, key.public_key, parts.signature):
            raise TokenError(TokenFault.SIGNATURE, "the signature is not the key's")
        return parts.payload

    def revoke(self, kind: str, revoked_id: str, until: float) -> None:
        """Refuse every token of a `jti`, `sid` or `sandbox` until that instant (Unix seconds).

        Raises ValueError for another kind or no finite instant, RevocationLimitError when full.
        """
        if kind not in self._revoked:
            raise ValueError(f"a token cannot be revoked by {kind!r}, only by {sorted(self._revoked)}")
        if not math.isfinite(until):
            raise ValueError("until is not a finite instant")
        if revoked_id not in self._revoked[kind] and self._count_revocations() >= self._max_revocations:
            self._purge_revocations(self._seen_at)
            if self._count_revocations() >= self._max_revocations:
                raise RevocationLimitError(f"{self._max_revocations} revocations are in force")
        entries = self._revoked[kind]
        entries[revoked_id] = max(until, entries.get(revoked_id, until))
        self.has_revocations = True

    def is_revoked(self, claims: Claims, now: float) -> bool:
        """Say whether claims are revoked at `now`: three dict lookups, for every request of an open stream."""
        revoked = self._revoked
        return (
            now < revoked["jti"].get(claims.token_id, now)
            or now < revoked["sid"].get(claims.lineage, now)
            or now < revoked["sandbox"].get(claims.sandbox_id, now)
        )

    def _verify_fresh(self, token: str, now: float) -> Claims:
        payload = self.verify_signature(token)
        try:
            members = _json_object(payload)
        except ValueError as error:
            raise TokenError(TokenFault.MALFORMED, "the payload is not a JSON object") from error
        return check_claims(
            members, audience=self._audience, issuer=self._issuer, now=now, leeway_seconds=self._leeway_seconds
        )

    def _purge(self, now: float) -> None:
        """Forget, once a minute, revocations that have run out."""
        self._seen_at = now
        if now >= self._purge_at:
            self._purge_at = now + PURGE_AFTER_SECONDS
            self._purge_revocations(now)

    def _purge_revocations(self, now: float) -> None:
        for kind, entries in self._revoked.items():
            self._revoked[kind] = {name: until for name, until in entries.items() if until > now}
        self.has_revocations = any(self._revoked.values())

    def _count_revocations(self) -> int:
        return sum(map(len, self._revoked.values()))

    def __repr__(self) -> str:
        return f"<TokenVerifier {self._audience}: {len(self._cache)} cached, {self._count_revocations()} revoked>"


# ---- the header that carries a token


def proxy_token(value: bytes) -> str | None:
    """Return the token of a Proxy-Authorization value: `Bearer TOKEN`, or the password of `Basic`.

    None where no token was presented: an empty value or another scheme, which the 407 answers.
    Raises TokenError where one of ours is malformed. The Basic user name means nothing.
    """
    if len(value) > 2 * MAX_TOKEN_BYTES:  # base64 of the longest token fits
        raise TokenError(TokenFault.TOO_LARGE, "the Proxy-Authorization value is too long")
    scheme, _, rest = value.strip(b" \t").partition(b" ")
    credentials = rest.strip(b" ")
    match scheme.lower():
        case b"bearer":
            return _visible(credentials)
        case b"basic":
            return _visible(_basic_password(credentials))
    return None


def _basic_password(credentials: bytes) -> bytes:
    try:
        decoded = base64.b64decode(credentials, validate=True)
    except binascii.Error as error:
        raise TokenError(TokenFault.MALFORMED, "the Basic credentials are not base64") from error
    _, colon, password = decoded.partition(b":")
    if not colon:
        raise TokenError(TokenFault.MALFORMED, "the Basic credentials hold no colon; give the token as the password")
    return password


def _visible(token: bytes) -> str:
    if not token:
        raise TokenError(TokenFault.MALFORMED, "the token is empty; with Basic it is the password")
    if token.translate(None, _VISIBLE):  # something is left over
        raise TokenError(TokenFault.MALFORMED, "the token holds characters other than visible ASCII")
    return token.decode("ascii")
