"""Connections and their credentials: stored encrypted, rotated, revoked. Nothing here gives a stored value back."""

from collections.abc import Sequence
from typing import Final

from control_plane import revocations
from control_plane.ids import new_id
from control_plane.refusals import ControlCode, FieldIssue, Refused
from control_plane.signing import MAX_TTL_SECONDS
from control_plane.store import connections as rows
from control_plane.store.database import AlreadyExists, Database, Transaction
from control_plane.store.models import Connection, Credential
from control_plane.vault.envelope import Place, Vault
from sallyport.secret import Secret

ACTIVE: Final = "active"
ERROR: Final = "error"
REVOKED: Final = "revoked"
# Sandboxes named in the refusal to delete a connection.
SHOWN_USERS: Final = 5


def document(connection: Connection, credentials: Sequence[Credential]) -> dict[str, object]:
    """Return a connection as the API shows it: which credentials there are, never their values."""
    shown: dict[str, object] = {
        "connectionId": connection.id,
        "targetKey": connection.target_key,
        "organizationId": connection.organization_id,
        "status": connection.status,
    }
    if connection.display_name is not None:
        shown["displayName"] = connection.display_name
    if len(credentials) == 1:
        shown |= _names(credentials[0])
    listed = [{**_names(each), "version": each.version, "updatedAt": each.updated_at} for each in credentials]
    return shown | {"credentials": listed, "createdAt": connection.created_at, "updatedAt": connection.updated_at}


def _names(credential: Credential) -> dict[str, object]:
    slot = {"slotKey": credential.slot_key} if credential.slot_key else {}
    return {"secretType": credential.secret_type, **slot}


