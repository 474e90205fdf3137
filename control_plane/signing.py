"""The keys that sign tokens: made, rotated, published, used; and the reading of tokens that were signed here.

Every replica keeps the published keys in memory and reads them again every few seconds, and at once for a key it does
not know. A new key is published PUBLISH_AHEAD_SECONDS before it is used, so that whoever caches the key set has it by
then.
"""

import asyncio
import base64
import secrets
from dataclasses import dataclass
from typing import Final

import jwt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from control_plane.ids import new_id
from control_plane.store import keys
from control_plane.store.database import Database, Transaction
from control_plane.store.models import SigningKey
from control_plane.vault.disclosure import dump_signing_key, load_signing_key
from control_plane.vault.envelope import OWN, Place, Vault
from sallyport.claims import Claims, TokenError, TokenFault, check_claims
from sallyport.wire.compact_token import parse_compact, token_object

# Longer than the key set may be cached (JWKS_MAX_AGE_SECONDS) and replicas take to read it again.
PUBLISH_AHEAD_SECONDS: Final = 600
JWKS_MAX_AGE_SECONDS: Final = 300
# Nothing signed here lives longer, so a key that is replaced is published this much longer and then forgotten.
MAX_TTL_SECONDS: Final = 30 * 86_400
RELOAD_SECONDS: Final = 5.0
# Our own replicas' clocks, on NTP.
LEEWAY_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedKey:
    """A key of the published set. private is there to sign with; its repr shows nothing of it."""

    id: str
    public: Ed25519PublicKey
    private: Ed25519PrivateKey
    created_at: int
    active_at: int
    retire_at: int | None

    def __repr__(self) -> str:
        return f"<PublishedKey {self.id}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Minted:
    """A signed token, never printed by its repr."""

    token: str
    token_id: str
    lineage: str
    expires_at: int

    def __repr__(self) -> str:
        return f"<Minted {self.token_id} until {self.expires_at}>"


