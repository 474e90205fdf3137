"""Connections and their credentials: stored encrypted, rotated, revoked. Nothing here gives a stored value back."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import orjson

from control_plane import recompilation, revocations
from control_plane.definitions.contract import ConnectionMethod, MethodKind, provider_owned
from control_plane.definitions.registry import Registry
from control_plane.ids import new_id
from control_plane.offered import CONFIG, Offer, enabled_offer, find_offer, read_config
from control_plane.refusals import ControlCode, FieldIssue, Refused
from control_plane.signing import MAX_TTL_SECONDS
from control_plane.store import connections as rows
from control_plane.store.database import AlreadyExists, Database, Transaction
from control_plane.store.models import Connection, Credential, Resolution
from control_plane.vault.disclosure import fits
from control_plane.vault.envelope import Place, Vault
from sallyport.secret import Secret

ACTIVE: Final = "active"
ERROR: Final = "error"
REVOKED: Final = "revoked"
# Stands for a target where there is none: of connections for plans that an operator wrote himself. No definition, no
# binding; the plan says where their secrets go. To whoever is no operator it is a target that is not there.
HAND_MADE: Final = "hand-made"
# The refresh token of a connection by authorization code. No plan and no request can name a type that begins so.
REFRESH_TOKEN: Final = "_refresh_token"
# Users named in the refusal to delete a connection.
SHOWN_USERS: Final = 5


class Typed(NamedTuple):
    """A secret as somebody typed it in: where in the request it stands, and where its type does."""

    secret_type: str
    slot_key: str
    value: Secret
    pointer: str
    type_pointer: str


def document(connection: Connection, credentials: Sequence[Credential]) -> dict[str, object]:
    """Return a connection as the API shows it: which credentials there are, never their values."""
    shown: dict[str, object] = {
        "connectionId": connection.id,
        "targetKey": connection.target_key,
        "organizationId": connection.organization_id,
        "status": connection.status,
        "method": connection.method,
        "revision": connection.revision,
    }
    if connection.display_name is not None:
        shown["displayName"] = connection.display_name
    if connection.error is not None:
        shown["error"] = connection.error
    if connection.config != "{}":
        shown["config"] = orjson.loads(connection.config)
    stored = [each for each in credentials if is_stored(each)]
    if len(stored) == 1:
        shown |= _names(stored[0])
    return shown | {
        "credentials": [_credential_document(each) for each in stored],
        "createdAt": connection.created_at,
        "updatedAt": connection.updated_at,
    }


def _credential_document(credential: Credential) -> dict[str, object]:
    ends = {} if credential.expires_at is None else {"expiresAt": credential.expires_at}
    return {**_names(credential), "version": credential.version, "updatedAt": credential.updated_at, **ends}


def _resolution_document(row: Resolution) -> dict[str, object]:
    shown: dict[str, object] = {
        "resolutionId": row.id,
        "at": row.at,
        "result": row.result,
        "caller": row.caller,
        "sandboxId": row.sandbox_id,
        "planRevision": row.plan_revision,
        "egressRuleId": row.egress_rule_id,
        "bindingId": row.binding_id,
        "secretType": row.secret_type,
    }
    optional = {"slotKey": row.slot_key or None, "credentialVersion": row.credential_version}
    return shown | {name: value for name, value in optional.items() if value is not None}


def _names(credential: Credential) -> dict[str, object]:
    slot = {"slotKey": credential.slot_key} if credential.slot_key else {}
    return {"secretType": credential.secret_type, **slot}


def is_stored(credential: Credential) -> bool:
    """Say whether a credential is one that routes can name, and not one that is kept to make others or was made."""
    return not credential.secret_type.startswith("_") and not credential.slot_key.startswith("_")


class ConnectionDesk:
    """Makes and changes connections; each change that a gateway's cache could contradict is told to the gateways."""

    def __init__(self, database: Database, vault: Vault, registry: Registry) -> None:
        self._database = database
        self._vault = vault
        self._registry = registry

    async def add(
        self,
        target_key: str,
        organization_id: str,
        method: MethodKind,
        secrets: Sequence[Typed],
        *,
        config: Mapping[str, object] | None = None,
        connection_id: str | None = None,
        display_name: str | None = None,
        for_operator: bool,
        now: float,
    ) -> dict[str, object]:
        """Make a connection with its secrets, or give one that is there further ones. Raises Refused."""
        async with self._database.write() as tx:
            is_hand_made = for_operator and target_key == HAND_MADE
            offer = None if is_hand_made else await enabled_offer(tx, self._registry, target_key)
            known = await rows.connection(tx, connection_id, lock=True) if connection_id is not None else None
            if known is None:
                _refuse_issues([*_secret_issues(offer, method, secrets), *_missing(offer, method, secrets)])
                known = Connection(
                    id=connection_id or new_id("con", now),
                    organization_id=organization_id,
                    target_key=target_key,
                    display_name=display_name,
                    status=ACTIVE,
                    method=method.value,
                    config=config_text(offer, member_config(offer, config or {}, {})),
                    error=None,
                    revision=1,
                    created_at=int(now),
                    updated_at=int(now),
                )
                await self._insert(tx, known)
            else:
                self._refuse_other(known, organization_id, target_key, config)
                _refuse_issues(_secret_issues(offer, MethodKind(known.method), secrets))
                known.revision += 1
            refuse_inactive(known)
            for each in secrets:
                await self._insert(tx, await sealed(tx, self._vault, known, each, now))
            known.updated_at = int(now)
            await redefined(tx, known, now)
            return document(known, await rows.credentials(tx, [known.id]))

    async def rotate(self, connection_id: str, secrets: Sequence[Typed], now: float) -> dict[str, object]:
        """Replace values by type and slot; what is made of them is made anew. Raises Refused."""
        async with self._database.write() as tx:
            connection = await self._locked(tx, connection_id)
            if connection.status == REVOKED:
                refuse_inactive(connection)
            offer = await find_offer(tx, self._registry, connection.target_key)
            _refuse_issues(_secret_issues(offer, MethodKind(connection.method), secrets))
            known = await rows.credentials(tx, [connection_id])
            for each in secrets:
                place = credential_place(connection, each.secret_type, each.slot_key)
                credential = choose(known, each.secret_type, each.slot_key)
                credential.value = await self._vault.seal(tx, place, each.value)
                credential.version = new_id("ver", now)
                credential.updated_at = int(now)
            follow = changed if connection.status == ACTIVE else redefined
            activate(connection, now)
            await follow(tx, connection, now)
            return document(connection, await rows.credentials(tx, [connection_id]))

    async def only(self, connection_id: str, secret_type: str | None, slot_key: str | None) -> tuple[str, str]:
        """Return type and slot of the one credential that answers to a description. Raises Refused."""
        async with self._database.read() as tx:
            if await rows.connection(tx, connection_id) is None:
                raise not_found()
            found = choose(await rows.credentials(tx, [connection_id]), secret_type, slot_key)
        return found.secret_type, found.slot_key

    async def change(
        self,
        connection_id: str,
        *,
        status: str | None = None,
        display_name: str | None = None,
        config: Mapping[str, object] | None = None,
        revision: int | None = None,
        now: float,
    ) -> dict[str, object]:
        """Rename a connection, configure it, or set its status; revoking is for good and forgets its secrets.

        Raises Refused.
        """
        async with self._database.write() as tx:
            connection = await self._locked(tx, connection_id)
            if revision is not None and revision != connection.revision:
                raise Refused(ControlCode.REVISION_CONFLICT, f"revision {connection.revision} is the current one")
            if display_name is not None:
                connection.display_name = display_name
            is_changed = False
            if config is not None:
                offer = await find_offer(tx, self._registry, connection.target_key)
                text = config_text(offer, member_config(offer, config, orjson.loads(connection.config)))
                is_changed = text != connection.config
                connection.config = text
            if status is not None and status != connection.status:
                if connection.status == REVOKED:
                    raise Refused(ControlCode.CONNECTION_NOT_ACTIVE, "a revoked connection stays so; make a new one")
                connection.status = status
                connection.error = None
                is_changed = True
            if is_changed:
                await self._withdraw(tx, connection, now)
            connection.revision += 1
            connection.updated_at = int(now)
            return document(connection, await rows.credentials(tx, [connection_id]))

    async def remove(self, connection_id: str, now: float) -> None:
        """Delete a connection with its secrets, unless a binding or a current plan uses it. Raises Refused."""
        async with self._database.write() as tx:
            connection = await self._locked(tx, connection_id)
            bound = await rows.bound_to(tx, connection_id, SHOWN_USERS)
            if bound:
                names = ", ".join(f"{profile} {version}" for profile, version in bound)
                raise Refused(ControlCode.CONNECTION_IN_USE, f"bound to {names}; take it out of them first")
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

    async def page(
        self, organization_id: str | None, after: str, limit: int, search: str = ""
    ) -> list[dict[str, object]]:
        """Return connections by id, after one, with a text in their id, name or target."""
        async with self._database.read() as tx:
            found = await rows.list_connections(tx, organization_id, after, limit, search)
            credentials = await rows.credentials(tx, [connection.id for connection in found])
        return [document(each, [row for row in credentials if row.connection_id == each.id]) for each in found]

    async def resolutions(self, connection_id: str, before: int, limit: int) -> list[dict[str, object]]:
        """Return who asked for its credentials, the newest first, below an id. Raises Refused."""
        async with self._database.read() as tx:
            if await rows.connection(tx, connection_id) is None:
                raise not_found()
            return [
                _resolution_document(each) for each in await rows.list_resolutions(tx, connection_id, before, limit)
            ]

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

    def _refuse_other(
        self, known: Connection, organization_id: str, target_key: str, config: Mapping[str, object] | None
    ) -> None:
        if (known.organization_id, known.target_key) != (organization_id, target_key):
            raise Refused(ControlCode.ALREADY_EXISTS, "a connection of another organization or target has this id")
        if config is not None:
            _refuse_issues([FieldIssue("unknown_field", "/config", "the connection is there; PATCH changes it")])

    async def _withdraw(self, tx: Transaction, connection: Connection, now: float) -> None:
        await changed(tx, connection, now)
        if connection.status == REVOKED:
            await rows.forget_credentials(tx, connection.id)
            until = int(now) + MAX_TTL_SECONDS
            await revocations.record(tx, "connection", connection.id, until, now, connection.organization_id)
        await recompilation.request(tx, now, connection_id=connection.id)


