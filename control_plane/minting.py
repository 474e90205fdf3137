"""Tokens of sandboxes: minted for an operator, renewed for a running sandbox (contracts section 3).

A renewal token is used once. Presented again within REPEAT_SECONDS it gets the answer it got, because an answer may be
lost on its way; later it means that two hold it, and its whole lineage is revoked.
"""

import secrets
from dataclasses import dataclass
from typing import Final

import orjson

from control_plane import revocations
from control_plane.refusals import ControlCode, Refused, sandbox_not_found
from control_plane.signing import KeyRing, Minted
from control_plane.store import events, keys, sandboxes
from control_plane.store.database import Database, Transaction
from control_plane.store.models import RenewalToken, Sandbox, TokenAnswer
from control_plane.vault.disclosure import repeated_answer
from control_plane.vault.envelope import Place, Vault
from sallyport.claims import AUDIENCE_PROXY, AUDIENCE_RENEWAL, AUDIENCE_TUNNEL, Claims, TokenError
from sallyport.secret import Secret

TUNNEL_SECONDS: Final = 15 * 60
PROXY_SECONDS: Final = 24 * 3600
RENEWAL_SECONDS: Final = 24 * 3600
REPEAT_SECONDS: Final = 60
# How long a revoked lineage is remembered: nothing of it lives longer.
LINEAGE_SECONDS: Final = RENEWAL_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelTokens:
    """A tunnel token with its renewal token, never printed by their reprs."""

    tunnel: Minted
    renewal: Minted

    def answer(self) -> dict[str, object]:
        """Return the members of an answer that carries both."""
        return {
            "token": self.tunnel.token,
            "expiresAt": self.tunnel.expires_at,
            "renewalToken": self.renewal.token,
            "renewalExpiresAt": self.renewal.expires_at,
        }