class KeyRing:
    """The published keys, as of a few seconds ago. One per process."""

    def __init__(self, database: Database, vault: Vault, issuer: str) -> None:
        self._database = database
        self._vault = vault
        self.issuer = issuer
        self._keys: dict[str, PublishedKey] = {}
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def mint(
        self, *, audience: str, subject: str, ttl_seconds: int, now: float, organization_id: str = "", lineage: str = ""
    ) -> Minted:
        """Sign a token with the key in use (contracts section 3).

        Raises DatabaseUnavailable, and ValueError where it would be refused by whoever gets it.
        """
        if not 0 < ttl_seconds <= MAX_TTL_SECONDS:
            raise ValueError(f"a token lives from 1 to {MAX_TTL_SECONDS} seconds")
        key = await self._in_use(now)
        issued_at, token_id = int(now), f"jti_{secrets.token_hex(12)}"
        claims: dict[str, object] = {"iss": self.issuer, "aud": audience, "sub": subject}
        claims |= {"org": organization_id} if organization_id else {}
        claims |= {"sid": lineage} if lineage else {}
        expires_at = issued_at + ttl_seconds
        claims |= {"iat": issued_at, "nbf": issued_at, "exp": expires_at, "jti": token_id}
        try:
            check_claims(claims, audience=audience, issuer=self.issuer, now=now)
        except TokenError as error:
            raise ValueError(str(error)) from None
        token = jwt.encode(claims, key.private, algorithm="EdDSA", headers={"kid": key.id})
        return Minted(token=token, token_id=token_id, lineage=lineage, expires_at=expires_at)

    async def verify(self, token: str, audience: str, now: float) -> Claims:
        """Return the claims of a token that was signed here; raises TokenError, DatabaseUnavailable."""
        parts = parse_compact(token)
        if parts.header.get("alg") != "EdDSA":
            raise TokenError(TokenFault.ALGORITHM, "the token is not signed with EdDSA")
        key_id = parts.header.get("kid")
        key = await self._find(key_id, now) if isinstance(key_id, str) else None
        if key is None:
            raise TokenError(TokenFault.UNKNOWN_KEY, "no key of that kid")
        try:
            key.public.verify(parts.signature, parts.signing_input)
        except InvalidSignature:
            raise TokenError(TokenFault.SIGNATURE, "the signature does not fit") from None
        payload = token_object(parts.payload, "payload")
        return check_claims(payload, audience=audience, issuer=self.issuer, now=now, leeway_seconds=LEEWAY_SECONDS)

    async def published(self, now: float) -> list[PublishedKey]:
        """Return every published key, the one that was made first at the beginning."""
        if now - self._read_at >= RELOAD_SECONDS or not self._keys:
            await self.reload(now)
        return list(self._keys.values())

    async def jwks(self, now: float) -> dict[str, list[dict[str, str]]]:
        """Return the published keys as a JWK Set."""
        return {"keys": [_jwk(key) for key in await self.published(now)]}

    async def reload(self, now: float) -> None:
        """Read the keys again."""
        async with self._reading, self._database.read() as tx:
            found = [await self._open(tx, row) for row in await keys.signing_keys(tx, now)]
            self._keys = {key.id: key for key in found}
            self._read_at = now

    async def _find(self, key_id: str, now: float) -> PublishedKey | None:
        # An unknown kid costs a query, but no more than one a second: anybody can send one.
        if now - self._read_at >= (RELOAD_SECONDS if key_id in self._keys else 1):
            await self.reload(now)
        return self._keys.get(key_id)

    async def _in_use(self, now: float) -> PublishedKey:
        active = [key for key in await self.published(now) if key.active_at <= now]
        if not active:
            raise RuntimeError("there is no signing key; start the control plane once, or run `control-plane migrate`")
        return max(active, key=lambda key: (key.active_at, key.created_at, key.id))

    async def _open(self, tx: Transaction, row: SigningKey) -> PublishedKey:
        known = self._keys.get(row.id)
        private = (
            known.private if known else load_signing_key(await self._vault.open(tx, _place(row.id), row.private_key))
        )
        return PublishedKey(
            id=row.id,
            public=Ed25519PublicKey.from_public_bytes(row.public_key),
            private=private,
            created_at=row.created_at,
            active_at=row.active_at,
            retire_at=row.retire_at,
        )

    def __repr__(self) -> str:
        return f"<KeyRing {', '.join(self._keys)}>"


async def ensure_signing_key(database: Database, vault: Vault, now: float) -> None:
    """Make the first signing key where there is none. Replicas that start together agree."""
    async with database.write() as tx:
        await tx.exclusive_start()
        if not await keys.signing_keys(tx, now):
            await _add(tx, vault, now, active_at=int(now))


async def rotate_signing_key(database: Database, vault: Vault, now: float, *, at_once: bool = False) -> tuple[str, int]:
    """Publish a new key, used in PUBLISH_AHEAD_SECONDS or at once; the old ones end when nothing signed by them lives.

    Returns the new key's id and the instant from which it signs.
    """
    active_at = int(now) + (0 if at_once else PUBLISH_AHEAD_SECONDS)
    async with database.write() as tx:
        await tx.exclusive_start()
        key_id = await _add(tx, vault, now, active_at=active_at)
        await keys.retire_signing_keys(tx, key_id, active_at + MAX_TTL_SECONDS)
    return key_id, active_at


async def _add(tx: Transaction, vault: Vault, now: float, *, active_at: int) -> str:
    key, key_id = Ed25519PrivateKey.generate(), new_id("key", now)
    row = SigningKey(
        id=key_id,
        public_key=key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw),
        private_key=await vault.seal(tx, _place(key_id), dump_signing_key(key)),
        created_at=int(now),
        active_at=active_at,
        retire_at=None,
    )
    await tx.add(row)
    return key_id


def _place(key_id: str) -> Place:
    return Place(OWN, "signing_keys", (key_id,), "private_key")


def _jwk(key: PublishedKey) -> dict[str, str]:
    x = base64.urlsafe_b64encode(key.public.public_bytes(Encoding.Raw, PublicFormat.Raw)).rstrip(b"=").decode("ascii")
    return {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": key.id, "use": "sig", "alg": "EdDSA"}