async def changed(tx: Transaction, connection: Connection, now: float) -> None:
    """Do what follows from another value of a secret: what was made of it is made anew, gateways forget theirs."""
    await rows.forget_made(tx, connection.id)
    order = {"kind": "connection", "id": connection.id, "organizationId": connection.organization_id}
    tx.emit("invalidation", order, now)


async def redefined(tx: Transaction, connection: Connection, now: float) -> None:
    """Do what follows from another status, method, configuration, or kind of secret. Nothing but events may follow."""
    await changed(tx, connection, now)
    await recompilation.request(tx, now, connection_id=connection.id)


def activate(connection: Connection, now: float) -> None:
    """Put a connection into service again, with another revision."""
    connection.status = ACTIVE
    connection.error = None
    connection.revision += 1
    connection.updated_at = int(now)


async def sealed(tx: Transaction, vault: Vault, connection: Connection, typed: Typed, now: float) -> Credential:
    """Return the row of a secret."""
    place = credential_place(connection, typed.secret_type, typed.slot_key)
    return Credential(
        connection_id=connection.id,
        secret_type=typed.secret_type,
        slot_key=typed.slot_key,
        value=await vault.seal(tx, place, typed.value),
        version=new_id("ver", now),
        expires_at=None,
        updated_at=int(now),
    )


