"""Bindings of a version of a sandbox profile: looked at, and replaced as a whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from control_plane import recompilation, sandboxes
from control_plane.compilation import field_issues, load_inputs, stored_binding
from control_plane.compiler.inputs import StoredBinding
from control_plane.compiler.validate import validate
from control_plane.definitions.registry import Registry
from control_plane.ids import new_id
from control_plane.refusals import ControlCode, FieldIssue, Refused
from control_plane.store import bindings as rows
from control_plane.store import sandboxes as sandbox_rows
from control_plane.store.database import Database, Transaction
from control_plane.store.models import Binding, ProfileVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A binding as a caller writes it; without an id it gets one."""

    id: str | None
    connection_id: str
    kind: str
    config: Mapping[str, object]

    def stored(self, now: float) -> StoredBinding:
        """Return it as the compiler reads it."""
        return StoredBinding(
            id=self.id or new_id("bnd", now), connection_id=self.connection_id, kind=self.kind, config=self.config
        )


def binding_document(binding: Binding) -> dict[str, object]:
    """Return a binding as the API shows it."""
    return {
        "bindingId": binding.id,
        "connectionId": binding.connection_id,
        "kind": binding.kind,
        "config": orjson.loads(binding.config),
        "createdAt": binding.created_at,
        "updatedAt": binding.updated_at,
    }


class BindingDesk:
    """Reads and replaces the bindings of versions."""

    def __init__(self, database: Database, registry: Registry) -> None:
        self._database = database
        self._registry = registry

    async def get(self, profile_id: str, version: int) -> dict[str, object]:
        """Return the bindings of a version with the revision that the next edit names. Raises Refused."""
        async with self._database.read() as tx:
            row = await sandbox_rows.profile_version(tx, profile_id, version)
            if row is None:
                raise sandboxes.profile_not_found()
            return _document(row, await rows.bindings(tx, profile_id, version))

    async def replace(
        self, profile_id: str, version: int, drafts: Sequence[Draft], revision: int | None, now: float
    ) -> dict[str, object]:
        """Replace all bindings of a version, and have its sandboxes compiled anew. Raises Refused with every issue.

        `revision` is the one the caller has seen, None to replace whatever is there. The same bindings again change
        nothing.
        """
        stored = [draft.stored(now) for draft in drafts]
        async with self._database.write() as tx:
            row = await sandbox_rows.profile_version(tx, profile_id, version, lock=True)
            if row is None:
                raise sandboxes.profile_not_found()
            if revision is not None and revision != row.bindings_revision:
                detail = f"the bindings are at revision {row.bindings_revision}; read them again"
                raise Refused(ControlCode.REVISION_CONFLICT, detail)
            known = {each.id: each for each in await rows.bindings(tx, profile_id, version)}
            await self._refuse_taken_ids(tx, row, drafts)
            await self._refuse_invalid(tx, row, stored)
            if stored == [stored_binding(each) for each in known.values()]:
                return _document(row, list(known.values()))
            await rows.remove(tx, known.keys() - {each.id for each in stored})
            replaced = [_put(row, position, each, known.get(each.id), now) for position, each in enumerate(stored)]
            await tx.add_all([each for each in replaced if each.id not in known])
            row.bindings_revision += 1
            await recompilation.request(tx, now, version=(profile_id, version))
            return _document(row, replaced)

    async def _refuse_taken_ids(self, tx: Transaction, row: ProfileVersion, drafts: Sequence[Draft]) -> None:
        ids = [draft.id for draft in drafts if draft.id is not None]
        taken = set(await rows.taken(tx, ids, row.profile_id, row.version))
        issues = []
        for index, draft in enumerate(drafts):
            pointer = f"/bindings/{index}/bindingId"
            if draft.id in [earlier.id for earlier in drafts[:index] if earlier.id is not None]:
                issues.append(FieldIssue("duplicate_id", pointer, "another binding of this document has this id"))
            elif draft.id in taken:
                issues.append(FieldIssue("already_exists", pointer, "a binding elsewhere has this id; leave it out"))
        if issues:
            raise Refused(ControlCode.INVALID_BINDINGS, f"{len(issues)} issues; nothing changed", issues=issues)

    async def _refuse_invalid(self, tx: Transaction, row: ProfileVersion, stored: Sequence[StoredBinding]) -> None:
        # Held until the commit: whoever changes one of them after that finds these bindings, and has them compiled.
        connections = await rows.connections(tx, {each.connection_id for each in stored}, lock=True)
        await rows.targets(tx, {each.target_key for each in connections}, lock=True)
        found = validate(await load_inputs(tx, row.profile_id, row.version, stored), self._registry).issues
        if found:
            detail = f"{len(found)} issues; nothing changed"
            raise Refused(ControlCode.INVALID_BINDINGS, detail, issues=field_issues(found))


def _put(version: ProfileVersion, position: int, new: StoredBinding, known: Binding | None, now: float) -> Binding:
    """Write a binding to its row, which stays the same one where there is one."""
    at = int(now)
    row = known or Binding(id=new.id, profile_id=version.profile_id, version=version.version, created_at=at)
    if known is None or stored_binding(known) != new:
        row.updated_at = at
    row.position = position
    row.connection_id = new.connection_id
    row.kind = new.kind
    row.config = orjson.dumps(new.config).decode()
    return row


def _document(version: ProfileVersion, bindings: Sequence[Binding]) -> dict[str, object]:
    return {
        "sandboxProfileId": version.profile_id,
        "version": version.version,
        "revision": version.bindings_revision,
        "bindings": [binding_document(each) for each in bindings],
    }
