"""Signing keys: made once, rotated ahead of use; what is verified and what is refused."""

import asyncio
import base64
import json

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from control_plane.foundation import Foundation
from control_plane.signing import (
    MAX_TTL_SECONDS,
    PUBLISH_AHEAD_SECONDS,
    KeyRing,
    ensure_signing_key,
    rotate_signing_key,
)
from control_plane.store.models import SigningKey
from gateway.keys import KeyRing as GatewayKeyRing
from gateway.keys import KeySet
from gateway.revocations import Revocations
from gateway.tokens import TokenVerifier
from sallyport.claims import AUDIENCE_CONTROL, AUDIENCE_PROXY, TokenError, TokenFault
from tests.support.control_plane import NOW


def ring(base: Foundation) -> KeyRing:
    return KeyRing(base.database, base.vault, "sallyport")


async def service_token(base: Foundation, now: float = NOW) -> str:
    minted = await base.ring.mint(audience=AUDIENCE_CONTROL, subject="gateway", ttl_seconds=60, now=now)
    return minted.token


async def test_a_gateway_believes_what_is_signed(base: Foundation) -> None:
    minted = await base.ring.mint(
        audience=AUDIENCE_PROXY, subject="sbx_1", organization_id="org_1", lineage="sid_1", ttl_seconds=60, now=NOW
    )
    keys = KeySet.from_jwks(json.dumps(await base.ring.jwks(NOW)).encode())
    header = jwt.get_unverified_header(minted.token)
    assert keys.find(header["kid"]).algorithms == frozenset({"EdDSA"})
    verifier = TokenVerifier(
        GatewayKeyRing(keys), issuer="sallyport", audience=AUDIENCE_PROXY, revocations=Revocations()
    )
    claims = verifier.verify(minted.token, NOW)
    assert (claims.sandbox_id, claims.organization_id, claims.lineage, claims.expires_at) == (
        "sbx_1",
        "org_1",
        "sid_1",
        int(NOW) + 60,
    )
    assert minted.token not in repr(minted)


async def test_what_is_signed_here_is_verified_here_until_it_ends(base: Foundation) -> None:
    token = await service_token(base)
    claims = await ring(base).verify(token, AUDIENCE_CONTROL, NOW + 59)
    assert (claims.sandbox_id, claims.organization_id, claims.lineage) == ("gateway", "", "")
    for audience, now, reason in (
        (AUDIENCE_CONTROL, NOW + 60, TokenFault.EXPIRED),
        (AUDIENCE_PROXY, NOW, TokenFault.WRONG_AUDIENCE),
    ):
        with pytest.raises(TokenError) as caught:
            await base.ring.verify(token, audience, now)
        assert caught.value.reason is reason


def _changed(token: str, part: int, change: dict[str, object]) -> str:
    parts = token.split(".")
    decoded = json.loads(base64.urlsafe_b64decode(parts[part] + "==")) | change
    parts[part] = base64.urlsafe_b64encode(json.dumps(decoded).encode()).rstrip(b"=").decode()
    return ".".join(parts)


async def test_tokens_that_are_not_ours(base: Foundation) -> None:
    token = await service_token(base)
    kid = jwt.get_unverified_header(token)["kid"]
    foreign = jwt.encode(
        jwt.decode(token, options={"verify_signature": False}),
        Ed25519PrivateKey.generate(),
        algorithm="EdDSA",
        headers={"kid": kid},
    )
    last = token[-1]
    refused = {
        "": TokenFault.MALFORMED,
        "a.b": TokenFault.MALFORMED,
        "a.b.c.d": TokenFault.MALFORMED,
        "ä.ä.ä": TokenFault.MALFORMED,
        "x" * 9_000: TokenFault.TOO_LARGE,
        foreign: TokenFault.SIGNATURE,
        _changed(token, 1, {"sub": "other"}): TokenFault.SIGNATURE,
        _changed(token, 0, {"alg": "none"}): TokenFault.ALGORITHM,
        _changed(token, 0, {"alg": "HS256"}): TokenFault.ALGORITHM,
        _changed(token, 0, {"crit": ["x"]}): TokenFault.CRITICAL_HEADER,
        _changed(token, 0, {"kid": "key_other"}): TokenFault.UNKNOWN_KEY,
        _changed(token, 0, {"kid": 1}): TokenFault.MALFORMED,
        token[:-1] + ("B" if last != "B" else "C"): TokenFault.MALFORMED,  # another spelling of the same bytes, or none
        f"{token}=": TokenFault.MALFORMED,
        f" {token}": TokenFault.MALFORMED,
    }
    for each, reason in refused.items():
        with pytest.raises(TokenError) as caught:
            await base.ring.verify(each, AUDIENCE_CONTROL, NOW)
        assert caught.value.reason in (reason, TokenFault.SIGNATURE), each
        assert token not in str(caught.value)


async def test_a_new_key_is_published_ahead_of_its_use_and_the_old_one_stays(base: Foundation) -> None:
    before = await service_token(base)
    new_id, active_at = await rotate_signing_key(base.database, base.vault, NOW)
    assert active_at == NOW + PUBLISH_AHEAD_SECONDS
    both = [key["kid"] for key in (await ring(base).jwks(NOW))["keys"]]
    assert len(both) == 2
    old_id = jwt.get_unverified_header(before)["kid"]
    assert jwt.get_unverified_header(await service_token(base, NOW + PUBLISH_AHEAD_SECONDS - 1))["kid"] == old_id
    assert jwt.get_unverified_header(await service_token(base, NOW + PUBLISH_AHEAD_SECONDS))["kid"] == new_id
    last = active_at + MAX_TTL_SECONDS
    assert len(await ring(base).published(last - 1)) == 2
    assert [key.id for key in await ring(base).published(last)] == [new_id]


async def test_a_replica_learns_of_a_key_when_it_meets_it(base: Foundation) -> None:
    replica = ring(base)
    await replica.published(NOW)
    await rotate_signing_key(base.database, base.vault, NOW, at_once=True)
    token = (await ring(base).mint(audience=AUDIENCE_CONTROL, subject="x", ttl_seconds=9, now=NOW + 1)).token
    assert (await replica.verify(token, AUDIENCE_CONTROL, NOW + 1)).sandbox_id == "x"


async def test_replicas_that_start_together_make_one_key(base: Foundation) -> None:
    async with base.database.write() as tx:
        for key in await base.ring.published(NOW):
            row = await tx.get(SigningKey, key.id)
            assert row is not None
            await tx.delete(row)
    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(ensure_signing_key(base.database, base.vault, NOW))
    assert len(await ring(base).published(NOW)) == 1


async def test_a_ttl_beyond_what_keys_are_published_for(base: Foundation) -> None:
    for seconds in (0, -1, MAX_TTL_SECONDS + 1):
        with pytest.raises(ValueError, match="lives from"):
            await base.ring.mint(audience=AUDIENCE_CONTROL, subject="x", ttl_seconds=seconds, now=NOW)


async def test_private_keys_are_not_in_the_database(base: Foundation, url: str) -> None:
    async with base.database.read() as tx:
        [key] = await base.ring.published(NOW)
        row = await tx.get(SigningKey, key.id)
    assert row is not None
    assert b"PRIVATE KEY" not in row.private_key
    assert repr(key) == f"<PublishedKey {key.id}>"