def config_text(offer: Offer | None, config: Mapping[str, object]) -> str:
    """Return a configuration as it is kept. Raises Refused with every issue."""
    if offer is not None:
        read_config(offer.definition.connection_config, config)
    elif config:
        _refuse_issues([FieldIssue("unknown_field", "/config", "a connection without a definition has none")])
    return orjson.dumps(dict(config), option=orjson.OPT_SORT_KEYS).decode()


def member_config(offer: Offer | None, given: Mapping[str, object], known: Mapping[str, object]) -> dict[str, object]:
    """Return what a member gives, and of what is known that which only the provider says. Raises Refused.

    A member may give it back as he read it, and as nothing else.
    """
    owned = frozenset[str]() if offer is None else provider_owned(offer.definition.connection_config)
    issues = [
        FieldIssue("malformed", f"{CONFIG}/{name}", "only the provider says this")
        for name in sorted(owned & given.keys())
        if name not in known or known[name] != given[name]
    ]
    if offer is not None:
        try:
            read_config(offer.definition.connection_config, given)
        except Refused as refused:
            issues += refused.issues
    _refuse_issues(issues)
    return {**given, **{name: value for name, value in known.items() if name in owned}}


def method_of(offer: Offer, *kinds: MethodKind) -> ConnectionMethod:
    """Return the definition's method of one of these kinds. Raises Refused."""
    found = [method for method in offer.definition.connection_methods if method.kind in kinds]
    if not found:
        offered = ", ".join(method.kind.value for method in offer.definition.connection_methods)
        raise Refused(ControlCode.METHOD_NOT_OFFERED, f"it is connected by {offered or 'nothing'}")
    missing = [name for name in found[0].requires if name not in offer.target.secrets]
    if missing:
        raise Refused(ControlCode.TARGET_NOT_READY, f"the operator has not set {', '.join(missing)}")
    return found[0]


