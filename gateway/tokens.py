"""Tokens: the verifier with its cache, the header that carries a token.

A token is read by `sallyport.wire.compact_token`, its claims are judged by `sallyport.claims`; here stand signatures
(contracts section 3, RFC 7515). Which keys are believed is in keys.py, what is out of service in revocations.py.
"""

import base64
import binascii
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

from gateway.keys import ALGORITHMS, KEY_HELP, TOKEN_ALGORITHMS, KeyRing, KeySet, KeySetError
from gateway.revocations import Revocations
from sallyport.claims import Claims, TokenError, TokenFault, check_claims, check_instant
from sallyport.wire.compact_token import MAX_TOKEN_BYTES, parse_compact, token_object, visible_token

# About 1 KiB an entry: 64 MiB at the very worst, one entry per live token.
CACHE_ENTRIES: Final = 65_536
# Hosts on NTP agree within milliseconds; this is for the signer whose clock runs ahead.
LEEWAY_SECONDS: Final = 10.0


# ---- the verifier


class TokenVerifier:
    """Verify tokens of one issuer for one audience.

    A verification costs some 100 us, a cache hit about 2. The cache only ever holds claims whose
    signature was good under the keys now in force; expiry and revocation are looked at on every use.
    """

    def __init__(
        self,
        keys: KeyRing,
        *,
        issuer: str,
        audience: str,
        revocations: Revocations,
        algorithms: Iterable[str] = TOKEN_ALGORITHMS,
        leeway_seconds: float = LEEWAY_SECONDS,
        cache_entries: int = CACHE_ENTRIES,
        on_unknown_key: Callable[[], None] | None = None,
    ) -> None:
        """Raises ValueError for an algorithm unknown here, KeySetError when no key fits the algorithms.

        on_unknown_key hears of a token whose key is not among those in force: where they come from may have more.
        """
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self.revocations = revocations
        self._algorithms = frozenset(algorithms)
        self._leeway_seconds = leeway_seconds
        self._cache_entries = cache_entries
        self._on_unknown_key = on_unknown_key
        unknown = sorted(self._algorithms - ALGORITHMS.keys())
        if unknown:
            raise ValueError(f"unsupported token algorithms {unknown}; supported: {sorted(ALGORITHMS)}")
        if keys.current is not None and not keys.current.supports(self._algorithms):
            raise KeySetError(f"no key can be used with {sorted(self._algorithms)}; {KEY_HELP}")
        self._cache: OrderedDict[bytes, Claims] = OrderedDict()
        self._cached_under: KeySet | None = None

    def verify(self, token: str, now: float) -> Claims:
        """Return the claims of a good token, or raise TokenError. `now` is in Unix seconds."""
        self.revocations.purge(now)
        if self._cached_under is not self._keys.current:
            # A key that was withdrawn takes with it what it signed.
            self._cache.clear()
            self._cached_under = self._keys.current
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
        if self.revocations.cover(claims, now):
            raise TokenError(TokenFault.REVOKED, "the token, its session or its sandbox has been revoked")
        return claims

    def verify_signature(self, token: str) -> bytes:
        """Return the payload of a token whose signature is good; its claims are NOT looked at."""
        parts = parse_compact(token)
        algorithm = parts.header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            raise TokenError(TokenFault.ALGORITHM, "the algorithm is not one of the configured ones")
        keys = self._keys.current
        if keys is None:
            raise TokenError(TokenFault.UNKNOWN_KEY, "no keys have come yet")
        key_id = parts.header.get("kid")
        key = keys.find(key_id if isinstance(key_id, str) else None)
        if algorithm not in key.algorithms:
            raise TokenError(TokenFault.ALGORITHM, "the algorithm is not one of the key's")
        if not ALGORITHMS[algorithm].verify(parts.signing_input, key.public_key, parts.signature):
            raise TokenError(TokenFault.SIGNATURE, "the signature is not the key's")
        return parts.payload

    def _verify_fresh(self, token: str, now: float) -> Claims:
        try:
            payload = self.verify_signature(token)
        except TokenError as error:
            if error.reason is TokenFault.UNKNOWN_KEY and self._on_unknown_key is not None:
                self._on_unknown_key()
            raise
        members = token_object(payload, "payload")
        return check_claims(
            members, audience=self._audience, issuer=self._issuer, now=now, leeway_seconds=self._leeway_seconds
        )

    def __repr__(self) -> str:
        return f"<TokenVerifier {self._audience}: {len(self._cache)} cached>"


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
            return visible_token(credentials)
        case b"basic":
            return visible_token(_basic_password(credentials))
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
