"""Compile what is stored, and give sandboxes the plans: the pure compiler's shell.

Compiling takes a second of a core where a plan is large, so it happens outside transactions, one at a time, on a
thread. A plan is put in force only while what it was compiled from is still what is stored; who changes that later asks
for a recompilation, which finds the sandbox.
"""

import asyncio
import contextlib
import functools
from collections.abc import Sequence
from typing import Final, NamedTuple

import orjson

from control_plane import plans, sandboxes
from control_plane.compiler.compile import Compilation, CompileError, Sealed, compile_bindings, seal_for
from control_plane.compiler.inputs import Inputs, StoredBinding, StoredConnection, StoredTarget
from control_plane.definitions.contract import Issue
from control_plane.definitions.registry import Registry
from control_plane.refusals import ControlCode, FieldIssue, Refused
from control_plane.store import bindings as rows
from control_plane.store import sandboxes as sandbox_rows
from control_plane.store.database import Database, Transaction
from control_plane.store.models import Binding, Plan, Sandbox

# Each time something else was committed meanwhile; so often in a row is a storm of changes.
MAX_TRIES: Final = 10


class Applied(NamedTuple):
    """What a sandbox has after it was compiled. is_new is False where its plan was this one already."""

    sealed: Sealed
    revision: int
    is_new: bool


class _Outcome(NamedTuple):
    """What some inputs compiled to: a plan, or issues."""

    inputs: Inputs
    compilation: Compilation | None
    issues: Sequence[Issue]


class _InputsChanged(Exception):
    """What was compiled is not what is stored any more."""


class CompileDesk:
    """Compiles versions of profiles, and puts the result in force for their sandboxes."""

    def __init__(self, database: Database, registry: Registry) -> None:
        self._database = database
        self._registry = registry
        self._compiling = asyncio.Lock()

    async def compile(
        self, profile_id: str, version: int, candidate: Sequence[StoredBinding] | None = None
    ) -> Compilation:
        """Compile a version, or other bindings in the place of its own. Raises Refused with every issue."""
        async with self._database.read() as tx:
            inputs = await load_inputs(tx, profile_id, version, candidate)
        outcome = await self._compile(inputs)
        if outcome.compilation is None:
            raise _not_compilable(outcome)
        return outcome.compilation

    async def create_sandbox(
        self, organization_id: str, *, sandbox_id: str | None, profile_id: str | None, version: int | None, now: float
    ) -> dict[str, object]:
        """Make a sandbox; one of a version that has, or had, bindings gets its plan with it, or the issues."""
        if profile_id is None:
            return await sandboxes.create_sandbox(
                self._database, organization_id, sandbox_id=sandbox_id, profile_id=None, version=version, now=now
            )
        async with self._database.read() as tx:
            number = await sandboxes.version_of(tx, organization_id, profile_id, version)
        for _ in range(MAX_TRIES):
            with contextlib.suppress(_InputsChanged):
                return await sandboxes.create_sandbox(
                    self._database,
                    organization_id,
                    sandbox_id=sandbox_id,
                    profile_id=profile_id,
                    version=number,
                    now=now,
                    begin=functools.partial(self._begin, await self._compile_bound(profile_id, number), now),
                )
        raise _too_fast()

    async def apply(self, profile_id: str, version: int, sandbox_id: str, now: float) -> Applied:
        """Compile one sandbox of a version now, as its next revision. Raises Refused; its plan stays then."""
        outcome, applied = await self._apply(await self._compile_stored(profile_id, version), sandbox_id, now)
        if applied is None:
            raise _not_compilable(outcome)
        return applied

    async def apply_to_all(self, profile_id: str, version: int, sandbox_ids: Sequence[str], now: float) -> int:
        """Compile sandboxes of a version; return how many got another plan. Where it makes none the old one stays."""
        outcome = await self._compile_stored(profile_id, version)
        changed = 0
        for sandbox_id in sandbox_ids:
            try:
                outcome, applied = await self._apply(outcome, sandbox_id, now)
            except Refused as refused:
                if refused.code is not ControlCode.SANDBOX_NOT_FOUND:
                    raise
                continue  # deleted meanwhile
            changed += applied is not None and applied.is_new
        return changed

    async def plan_in_force(self, profile_id: str, version: int, sandbox_id: str) -> bytes:
        """Return the plan in force of a sandbox of a version. Raises Refused."""
        async with self._database.read() as tx:
            sandbox = await sandbox_rows.sandbox(tx, sandbox_id)
            if sandbox is None or (sandbox.profile_id, sandbox.version) != (profile_id, version):
                raise _no_such_sandbox()
            kept = None if sandbox.revision is None else await sandbox_rows.plan(tx, sandbox_id, sandbox.revision)
        if kept is None:
            raise Refused(ControlCode.PLAN_NOT_FOUND, "the sandbox has no plan yet")
        return kept.document

    async def _apply(self, outcome: _Outcome, sandbox_id: str, now: float) -> tuple[_Outcome, Applied | None]:
        """Give a sandbox an outcome, or what takes its place when the inputs change; return it. Raises Refused."""
        profile_id, version = outcome.inputs.profile_id, outcome.inputs.version
        for _ in range(MAX_TRIES):
            try:
                async with self._database.write() as tx:
                    sandbox = await sandbox_rows.sandbox(tx, sandbox_id, lock=True)
                    if sandbox is None or (sandbox.profile_id, sandbox.version) != (profile_id, version):
                        raise _no_such_sandbox()
                    return outcome, await self._store(tx, sandbox, outcome, now)
            except _InputsChanged:
                outcome = await self._compile_stored(profile_id, version)
        raise _too_fast()

    async def _store(self, tx: Transaction, sandbox: Sandbox, outcome: _Outcome, now: float) -> Applied | None:
        """Put a plan in force, or note why there is none; the caller holds the sandbox's lock."""
        inputs = outcome.inputs
        if await load_inputs(tx, inputs.profile_id, inputs.version) != inputs:
            raise _InputsChanged
        if outcome.compilation is None:
            sandbox.compile_issues = orjson.dumps([each._asdict() for each in outcome.issues]).decode()
            return None
        sandbox.compile_issues = None
        content, plan = outcome.compilation
        if sandbox.revision is not None:
            same = await asyncio.to_thread(seal_for, content, sandbox.id, sandbox.revision)
            if same.digest == sandbox.digest:
                return Applied(same, sandbox.revision, False)
        revision = await sandbox_rows.latest_revision(tx, sandbox.id) + 1
        sealed = await asyncio.to_thread(seal_for, content, sandbox.id, revision)
        new = Plan(
            sandbox_id=sandbox.id,
            revision=revision,
            digest=sealed.digest,
            document=sealed.document,
            created_at=int(now),
        )
        await plans.enforce(tx, new, plan, now)
        sandbox.revision, sandbox.digest = revision, sealed.digest
        return Applied(sealed, revision, True)

    async def _begin(self, outcome: _Outcome | None, now: float, tx: Transaction, sandbox: Sandbox) -> None:
        """Give a new sandbox its plan. The version's lock lets a recompilation see it, or it the change."""
        assert sandbox.profile_id is not None
        assert sandbox.version is not None
        row = await sandbox_rows.profile_version(tx, sandbox.profile_id, sandbox.version, lock=True)
        if outcome is not None:
            await self._store(tx, sandbox, outcome, now)
        elif row is None or row.bindings_revision > 0:
            raise _InputsChanged

    async def _compile_bound(self, profile_id: str, version: int) -> _Outcome | None:
        """Compile a version, unless it never had bindings: its sandboxes get their plans from elsewhere."""
        async with self._database.read() as tx:
            row = await sandbox_rows.profile_version(tx, profile_id, version)
            if row is None or row.bindings_revision == 0:
                return None
            inputs = await load_inputs(tx, profile_id, version)
        return await self._compile(inputs)

    async def _compile_stored(self, profile_id: str, version: int) -> _Outcome:
        async with self._database.read() as tx:
            inputs = await load_inputs(tx, profile_id, version)
        return await self._compile(inputs)

    async def _compile(self, inputs: Inputs) -> _Outcome:
        async with self._compiling:
            # On a thread, so that requests are answered between the interpreter's switches.
            return await asyncio.to_thread(_compile, inputs, self._registry)