def choose(credentials: Sequence[Credential], secret_type: str | None, slot_key: str | None) -> Credential:
    """Return the one stored credential that answers to a description; an absent part fits all. Raises Refused."""
    fitting = [
        each
        for each in credentials
        if is_stored(each) and secret_type in (None, each.secret_type) and slot_key in (None, each.slot_key)
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


def refuse_inactive(connection: Connection) -> None:
    """Raise Refused unless a connection is active."""
    if connection.status != ACTIVE:
        raise Refused(ControlCode.CONNECTION_NOT_ACTIVE, f"its status is {connection.status}")


def _secret_issues(offer: Offer | None, kind: MethodKind, secrets: Sequence[Typed]) -> list[FieldIssue]:
    """Say what is wrong with typed secrets; without a definition every type is good."""
    if offer is None:
        return []
    issues = []
    fields = {field.secret_type: field for field in method_of(offer, kind).secrets}
    for each in secrets:
        field = fields.get(each.secret_type)
        if field is None:
            message = f"one of {', '.join(fields)} is expected" if fields else "by its method nothing is typed in"
            issues.append(FieldIssue("unknown_value", each.type_pointer, message))
        elif field.pattern is not None and not fits(each.value, field.pattern):
            issues.append(FieldIssue("malformed", each.pointer, f"it is not what {field.label} looks like"))
    return issues


def _missing(offer: Offer | None, kind: MethodKind, secrets: Sequence[Typed]) -> list[FieldIssue]:
    fields = () if offer is None else method_of(offer, kind).secrets
    given = {each.secret_type for each in secrets}
    return [
        FieldIssue("missing_field", f"/secrets/{field.secret_type}", "this field is required")
        for field in fields
        if field.required and field.secret_type not in given
    ]


def _refuse_issues(issues: Sequence[FieldIssue]) -> None:
    if issues:
        raise Refused(ControlCode.INVALID_REQUEST, f"{len(issues)} issues; nothing changed", issues=issues)
