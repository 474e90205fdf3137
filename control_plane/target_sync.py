"""Bring targets in line with the definitions and with the operator's file: what is missing is made, the rest is kept.

Everything is checked before anything is written; what was asked for already is no change, so a second run says nothing.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import orjson
from pydantic import Field, JsonValue, ValidationError, model_validator

from control_plane.connections import HAND_MADE
from control_plane.definitions.contract import AnyDefinition
from control_plane.definitions.registry import Registry
from control_plane.discovery import UNHEALTHY, config_issues, health, secret_alias
from control_plane.offered import open_target_secret
from control_plane.refusals import FieldIssue, Refused
from control_plane.store import targets as rows
from control_plane.store.database import Database, Transaction
from control_plane.store.models import Target
from control_plane.targets import OVERRIDES, Changes, TargetDesk, apply, new_row, read_secrets, tell, touch
from control_plane.vault.envelope import Vault
from sallyport.plan.codec import MAX_ISSUES, json_pointer
from sallyport.plan.fields import FilePath, Id, Model, Text, VariableName, refusal
from sallyport.plan.issue_codes import IssueCode
from sallyport.plan.schema_faults import schema_faults
from sallyport.plan.strict_json import StrictJsonError, read_strictly

# A file of all targets there are is some KiB; a secret in a file of its own is 16 KiB at most.
MAX_FILE_BYTES: Final = 1024 * 1024
MAX_SECRET_BYTES: Final = 64 * 1024


class SecretSource(Model):
    """Where a secret's value is: in a variable, or in a file, whose last line break is dropped."""

    env: VariableName | None = None
    file: FilePath | None = None

    @model_validator(mode="after")
    def _one(self) -> "SecretSource":
        if (self.env is None) == (self.file is None):
            raise refusal(IssueCode.MALFORMED, "write {env: NAME} or {file: PATH}")
        return self


class WantedTarget(Model):
    """What the file says of a target; what it does not name stays. Family and variant are for further targets."""

    family_id: Id | None = None
    variant_id: Id | None = None
    enabled: bool | None = None
    config: Annotated[dict[str, JsonValue], Field(max_length=1_000)] | None = None
    display_name: Text | None = None
    description: Text | None = None
    logo_key: Id | None = None
    secrets: Annotated[dict[str, SecretSource], Field(max_length=100)] | None = None

    def changes(self) -> Changes:
        """Return it as changes of a target."""
        given = {alias: getattr(self, name) for alias, name in OVERRIDES.items()}
        overrides = {name: value for name, value in given.items() if value is not None}
        return Changes(enabled=self.enabled, config=self.config, overrides=overrides)


class TargetsFile(Model):
    """integration-targets.json: targets by their keys."""

    targets: Annotated[dict[Id, WantedTarget], Field(max_length=1_000)]


class Wanted(NamedTuple):
    """A file that was read, with the values its secrets have, by target and by the names JSON has for them."""

    file: TargetsFile
    secrets: Mapping[str, Mapping[str, str]]


class Difference(NamedTuple):
    """One thing that was, or would be, changed. `before` is absent for what is new; a secret shows neither."""

    target_key: str
    what: str
    before: object = None
    after: object = None

    def document(self) -> dict[str, object]:
        """Return it as JSON; what there is none of is absent."""
        known = {"before": self.before, "after": self.after}
        shown = {name: value for name, value in known.items() if value is not None}
        return {"targetKey": self.target_key, "change": self.what} | shown


class SyncError(Exception):
    """The file cannot be applied; .issues has every fault, and no value of a secret."""

    def __init__(self, issues: list[FieldIssue]) -> None:
        super().__init__("\n".join(f"{issue.pointer or '/'}: {issue.message}" for issue in issues))
        self.issues = tuple(issues)


class _DryRun(Exception):
    """Takes back what was written to see what would change."""


def read_file(content: bytes, environ: Mapping[str, str], base_dir: Path) -> Wanted:
    """Read the operator's file and the secrets it refers to; raise SyncError with every fault."""
    try:
        document, faults = read_strictly(content, most_faults=MAX_ISSUES)
    except StrictJsonError as error:
        raise SyncError([FieldIssue(error.fault.code.value, "", error.fault.message)]) from None
    found: TargetsFile | None = None
    try:
        found = TargetsFile.model_validate(document)
    except ValidationError as error:
        faults += schema_faults(error, document, already={fault.path for fault in faults}, most=MAX_ISSUES)
    if faults or found is None:
        raise SyncError([FieldIssue(each.code.value, json_pointer(each.path), each.message) for each in faults])
    issues: list[FieldIssue] = []
    secrets: dict[str, dict[str, str]] = {}
    for key, target in found.targets.items():
        for name, source in (target.secrets or {}).items():
            try:
                secrets.setdefault(key, {})[name] = _value(source, environ, base_dir)
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else str(error)
                pointer = json_pointer(("targets", key, "secrets", name))
                issues.append(FieldIssue("missing_secret", pointer, str(reason)))
    if issues:
        raise SyncError(issues)
    return Wanted(found, secrets)


