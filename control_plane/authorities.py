"""The interception CA of each sandbox: made at its first use, the key stored encrypted, the certificate renewed."""

import asyncio
from typing import Final

from control_plane.refusals import sandbox_not_found
from control_plane.store import sandboxes as rows
from control_plane.store.database import Database, Transaction
from control_plane.store.models import InterceptionAuthority
from control_plane.vault.disclosure import authority_answer, key_pem
from control_plane.vault.envelope import Place, Vault
from sallyport.net.interception import certify_authority, make_authority_key
from sallyport.secret import Secret

# Renewed this long before its end: gateways keep an authority until a day before that, leaves live half a day.
RENEW_AHEAD_SECONDS: Final = 3 * 86_400


class Authorities:
    """Gives every gateway the same authority for a sandbox."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    async def certificate(self, sandbox_id: str, now: float) -> str:
        """Return the CA's certificate in PEM. Raises Refused."""
        return (await self._current(sandbox_id, now))[0].certificate_pem

    async def for_gateway(self, sandbox_id: str, now: float) -> bytes:
        """Return the body with certificate and key that a gateway holds in memory. Raises Refused."""
        row, organization_id = await self._current(sandbox_id, now)
        async with self._database.read() as tx:
            key = await self._vault.open(tx, _place(organization_id, sandbox_id), row.private_key)
        return authority_answer(key, certificate_pem=row.certificate_pem, not_after=row.not_after)

    async def _current(self, sandbox_id: str, now: float) -> tuple[InterceptionAuthority, str]:
        async with self._database.read() as tx:
            sandbox = await rows.sandbox(tx, sandbox_id)
            if sandbox is None:
                raise sandbox_not_found()
            row = await rows.authority(tx, sandbox_id)
        if row is None or row.not_after - RENEW_AHEAD_SECONDS <= now:
            row = await self._make_or_renew(sandbox_id, sandbox.organization_id, now)
        return row, sandbox.organization_id

    async def _make_or_renew(self, sandbox_id: str, organization_id: str, now: float) -> InterceptionAuthority:
        async with self._database.write() as tx:
            # The sandbox's lock: of two replicas one makes it, and neither makes one for a sandbox just deleted.
            if await rows.sandbox(tx, sandbox_id, lock=True) is None:
                raise sandbox_not_found()
            row = await rows.authority(tx, sandbox_id, lock=True)
            if row is None:
                return await self._make(tx, sandbox_id, organization_id, now)
            if row.not_after - RENEW_AHEAD_SECONDS <= now:
                key = await self._vault.open(tx, _place(organization_id, sandbox_id), row.private_key)
                certificate, not_after = await asyncio.to_thread(certify_authority, sandbox_id, key_pem(key), now)
                row.certificate_pem, row.not_after = certificate.decode("ascii"), int(not_after)
            return row

    async def _make(self, tx: Transaction, sandbox_id: str, organization_id: str, now: float) -> InterceptionAuthority:
        key = make_authority_key()
        certificate, not_after = certify_authority(sandbox_id, key, now)
        row = InterceptionAuthority(
            sandbox_id=sandbox_id,
            certificate_pem=certificate.decode("ascii"),
            private_key=await self._vault.seal(tx, _place(organization_id, sandbox_id), Secret(key)),
            not_after=int(not_after),
            created_at=int(now),
        )
        await tx.add(row)
        return row


def _place(organization_id: str, sandbox_id: str) -> Place:
    return Place(organization_id, "interception_authorities", (sandbox_id,), "private_key")
