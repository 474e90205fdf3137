"""Resolve a credential for a gateway: every check of contracts section 4, the record of it, and the value last.

Fails closed: what is not proved to belong to this sandbox's current plan is refused, and what cannot be recorded is not
answered. The secret is decrypted only when every check has passed.
"""

from typing import NamedTuple

from control_plane import connections
from control_plane.refusals import ControlCode, Refused, sandbox_not_found
from control_plane.store import connections as connection_rows
from control_plane.store import events, sandboxes
from control_plane.store.database import Database, Transaction
from control_plane.store.models import Credential, PlanReference, Resolution
from control_plane.vault.disclosure import value_answer
from control_plane.vault.envelope import Vault
from sallyport.secret import Secret


class Wanted(NamedTuple):
    """What a gateway asks for. planRevision is only recorded; the current revision decides."""

    sandbox_id: str
    plan_revision: int
    egress_rule_id: str
    binding_id: str
    connection_id: str
    secret_type: str
    slot_key: str | None
    resolver_key: str | None


class Resolver:
    """Answers resolutions."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    async def resolve(self, wanted: Wanted, caller: str, now: float) -> bytes:
        """Return the body of the 200 answer. Raises Refused; either way the resolution is recorded."""
        refusal: Refused | None = None
        answer = b""
        async with self._database.write() as tx:
            version = None
            try:
                credential, value = await self._find(tx, wanted, now)
                version = credential.version
                answer = value_answer(value, version=version, expires_at=credential.expires_at)
            except Refused as refused:
                refusal = refused
            await tx.add(_record(wanted, caller, "ok" if refusal is None else refusal.code.wire, version, now))
        if refusal is not None:
            raise refusal
        return answer

    async def _find(self, tx: Transaction, wanted: Wanted, now: float) -> tuple[Credential, Secret]:
        sandbox = await sandboxes.sandbox(tx, wanted.sandbox_id)
        if sandbox is None:
            raise sandbox_not_found()
        await self._refuse_revoked(tx, wanted, now)
        if not await connection_rows.is_in_plan(tx, _reference(wanted)):
            detail = "the current plan has no such route, or another connection, secret type, slot or resolver on it"
            raise Refused(ControlCode.BINDING_NOT_IN_PLAN, detail)
        connection = await connection_rows.connection(tx, wanted.connection_id)
        if connection is None or connection.organization_id != sandbox.organization_id:
            # The same answer for another organization's: that it exists is none of this sandbox's business.
            raise connections.not_found()
        if connection.status != connections.ACTIVE:
            raise Refused(ControlCode.CONNECTION_NOT_ACTIVE, f"its status is {connection.status}")
        if wanted.resolver_key is not None:
            raise Refused(ControlCode.RESOLVER_NOT_FOUND, "the connection's target has no resolver of this key")
        found = await connection_rows.credentials(tx, [connection.id])
        credential = connections.choose(found, wanted.secret_type, wanted.slot_key)
        place = connections.credential_place(connection, credential.secret_type, credential.slot_key)
        return credential, await self._vault.open(tx, place, credential.value)

    async def _refuse_revoked(self, tx: Transaction, wanted: Wanted, now: float) -> None:
        named = [("sandbox", wanted.sandbox_id), ("binding", wanted.binding_id), ("connection", wanted.connection_id)]
        match await events.is_revoked(tx, named, now):
            case "sandbox":
                raise Refused(ControlCode.SANDBOX_NOT_FOUND, "it is revoked")
            case "binding":
                raise Refused(ControlCode.BINDING_NOT_IN_PLAN, "it is revoked")
            case "connection":
                raise Refused(ControlCode.CONNECTION_NOT_ACTIVE, "it is revoked")


def _reference(wanted: Wanted) -> PlanReference:
    return PlanReference(
        sandbox_id=wanted.sandbox_id,
        egress_rule_id=wanted.egress_rule_id,
        binding_id=wanted.binding_id,
        connection_id=wanted.connection_id,
        secret_type=wanted.secret_type,
        slot_key=wanted.slot_key or "",
        resolver_key=wanted.resolver_key or "",
    )


def _record(wanted: Wanted, caller: str, result: str, version: str | None, now: float) -> Resolution:
    return Resolution(
        at=int(now),
        caller=caller,
        sandbox_id=wanted.sandbox_id,
        plan_revision=wanted.plan_revision,
        egress_rule_id=wanted.egress_rule_id,
        binding_id=wanted.binding_id,
        connection_id=wanted.connection_id,
        secret_type=wanted.secret_type,
        slot_key=wanted.slot_key or "",
        result=result,
        credential_version=version,
    )