async def sync(
    database: Database,
    vault: Vault,
    registry: Registry,
    wanted: Wanted | None,
    now: float,
    *,
    enable_ready: bool,
    dry_run: bool = False,
) -> list[Difference]:
    """Make a target for each definition that has none, apply the file, and return what changed. Raises SyncError.

    `enable_ready` enables what is made and can be connected to without a secret of the operator's.
    """
    differences: list[Difference] = []
    try:
        async with database.write() as tx:
            await tx.exclusive_start()
            run = _Run(tx, vault, registry, TargetDesk(database, vault, registry), now)
            differences += await run.add_missing(enable_ready=enable_ready)
            if wanted is not None:
                differences += await run.apply_file(wanted)
            if dry_run:
                raise _DryRun
    except _DryRun:
        pass
    return differences


class _Run:
    """One run, within one transaction."""

    def __init__(self, tx: Transaction, vault: Vault, registry: Registry, desk: TargetDesk, now: float) -> None:
        self._tx = tx
        self._vault = vault
        self._registry = registry
        self._desk = desk
        self._now = now

    async def add_missing(self, *, enable_ready: bool) -> list[Difference]:
        """Make a target for each definition that has none."""
        added = []
        for definition in self._registry:
            if await rows.target(self._tx, definition.target_key) is None:
                row = new_row(definition.target_key, definition, self._now)
                row.enabled = True
                row.enabled = enable_ready and health(row, frozenset(), definition)[0] != UNHEALTHY
                await self._tx.add(row)
                added.append(Difference(row.key, "added", after="enabled" if row.enabled else "disabled"))
        return added

    async def apply_file(self, wanted: Wanted) -> list[Difference]:
        """Apply the file to what is there; raise SyncError with every fault."""
        issues: list[FieldIssue] = []
        differences: list[Difference] = []
        for key, target in wanted.file.targets.items():
            try:
                differences += await self._apply(key, target, wanted.secrets.get(key, {}))
            except SyncError as error:
                pointer = json_pointer(("targets", key))
                issues += [issue._replace(pointer=pointer + issue.pointer) for issue in error.issues]
        if issues:
            raise SyncError(issues)
        return differences

    async def _apply(self, key: str, wanted: WantedTarget, secrets: Mapping[str, str]) -> list[Difference]:
        """Apply what the file says of one target; raise SyncError with pointers into that."""
        row = await rows.target(self._tx, key, lock=True)
        definition = self._definition(key, row, wanted)
        differences = []
        if row is None:
            row = new_row(key, definition, self._now)
            await self._tx.add(row)
            differences.append(Difference(key, "added", after="disabled"))
        before = _shown(row)
        apply(row, wanted.changes())
        changed = {name: value for name, value in _shown(row).items() if value != before.get(name)}
        differences += [Difference(key, name, before.get(name), value) for name, value in changed.items()]
        of_secrets = await self._apply_secrets(key, definition, secrets)
        if row.enabled or wanted.config is not None:
            names = frozenset(secret.name for secret in await rows.secrets(self._tx, key))
            faults = config_issues(definition, key, orjson.loads(row.config), names)
            if faults:
                raise SyncError([FieldIssue(*fault) for fault in faults])
        if changed or of_secrets:
            touch(row, self._now)
        if of_secrets or not changed.keys().isdisjoint(("enabled", "config")):
            await tell(self._tx, row, self._now)
        return differences + of_secrets

    def _definition(self, key: str, row: Target | None, wanted: WantedTarget) -> AnyDefinition:
        if key == HAND_MADE:
            message = "this key is kept for connections of plans that are written by hand; choose another"
            raise SyncError([FieldIssue("already_exists", "", message)])
        family_id = wanted.family_id or (row.family_id if row is not None else None)
        variant_id = wanted.variant_id or (row.variant_id if row is not None else None)
        if row is not None and (family_id, variant_id) != (row.family_id, row.variant_id):
            message = f"it is of {row.family_id} {row.variant_id} already"
            raise SyncError([FieldIssue("variant_mismatch", "/variantId", message)])
        found = self._registry.find(family_id or "", variant_id or "")
        if found is None:
            message = "no such target; a further one names the familyId and variantId of a definition"
            raise SyncError([FieldIssue("unknown_target", "", message)])
        return found

    async def _apply_secrets(self, key: str, definition: AnyDefinition, secrets: Mapping[str, str]) -> list[Difference]:
        try:
            wanted = read_secrets(definition, secrets, ())
        except Refused as refused:
            issues = [each._replace(pointer="/secrets" + each.pointer.removeprefix("/set")) for each in refused.issues]
            raise SyncError(issues) from None
        differences = []
        for name, value in wanted.items():
            known = await open_target_secret(self._tx, self._vault, key, name)
            if known != value:
                await self._desk.put_secret(self._tx, key, name, value, self._now)
                what = "set" if known is None else "replaced"
                differences.append(Difference(key, f"secrets/{secret_alias(definition, name)}", after=what))
        return differences


def _shown(row: Target) -> dict[str, Any]:
    overrides = {alias: getattr(row, name) for alias, name in OVERRIDES.items()}
    return {"enabled": row.enabled, "config": orjson.loads(row.config), **overrides}


def _value(source: SecretSource, environ: Mapping[str, str], base_dir: Path) -> str:
    """Return a secret's value; raise OSError, or ValueError that says what is wrong with where it should be."""
    if source.env is not None:
        if source.env not in environ:
            raise ValueError(f"the variable {source.env} is not set")
        return environ[source.env]
    with (base_dir / (source.file or "")).open("rb") as file:
        content = file.read(MAX_SECRET_BYTES + 1)
    if len(content) > MAX_SECRET_BYTES:
        raise ValueError("the file is too large to hold a secret")
    try:
        return content.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ValueError("the file is not UTF-8") from None