async def load_inputs(
    tx: Transaction, profile_id: str, version: int, candidate: Sequence[StoredBinding] | None = None
) -> Inputs:
    """Return all that a version's plan is compiled from, its own bindings unless others are given. Raises Refused."""
    profile = await sandbox_rows.profile(tx, profile_id)
    row = await sandbox_rows.profile_version(tx, profile_id, version)
    if profile is None or row is None:
        raise sandboxes.profile_not_found()
    bindings = candidate
    if bindings is None:
        bindings = [stored_binding(each) for each in await rows.bindings(tx, profile_id, version)]
    connections = await rows.connections(tx, {each.connection_id for each in bindings})
    targets = await rows.targets(tx, {each.target_key for each in connections})
    types = await rows.secret_types(tx, [each.id for each in connections])
    names = await rows.secret_names(tx, [each.key for each in targets])
    return Inputs(
        organization_id=profile.organization_id,
        profile_id=profile_id,
        version=version,
        image=None if row.image is None else orjson.loads(row.image),
        egress=None if row.egress is None else orjson.loads(row.egress),
        bindings=list(bindings),
        connections={
            each.id: StoredConnection(
                id=each.id,
                organization_id=each.organization_id,
                target_key=each.target_key,
                status=each.status,
                method=each.method,
                config=orjson.loads(each.config),
                secret_types=frozenset(kind for connection_id, kind in types if connection_id == each.id),
            )
            for each in connections
        },
        targets={
            each.key: StoredTarget(
                key=each.key,
                family_id=each.family_id,
                variant_id=each.variant_id,
                enabled=each.enabled,
                config=orjson.loads(each.config),
                secrets=frozenset(name for key, name in names if key == each.key),
            )
            for each in targets
        },
    )


def stored_binding(row: Binding) -> StoredBinding:
    """Return a binding as the compiler reads it."""
    return StoredBinding(id=row.id, connection_id=row.connection_id, kind=row.kind, config=orjson.loads(row.config))


def field_issues(issues: Sequence[Issue]) -> list[FieldIssue]:
    """Return issues of the compiler as problem documents carry them."""
    return [FieldIssue(*each) for each in issues]


def _compile(inputs: Inputs, registry: Registry) -> _Outcome:
    try:
        return _Outcome(inputs, compile_bindings(inputs, registry), ())
    except CompileError as error:
        return _Outcome(inputs, None, error.issues)


def _not_compilable(outcome: _Outcome) -> Refused:
    detail = f"version {outcome.inputs.version} has {len(outcome.issues)} issues"
    return Refused(ControlCode.NOT_COMPILABLE, detail, issues=field_issues(outcome.issues))


def _no_such_sandbox() -> Refused:
    return Refused(ControlCode.SANDBOX_NOT_FOUND, "the version has no such sandbox")


def _too_fast() -> Refused:
    detail = "bindings, connections or targets changed whenever they were compiled; ask again"
    return Refused(ControlCode.REVISION_CONFLICT, detail)
