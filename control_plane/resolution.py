"""Resolve a credential for a gateway: every check of contracts section 4, the record of it, and the value last.

Fails closed: what is not proved to belong to this sandbox's current plan is refused, and what cannot be recorded is not
answered. The secret is decrypted only when every check has passed. Where a credential has to be made first, a provider
is asked between two transactions, and every check is made again in the second.
"""

from collections.abc import Callable
from typing import NamedTuple

from control_plane import connections, sources
from control_plane.definitions.contract import AwsSession
from control_plane.definitions.registry import Registry
from control_plane.keeper import CredentialKeeper, is_due, is_valid
from control_plane.metrics import RESOLVED
from control_plane.oauth.provider_error import Fault, ProviderError, temporary
from control_plane.offered import find_offer
from control_plane.refusals import ControlCode, Refused, sandbox_not_found
from control_plane.sources import Wish
from control_plane.store import connections as connection_rows
from control_plane.store import events, sandboxes
from control_plane.store.database import Database, Transaction
from control_plane.store.models import Connection, Credential, PlanReference, Resolution
from control_plane.vault.disclosure import session_answer, static_keys, value_answer
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


class Given(NamedTuple):
    """A 200 answer, and the version it holds."""

    version: str
    answer: bytes


class Asked(NamedTuple):
    """That the provider was asked, and why it gave nothing where it did not."""

    failure: ProviderError | None