class TokenOffice:
    """Mints and renews the tokens of sandboxes."""

    def __init__(self, database: Database, vault: Vault, ring: KeyRing) -> None:
        self._database = database
        self._vault = vault
        self._ring = ring

    async def mint_proxy(self, sandbox_id: str, ttl_seconds: int, now: float) -> dict[str, object]:
        """Mint a proxy token, of a lineage of its own. Raises Refused."""
        async with self._database.read() as tx:
            sandbox = await sandboxes.sandbox(tx, sandbox_id)
        if sandbox is None:
            raise sandbox_not_found()
        minted = await self._ring.mint(
            audience=AUDIENCE_PROXY,
            subject=sandbox_id,
            organization_id=sandbox.organization_id,
            lineage=_new_lineage(),
            ttl_seconds=ttl_seconds,
            now=now,
        )
        return {"token": minted.token, "expiresAt": minted.expires_at}

    async def mint_tunnel(self, sandbox_id: str, ttl_seconds: int, now: float) -> dict[str, object]:
        """Mint a tunnel token and its renewal token, of a new lineage. Raises Refused."""
        await self._ring.published(now)  # not inside: who holds one of the pool's connections must not want a second
        async with self._database.write() as tx:
            sandbox = await sandboxes.sandbox(tx, sandbox_id)
            if sandbox is None:
                raise sandbox_not_found()
            return (await self._mint_pair(tx, sandbox, _new_lineage(), ttl_seconds, now)).answer()

    async def renew(
        self, sandbox_id: str, request_id: str, renewal_token: str | None, lineage: str | None, now: float
    ) -> bytes:
        """Answer a token request: the JSON of `{requestId, token, ...}`. Raises Refused.

        Without a renewal token the gateway vouches for the tunnel; the tokens are of its lineage where it names one,
        else of the sandbox's latest that is not revoked.
        """
        await self._ring.published(now)
        claims = None if renewal_token is None else await self._verify_renewal(sandbox_id, renewal_token, now)
        reused = False
        async with self._database.write() as tx:
            sandbox = await sandboxes.sandbox(tx, sandbox_id, lock=True)
            if sandbox is None:
                raise sandbox_not_found()
            repeated = await self._repeated(tx, sandbox, request_id, claims, now)
            if repeated is not None:
                return repeated
            if claims is None:
                lineage = await self._lineage(tx, sandbox_id, lineage, now)
            else:
                lineage, reused = claims.lineage, not await self._use(tx, claims, request_id, now)
            if reused:
                await revocations.record(tx, "sid", lineage, int(now) + LINEAGE_SECONDS, now)
            else:
                return await self._answer(tx, sandbox, request_id, claims, lineage, now)
        # After the commit: a refusal inside the block would have taken the revocation back.
        raise Refused(ControlCode.RENEWAL_REFUSED, "it was used before; its lineage is revoked, ask for new tokens")

    async def _verify_renewal(self, sandbox_id: str, token: str, now: float) -> Claims:
        try:
            claims = await self._ring.verify(token, AUDIENCE_RENEWAL, now)
        except TokenError as error:
            raise Refused(ControlCode.RENEWAL_REFUSED, str(error)) from None
        if claims.sandbox_id != sandbox_id:
            raise Refused(ControlCode.RENEWAL_REFUSED, "it is another sandbox's")
        return claims

    async def _repeated(
        self, tx: Transaction, sandbox: Sandbox, request_id: str, claims: Claims | None, now: float
    ) -> bytes | None:
        """Return what this request, or this renewal token a moment ago, was answered."""
        renewal_id = "" if claims is None else claims.token_id
        known = await keys.token_answer(tx, sandbox.id, request_id)
        if known is not None and now < known.at + REPEAT_SECONDS:
            if known.renewal_id != renewal_id:
                raise Refused(ControlCode.REQUEST_CONFLICT, "choose a new requestId")
        elif claims is not None:
            known = await self._answer_of_used(tx, sandbox.id, claims, now)
        else:
            known = None
        if known is None:
            return None
        place = _answer_place(sandbox, known.request_id)
        answer = orjson.loads(repeated_answer(await self._vault.open(tx, place, known.answer)))
        return orjson.dumps(answer | {"requestId": request_id})

    async def _answer_of_used(self, tx: Transaction, sandbox_id: str, claims: Claims, now: float) -> TokenAnswer | None:
        row = await keys.renewal_token(tx, claims.token_id)
        if row is None or row.used_at is None or row.used_request_id is None or now >= row.used_at + REPEAT_SECONDS:
            return None
        return await keys.token_answer(tx, sandbox_id, row.used_request_id)

    async def _use(self, tx: Transaction, claims: Claims, request_id: str, now: float) -> bool:
        """Mark a renewal token used; False when it was used before. Raises Refused where it is revoked."""
        await self._refuse_revoked(tx, claims.sandbox_id, claims.lineage, now, token_id=claims.token_id)
        row = await keys.renewal_token(tx, claims.token_id)
        if row is None or row.used_at is not None:
            return False
        await keys.mark_used(tx, claims.token_id, request_id, now)
        return True

    async def _lineage(self, tx: Transaction, sandbox_id: str, named: str | None, now: float) -> str:
        if named is not None:
            await self._refuse_revoked(tx, sandbox_id, named, now)
            return named
        for lineage in await keys.lineages(tx, sandbox_id, now):
            if await events.is_revoked(tx, [("sid", lineage)], now) is None:
                await self._refuse_revoked(tx, sandbox_id, lineage, now)
                return lineage
        raise Refused(ControlCode.RENEWAL_REFUSED, "the sandbox has no lineage of tokens that is not revoked or over")

    async def _refuse_revoked(
        self, tx: Transaction, sandbox_id: str, lineage: str, now: float, *, token_id: str = ""
    ) -> None:
        named = [("sandbox", sandbox_id), ("sid", lineage), ("jti", token_id)]
        kind = await events.is_revoked(tx, named, now)
        if kind is not None:
            raise Refused(ControlCode.RENEWAL_REFUSED, f"its {kind} is revoked")

    async def _answer(
        self, tx: Transaction, sandbox: Sandbox, request_id: str, claims: Claims | None, lineage: str, now: float
    ) -> bytes:
        pair = await self._mint_pair(tx, sandbox, lineage, TUNNEL_SECONDS, now)
        answer = orjson.dumps({"requestId": request_id, **pair.answer()})
        await keys.forget_answer(tx, sandbox.id, request_id)
        row = TokenAnswer(
            sandbox_id=sandbox.id,
            request_id=request_id,
            renewal_id="" if claims is None else claims.token_id,
            answer=await self._vault.seal(tx, _answer_place(sandbox, request_id), Secret(answer)),
            at=int(now),
        )
        await tx.add(row)
        return answer

    async def _mint_pair(
        self, tx: Transaction, sandbox: Sandbox, lineage: str, ttl_seconds: int, now: float
    ) -> TunnelTokens:
        async def mint(audience: str, seconds: int) -> Minted:
            return await self._ring.mint(
                audience=audience,
                subject=sandbox.id,
                organization_id=sandbox.organization_id,
                lineage=lineage,
                ttl_seconds=seconds,
                now=now,
            )

        pair = TunnelTokens(
            tunnel=await mint(AUDIENCE_TUNNEL, ttl_seconds), renewal=await mint(AUDIENCE_RENEWAL, RENEWAL_SECONDS)
        )
        row = RenewalToken(
            id=pair.renewal.token_id,
            sandbox_id=sandbox.id,
            lineage=lineage,
            expires_at=pair.renewal.expires_at,
            used_at=None,
            used_request_id=None,
        )
        await tx.add(row)
        return pair


def _new_lineage() -> str:
    return f"sid_{secrets.token_hex(12)}"


def _answer_place(sandbox: Sandbox, request_id: str) -> Place:
    return Place(sandbox.organization_id, "token_answers", (sandbox.id, request_id), "answer")
