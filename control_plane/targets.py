"""Targets: what the operator offers. Members connect to the enabled ones; what depends on a change is compiled anew."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import orjson
from pydantic import ValidationError

from control_plane import recompilation
from control_plane.connections import HAND_MADE
from control_plane.definitions.contract import AnyDefinition, Issue
from control_plane.definitions.registry import Registry
from control_plane.discovery import config_issues, secret_names, target_document
from control_plane.offered import target_secret_place
from control_plane.refusals import ControlCode, FieldIssue, Refused
from control_plane.store import targets as rows
from control_plane.store.database import AlreadyExists, Database, Transaction
from control_plane.store.models import Target
from control_plane.vault.envelope import Vault
from sallyport.plan.codec import MAX_ISSUES, json_pointer
from sallyport.plan.schema_faults import schema_faults
from sallyport.secret import Secret

# Connections named in the refusal to delete a target.
SHOWN_CONNECTIONS: Final = 5
OVERRIDES: Final = {"displayName": "display_name", "description": "description", "logoKey": "logo_key"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What is to become another; None and what is not named stay. `clear` names overrides that end."""

    enabled: bool | None = None
    config: Mapping[str, object] | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)
    clear: Sequence[str] = ()


class TargetDesk:
    """Shows targets and changes them."""

    def __init__(self, database: Database, vault: Vault, registry: Registry) -> None:
        self._database = database
        self._vault = vault
        self._registry = registry

    async def page(self, after: str, limit: int, *, for_operator: bool) -> list[dict[str, object]]:
        """Return targets by key, after one; a member's are the enabled ones."""
        async with self._database.read() as tx:
            found = await rows.list_targets(tx, after, limit, enabled_only=not for_operator)
            secrets = await rows.secrets_of(tx, [row.key for row in found])
        return [
            target_document(
                row,
                [secret for secret in secrets if secret.target_key == row.key],
                self.definition(row),
                for_operator=for_operator,
            )
            for row in found
        ]

    async def get(self, key: str, *, for_operator: bool) -> dict[str, object]:
        """Return one target. Raises Refused, for a member also where it is disabled."""
        async with self._database.read() as tx:
            row = await rows.target(tx, key)
            if row is None or not (row.enabled or for_operator):
                raise target_not_found()
            return await self._shown(tx, row, for_operator=for_operator)

    async def create(
        self, key: str, family_id: str, variant_id: str, changes: Changes, now: float
    ) -> dict[str, object]:
        """Make a further target of a known variant, disabled unless told otherwise. Raises Refused."""
        definition = self._registry.find(family_id, variant_id)
        if definition is None:
            issue = FieldIssue("unknown_value", "/variantId", "nothing here defines this variant of this family")
            raise Refused(ControlCode.INVALID_REQUEST, "1 issues; nothing changed", issues=[issue])
        if key == HAND_MADE:
            raise Refused(
                ControlCode.ALREADY_EXISTS, "this key is kept for connections of plans that are written by hand"
            )
        row = new_row(key, definition, now)
        apply(row, changes)
        refuse_issues(config_issues(definition, key, orjson.loads(row.config), frozenset()))
        async with self._database.write() as tx:
            try:
                await tx.add(row)
            except AlreadyExists:
                raise Refused(ControlCode.ALREADY_EXISTS, "a target has this key") from None
            return await self._shown(tx, row, for_operator=True)

    async def change(self, key: str, revision: int, changes: Changes, now: float) -> dict[str, object]:
        """Change a target as it was read at a revision. Raises Refused."""
        async with self._database.write() as tx:
            row = await self._locked(tx, key, revision)
            before = (row.enabled, row.config)
            apply(row, changes)
            if row.enabled or row.config != before[1]:
                await self._check(tx, row)
            touch(row, now)
            if (row.enabled, row.config) != before:
                await tell(tx, row, now)
            return await self._shown(tx, row, for_operator=True)

    async def put_secrets(
        self, key: str, revision: int, given: Mapping[str, object], clear: Sequence[str], now: float
    ) -> dict[str, object]:
        """Set secrets by the names JSON has for them, and forget others. Raises Refused; no message holds a value."""
        async with self._database.write() as tx:
            row = await self._locked(tx, key, revision)
            definition = self.definition(row)
            if definition is None:
                raise Refused(ControlCode.TARGET_NOT_FOUND, "nothing here defines this target's provider any more")
            for name, value in read_secrets(definition, given, clear).items():
                await self.put_secret(tx, key, name, value, now)
            touch(row, now)
            await tell(tx, row, now)
            return await self._shown(tx, row, for_operator=True)

    async def put_secret(self, tx: Transaction, key: str, name: str, value: Secret | None, now: float) -> None:
        """Seal one secret; None forgets it."""
        if value is None:
            await rows.clear_secret(tx, key, name)
        else:
            sealed = await self._vault.seal(tx, target_secret_place(key, name), value)
            await rows.put_secret(tx, key, name, sealed, now)

    async def remove(self, key: str) -> None:
        """Delete a target with its secrets, unless there are connections to it. Raises Refused."""
        async with self._database.write() as tx:
            row = await rows.target(tx, key, lock=True)
            if row is None:
                raise target_not_found()
            users = await rows.connections_of(tx, key, SHOWN_CONNECTIONS)
            if users:
                detail = f"connections such as {', '.join(users)} are to it; delete them first, or disable it"
                raise Refused(ControlCode.TARGET_IN_USE, detail)
            await tx.delete(row)

    def definition(self, row: Target) -> AnyDefinition | None:
        """Return what defines a target's provider."""
        return self._registry.find(row.family_id, row.variant_id)

    async def _locked(self, tx: Transaction, key: str, revision: int) -> Target:
        row = await rows.target(tx, key, lock=True)
        if row is None:
            raise target_not_found()
        if row.revision != revision:
            raise Refused(ControlCode.REVISION_CONFLICT, f"it is at revision {row.revision}; read it again")
        return row

    async def _check(self, tx: Transaction, row: Target) -> None:
        definition = self.definition(row)
        if definition is None:
            if row.enabled:
                issue = Issue("target.definition_not_found", "/enabled", "nothing here defines this provider")
                refuse_issues([issue])
            return
        names = frozenset(secret.name for secret in await rows.secrets(tx, row.key))
        refuse_issues(config_issues(definition, row.key, orjson.loads(row.config), names))

    async def _shown(self, tx: Transaction, row: Target, *, for_operator: bool) -> dict[str, object]:
        secrets = await rows.secrets(tx, row.key)
        return target_document(row, secrets, self.definition(row), for_operator=for_operator)


