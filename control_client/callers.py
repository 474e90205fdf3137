"""Who calls a part: service tokens, verified by the control plane's published keys (contracts section 3).

For a part that is called seldom: nothing is cached but the keys, and they are fetched when somebody calls.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from control_client.errors import ControlError, unexpected
from control_client.keys import fetch_jwks
from control_client.session import ControlSession
from sallyport.claims import Claims, TokenError, TokenFault, check_claims
from sallyport.json_object import json_object
from sallyport.wire.compact_token import bearer_token, decode_segment, parse_compact, token_object

# A signer publishes a key before it signs with it; this is how long before it has to.
REFRESH_SECONDS: Final = 300.0
# Tokens with made-up key ids, and a control plane that is away, must not become a request each.
LEAST_SECONDS: Final = 10.0
# Hosts on NTP agree within milliseconds; this is for the signer whose clock runs ahead.
LEEWAY_SECONDS: Final = 10.0
# Rotation keeps two keys.
MAX_KEYS: Final = 64

_log = structlog.get_logger(__name__)


class CallerCheck:
    """Check the Authorization of requests. Keys that were fetched serve on while the control plane is away."""

    def __init__(
        self,
        session: ControlSession,
        *,
        audience: str,
        issuer: str,
        wall: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        """wall is unix time; clock does not jump."""
        self._session = session
        self._audience = audience
        self._issuer = issuer
        self._wall = wall
        self._clock = clock
        self._keys: dict[str, Ed25519PublicKey] = {}
        self._fetched_at = self._tried_at = float("-inf")
        self._fetching = asyncio.Lock()

    async def check(self, authorization: str | None) -> Claims:
        """Return whose token it is, as Claims whose sandbox_id is the caller.

        Raises TokenError, and ControlError where there are no keys to verify with.
        """
        token = bearer_token((authorization or "").encode("utf-8", "surrogateescape"))
        if token is None:
            raise TokenError(TokenFault.MALFORMED, "no bearer token")
        parts = parse_compact(token)
        if parts.header.get("alg") != "EdDSA":
            raise TokenError(TokenFault.ALGORITHM, "the token is not signed with EdDSA")
        key = await self._find(parts.header.get("kid"))
        try:
            key.verify(parts.signature, parts.signing_input)
        except InvalidSignature:
            raise TokenError(TokenFault.SIGNATURE, "the signature is not the key's") from None
        return check_claims(
            token_object(parts.payload, "payload"),
            audience=self._audience,
            issuer=self._issuer,
            now=self._wall(),
            leeway_seconds=LEEWAY_SECONDS,
        )

    async def prepare(self) -> None:
        """Fetch the keys, so that the first caller does not wait for them."""
        async with self._fetching:
            await self._refresh()

    async def _find(self, key_id: object) -> Ed25519PublicKey:
        async with self._fetching:
            now = self._clock()
            is_due = key_id not in self._keys or now >= self._fetched_at + REFRESH_SECONDS
            if is_due and now >= self._tried_at + LEAST_SECONDS:
                await self._refresh()
        if not self._keys:
            raise ControlError("no_keys", temporary=True, detail="the control plane's keys have not come yet")
        key = self._keys.get(key_id) if isinstance(key_id, str) else None
        if key is None:
            raise TokenError(TokenFault.UNKNOWN_KEY, "no key of that kid")
        return key

    async def _refresh(self) -> None:
        self._tried_at = self._clock()
        try:
            self._keys = read_keys(await fetch_jwks(self._session))
        except ControlError as error:
            _log.warning("keys_not_fetched", detail=str(error))
        else:
            self._fetched_at = self._clock()

    def __repr__(self) -> str:
        return f"<CallerCheck {self._audience}: {len(self._keys)} keys>"


def read_keys(document: bytes) -> dict[str, Ed25519PublicKey]:
    """Return the keys of a JWK Set that may have signed a token of ours, by kid; raises ControlError for no JWK Set."""
    try:
        entries = json_object(document)["keys"]
        if not isinstance(entries, list) or len(entries) > MAX_KEYS:
            raise ValueError("no list of keys, or a long one")
        return {
            str(entry["kid"]): Ed25519PublicKey.from_public_bytes(decode_segment(entry["x"], "x"))
            for entry in entries
            if _is_ours(entry)
        }
    except (ValueError, KeyError, TypeError, TokenError):
        raise unexpected("a JWK Set that cannot be read") from None


def _is_ours(entry: dict[str, object]) -> bool:
    """Whether a JWK is an Ed25519 key for signatures; those of other kinds and uses are passed over (RFC 7517)."""
    if (entry["kty"], entry.get("crv")) != ("OKP", "Ed25519") or not isinstance(entry.get("kid"), str):
        return False
    operations = entry.get("key_ops", ["verify"])
    is_meant = isinstance(operations, list) and "verify" in operations
    return is_meant and (entry.get("use", "sig"), entry.get("alg", "EdDSA")) == ("sig", "EdDSA")