class Resolver:
    """Answers resolutions."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        registry: Registry,
        keeper: CredentialKeeper,
        count: Callable[[str], None] = lambda result: None,
    ) -> None:
        """count hears of each that was answered: `ok`, or the refusal's code."""
        self._count = count
        self._database = database
        self._vault = vault
        self._registry = registry
        self._keeper = keeper

    async def resolve(self, wanted: Wanted, caller: str, now: float) -> bytes:
        """Return the body of the 200 answer. Raises Refused; either way the resolution is recorded."""
        found = await self._answer(wanted, caller, now, None)
        if isinstance(found, Wish):
            asked = Asked(await self._keeper.ensure(found))
            found = await self._answer(wanted, caller, self._keeper.now(), asked)
        assert isinstance(found, Given), "after the provider was asked there is an answer or a refusal"
        return found.answer

    async def _answer(self, wanted: Wanted, caller: str, now: float, asked: Asked | None) -> Given | Wish:
        """Check, and answer and record; or return, unrecorded, what has to be asked for first."""
        async with self._database.write() as tx:
            found: Given | Wish | Refused
            try:
                found = await self._find(tx, wanted, now, asked)
            except Refused as refused:
                found = _told(refused, asked)
            match found:
                case Refused():
                    await tx.add(_record(wanted, caller, found.code.wire, None, now))
                case Given():
                    await tx.add(_record(wanted, caller, RESOLVED, found.version, now))
        if isinstance(found, Refused):
            self._count(found.code.wire)
            raise found
        if isinstance(found, Given):
            self._count(RESOLVED)
        return found

    async def _find(self, tx: Transaction, wanted: Wanted, now: float, asked: Asked | None) -> Given | Wish:
        connection = await self._checked(tx, wanted, now)
        offer = await find_offer(tx, self._registry, connection.target_key)
        if offer is not None and not offer.is_enabled:
            raise Refused(ControlCode.CONNECTION_NOT_ACTIVE, "the operator has disabled its target")
        wish: Wish | None = None
        if offer is not None:
            name = wanted.resolver_key or wanted.secret_type
            wish = await sources.wished(tx, offer, connection, name, wanted.binding_id)
        if wish is None and wanted.resolver_key is not None:
            raise Refused(ControlCode.RESOLVER_NOT_FOUND, "the connection's target has no resolver of this key")
        if wish is None:
            return await self._stored(tx, connection, wanted)
        if isinstance(wish.source, AwsSession) and wish.source.role_arn is None:
            return await self._static(tx, connection)
        return await self._made(tx, connection, wish, now, asked)

    async def _checked(self, tx: Transaction, wanted: Wanted, now: float) -> Connection:
        sandbox = await sandboxes.sandbox(tx, wanted.sandbox_id)
        if sandbox is None:
            raise sandbox_not_found()
        await self._refuse_revoked(tx, wanted, sandbox.organization_id, now)
        if not await connection_rows.is_in_plan(tx, _reference(wanted)):
            detail = "the current plan has no such route, or another connection, secret type, slot or resolver on it"
            raise Refused(ControlCode.BINDING_NOT_IN_PLAN, detail)
        connection = await connection_rows.connection(tx, wanted.connection_id)
        if connection is None or connection.organization_id != sandbox.organization_id:
            # The same answer for another organization's: that it exists is none of this sandbox's business.
            raise connections.not_found()
        connections.refuse_inactive(connection)
        return connection

    async def _stored(self, tx: Transaction, connection: Connection, wanted: Wanted) -> Given:
        found = await connection_rows.credentials(tx, [connection.id])
        credential = connections.choose(found, wanted.secret_type, wanted.slot_key)
        value = await self._open(tx, connection, credential)
        return Given(
            credential.version, value_answer(value, version=credential.version, expires_at=credential.expires_at)
        )

    async def _static(self, tx: Transaction, connection: Connection) -> Given:
        """Give stored AWS keys; their version changes with either."""
        kept = await connection_rows.credentials(tx, [connection.id])
        key_id = connections.choose(kept, sources.ACCESS_KEY_ID, None)
        secret = connections.choose(kept, sources.SECRET_ACCESS_KEY, None)
        keys = static_keys(await self._open(tx, connection, key_id), await self._open(tx, connection, secret))
        version = f"{key_id.version}.{secret.version}"
        return Given(version, session_answer(keys, version=version, expires_at=None))

    async def _made(
        self, tx: Transaction, connection: Connection, wish: Wish, now: float, asked: Asked | None
    ) -> Given | Wish:
        credential = await tx.get(Credential, wish.key)
        if asked is None and (credential is None or is_due(credential, now)):
            return wish
        if credential is None or not is_valid(credential, now):
            failure = None if asked is None else asked.failure
            raise _failed(failure or temporary("the provider has not answered yet"))
        value = await self._open(tx, connection, credential)
        write = session_answer if isinstance(wish.source, AwsSession) else value_answer
        return Given(credential.version, write(value, version=credential.version, expires_at=credential.expires_at))

    async def _open(self, tx: Transaction, connection: Connection, credential: Credential) -> Secret:
        place = connections.credential_place(connection, credential.secret_type, credential.slot_key)
        return await self._vault.open(tx, place, credential.value)

    async def _refuse_revoked(self, tx: Transaction, wanted: Wanted, organization_id: str, now: float) -> None:
        named = [("sandbox", wanted.sandbox_id), ("binding", wanted.binding_id), ("connection", wanted.connection_id)]
        match await events.is_revoked(tx, named, now, organization_id):
            case "sandbox":
                raise Refused(ControlCode.SANDBOX_NOT_FOUND, "it is revoked")
            case "binding":
                raise Refused(ControlCode.BINDING_NOT_IN_PLAN, "it is revoked")
            case "connection":
                raise Refused(ControlCode.CONNECTION_NOT_ACTIVE, "it is revoked")


def _failed(failure: ProviderError) -> Refused:
    is_temporary = failure.fault is Fault.TEMPORARY
    code = ControlCode.REFRESH_FAILED_TEMPORARY if is_temporary else ControlCode.REFRESH_FAILED_PERMANENT
    return Refused(code, failure.reason)


def _told(refused: Refused, asked: Asked | None) -> Refused:
    """Tell the one whose question showed it why the connection is out of service."""
    failure = None if asked is None else asked.failure
    if failure is None or failure.fault is not Fault.PERMANENT or refused.code is not ControlCode.CONNECTION_NOT_ACTIVE:
        return refused
    return _failed(failure)


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