def new_row(key: str, definition: AnyDefinition, now: float) -> Target:
    """Return a target of a definition as it begins: disabled, with nothing configured."""
    return Target(
        key=key,
        family_id=definition.family_id,
        variant_id=definition.variant_id,
        enabled=False,
        config="{}",
        display_name=None,
        description=None,
        logo_key=None,
        revision=1,
        created_at=int(now),
        updated_at=int(now),
    )


def apply(row: Target, changes: Changes) -> None:
    """Write changes into a row."""
    if changes.enabled is not None:
        row.enabled = changes.enabled
    if changes.config is not None:
        row.config = orjson.dumps(changes.config, option=orjson.OPT_SORT_KEYS).decode()
    for name in changes.clear:
        setattr(row, OVERRIDES[name], None)
    for name, value in changes.overrides.items():
        setattr(row, OVERRIDES[name], value)


def touch(row: Target, now: float) -> None:
    """Count a change."""
    row.revision += 1
    row.updated_at = int(now)


async def tell(tx: Transaction, row: Target, now: float) -> None:
    """Have what depends on a target compiled anew, and gateways ask again for credentials that came by it."""
    tx.emit("invalidation", {"kind": "all"}, now)
    await recompilation.request(tx, now, target_key=row.key)


def read_secrets(
    definition: AnyDefinition, given: Mapping[str, object], clear: Sequence[str]
) -> dict[str, Secret | None]:
    """Return secrets by name, None for those to be forgotten. Raises Refused; no message holds a value."""
    known = secret_names(definition)
    issues: list[FieldIssue] = []
    try:
        definition.target_secrets.model_validate(dict(given))
    except ValidationError as error:
        faults = schema_faults(error, given, already=set(), most=MAX_ISSUES)
        issues += [FieldIssue(each.code.value, f"/set{json_pointer(each.path)}", each.message) for each in faults]
    for number, alias in enumerate(clear):
        if alias not in known:
            issues.append(FieldIssue("unknown_value", f"/clear/{number}", "the target has no such secret"))
        elif alias in given:
            issues.append(FieldIssue("malformed", f"/clear/{number}", "it is set as well; decide"))
    if issues:
        raise Refused(ControlCode.INVALID_REQUEST, f"{len(issues)} issues; nothing changed", issues=issues)
    parsed = definition.target_secrets.model_validate(dict(given))
    values: dict[str, Secret | None] = {known[alias]: getattr(parsed, known[alias]) for alias in given}
    return values | {known[alias]: None for alias in clear}


def refuse_issues(issues: Sequence[Issue]) -> None:
    """Raise Refused where there is anything wrong."""
    if issues:
        told = [FieldIssue(*issue) for issue in issues]
        raise Refused(ControlCode.INVALID_REQUEST, f"{len(told)} issues; nothing changed", issues=told)


def target_not_found() -> Refused:
    """Return the refusal of a target that is not there, or not for members."""
    return Refused(ControlCode.TARGET_NOT_FOUND, "the operator offers no such integration")