class ConnectionDesk:
    """Makes and changes connections; each change that a gateway's cache could contradict is told to the gateways."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    async def add_api_key(
        self,
        target_key: str,
        organization_id: str,
        *,
        value: Secret,
        secret_type: str,
        slot_key: str | None,
        connection_id: str | None,
        display_name: str | None,
        now: float,
    ) -> dict[str, object]:
        """Make a connection with a credential, or give one that is there a further credential. Raises Refused."""
        async with self._database.write() as tx:
            known = await rows.connection(tx, connection_id, lock=True) if connection_id is not None else None
            if known is None:
                known = Connection(
                    id=connection_id or new_id("con", now),
                    organization_id=organization_id,
                    target_key=target_key,
                    display_name=display_name,
                    status=ACTIVE,
                    created_at=int(now),
                    updated_at=int(now),
                )
                await self._insert(tx, known)
            elif (known.organization_id, known.target_key) != (organization_id, target_key):
                raise Refused(ControlCode.ALREADY_EXISTS, "a connection of another organization or target has this id")
            _refuse_inactive(known)
            sealed = await self._vault.seal(tx, credential_place(known, secret_type, slot_key or ""), value)
            credential = Credential(
                connection_id=known.id,
                secret_type=secret_type,
                slot_key=slot_key or "",
                value=sealed,
                version=new_id("ver", now),
                expires_at=None,
                updated_at=int(now),
            )
            await self._insert(tx, credential)
            known.updated_at = int(now)
            _invalidate(tx, known.id, now)
            return document(known, await rows.credentials(tx, [known.id]))

    async def rotate_api_key(
        self, connection_id: str, *, value: Secret, secret_type: str | None, slot_key: str | None, now: float
    ) -> dict[str, object]:
        """Replace a credential's value, the only one's where none is named. Raises Refused."""
        async with self._database.write() as tx:
            connection = await self._locked(tx, connection_id)
            if connection.status == REVOKED:
                _refuse_inactive(connection)
            credential = choose(await rows.credentials(tx, [connection_id]), secret_type, slot_key)
            place = credential_place(connection, credential.secret_type, credential.slot_key)
            credential.value = await self._vault.seal(tx, place, value)
            credential.version = new_id("ver", now)
            credential.updated_at = connection.updated_at = int(now)
            connection.status = ACTIVE
            _invalidate(tx, connection_id, now)
            return document(connection, await rows.credentials(tx, [connection_id]))

    async def change(
        self, connection_id: str, *, status: str | None, display_name: str | None, now: float
    ) -> dict[str, object]:
        """Rename a connection, or set its status; revoking is for good and forgets its secrets. Raises Refused."""
        async with self._database.write() as tx:
            connection = await self._locked(tx, connection_id)
            if display_name is not None:
                connection.display_name = display_name
            if status is not None and status != connection.status:
                if connection.status == REVOKED:
                    raise Refused(ControlCode.CONNECTION_NOT_ACTIVE, "a revoked connection stays so; make a new one")
                connection.status = status
                await self._withdraw(tx, connection, now)
            connection.updated_at = int(now)
            return document(connection, await rows.credentials(tx, [connection_id]))

    async def remove(self, connection_id: str, now: float) -> None:
        """Delete a connection with its secrets, unless a current plan uses it. Raises Refused."""
        async with self._database.write() as tx:
            connection = await self._locked(tx, connection_id)
            users = await rows.users(tx, connection_id, SHOWN_USERS)
            if users:
                detail = f"used by the current plans of {', '.join(users)}; take it out of them first"
                raise Refused(ControlCode.CONNECTION_IN_USE, detail)
            connection.status = REVOKED
            await self._withdraw(tx, connection, now)
            await tx.delete(connection)

    async def get(self, connection_id: str) -> dict[str, object]:
        """Return one connection. Raises Refused."""
        async with self._database.read() as tx:
            connection = await rows.connection(tx, connection_id)
            if connection is None:
                raise not_found()
            return document(connection, await rows.credentials(tx, [connection_id]))

    async def page(self, organization_id: str | None, after: str, limit: int) -> list[dict[str, object]]:
        """Return connections by id, after one."""
        async with self._database.read() as tx:
            found = await rows.list_connections(tx, organization_id, after, limit)
            credentials = await rows.credentials(tx, [connection.id for connection in found])
        return [document(each, [row for row in credentials if row.connection_id == each.id]) for each in found]

    async def _locked(self, tx: Transaction, connection_id: str) -> Connection:
        connection = await rows.connection(tx, connection_id, lock=True)
        if connection is None:
            raise not_found()
        return connection

    async def _insert(self, tx: Transaction, row: Connection | Credential) -> None:
        try:
            await tx.add(row)
        except AlreadyExists:
            detail = "the connection has such a credential; PUT replaces its value"
            raise Refused(ControlCode.ALREADY_EXISTS, detail) from None

    async def _withdraw(self, tx: Transaction, connection: Connection, now: float) -> None:
        _invalidate(tx, connection.id, now)
        if connection.status == REVOKED:
            await rows.forget_credentials(tx, connection.id)
            await revocations.record(tx, "connection", connection.id, int(now) + MAX_TTL_SECONDS, now)


def choose(credentials: Sequence[Credential], secret_type: str | None, slot_key: str | None) -> Credential:
    """Return the one credential that answers to a description; an absent part fits all. Raises Refused."""
    fitting = [
        each for each in credentials if secret_type in (None, each.secret_type) and slot_key in (None, each.slot_key)
    ]
    if not fitting:
        raise Refused(ControlCode.CREDENTIAL_NOT_FOUND, "none of the connection's credentials is of this type and slot")
    if len(fitting) > 1:
        issue = FieldIssue("missing_field", "/slotKey", "say which one is meant")
        raise Refused(ControlCode.AMBIGUOUS_CREDENTIAL, f"{len(fitting)} credentials fit", issues=[issue])
    return fitting[0]


def credential_place(connection: Connection, secret_type: str, slot_key: str) -> Place:
    """Return what a credential's ciphertext is bound to."""
    return Place(connection.organization_id, "credentials", (connection.id, secret_type, slot_key), "value")


def not_found() -> Refused:
    """Return the refusal of a connection that is not there."""
    return Refused(ControlCode.CONNECTION_NOT_FOUND, "it was never made, or was deleted")


def _refuse_inactive(connection: Connection) -> None:
    if connection.status != ACTIVE:
        raise Refused(ControlCode.CONNECTION_NOT_ACTIVE, f"its status is {connection.status}")


def _invalidate(tx: Transaction, connection_id: str, now: float) -> None:
    tx.emit("invalidation", {"kind": "connection", "id": connection_id}, now)
