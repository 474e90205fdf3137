"""Plans: taken in, checked whole, kept by revision byte for byte."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from control_plane.refusals import ControlCode, FieldIssue, Refused, sandbox_not_found
from control_plane.store import feed
from control_plane.store import sandboxes as rows
from control_plane.store.database import Database, Transaction
from control_plane.store.models import Plan, PlanReference, Sandbox
from sallyport.host import is_loopback
from sallyport.plan.codec import PlanError, parse_plan, seal
from sallyport.plan.model import CompiledRuntimePlan
from sallyport.plan.strict_json import StrictJsonError, read_strictly

# One fault is enough to know that a document cannot be sealed; parse_plan tells the rest.
_ONE_FAULT: Final = 1


class Accepted(NamedTuple):
    """A plan in force. is_new is False when this very plan was in force already."""

    sandbox_id: str
    revision: int
    digest: str
    is_new: bool


class PlanDesk:
    """Takes plans in, one at a time: checking a large one takes a second of a core and 50 MiB."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._checking = asyncio.Lock()

    async def put(self, sandbox_id: str, body: bytes, now: float, *, in_force: bool = True) -> Accepted:
        """Check a document, keep it, and put it in force unless that is somebody else's to do.

        Raises Refused with every issue; nothing has changed then.
        """
        document, plan = await self._check(body)
        async with self._database.write() as tx:
            sandbox = await rows.sandbox(tx, sandbox_id, lock=True)
            if sandbox is None:
                raise sandbox_not_found()
            _refuse_foreign(plan, sandbox)
            kept = await rows.plan(tx, sandbox_id, plan.revision)
            is_new = _is_new(plan, kept, sandbox)
            if is_new:
                kept = Plan(
                    sandbox_id=sandbox_id,
                    revision=plan.revision,
                    digest=plan.digest,
                    document=document,
                    created_at=int(now),
                )
                await rows.store_plan(tx, kept)
            if in_force and kept is not None and plan.revision != sandbox.revision:
                await _put_in_force(tx, kept, plan, now)
        return Accepted(sandbox_id, plan.revision, plan.digest, is_new)

    async def put_in_force(self, sandbox_id: str, revision: int, now: float) -> Accepted:
        """Put a kept revision in force; is_new is False where it is already. Raises Refused."""
        kept = await self.revision(sandbox_id, revision)
        _, plan = await self._check(kept.document)
        async with self._database.write() as tx:
            sandbox = await rows.sandbox(tx, sandbox_id, lock=True)
            if sandbox is None:
                raise sandbox_not_found()
            if sandbox.revision == revision:
                return Accepted(sandbox_id, revision, kept.digest, False)
            if sandbox.revision is not None and sandbox.revision > revision:
                detail = f"revision {sandbox.revision} is in force; an older one never comes back under its number"
                raise Refused(ControlCode.PLAN_CONFLICT, detail)
            await _put_in_force(tx, kept, plan, now)
        return Accepted(sandbox_id, revision, kept.digest, True)

    async def _check(self, body: bytes) -> tuple[bytes, CompiledRuntimePlan]:
        async with self._checking:
            # On a thread, so that requests are answered between the interpreter's switches.
            return await asyncio.to_thread(_read, body)

    async def current(self, sandbox_id: str) -> Plan:
        """Return the plan in force. Raises Refused."""
        async with self._database.read() as tx:
            sandbox = await rows.sandbox(tx, sandbox_id)
            if sandbox is None:
                raise sandbox_not_found()
            plan = None if sandbox.revision is None else await rows.plan(tx, sandbox_id, sandbox.revision)
        if plan is None:
            raise Refused(ControlCode.PLAN_NOT_FOUND, "the sandbox has no plan yet")
        return plan

    async def revision(self, sandbox_id: str, revision: int) -> Plan:
        """Return one revision. Raises Refused."""
        async with self._database.read() as tx:
            if await rows.sandbox(tx, sandbox_id) is None:
                raise sandbox_not_found()
            plan = await rows.plan(tx, sandbox_id, revision)
        if plan is None:
            raise Refused(ControlCode.PLAN_NOT_FOUND, "the sandbox never had this revision")
        return plan


def _read(body: bytes) -> tuple[bytes, CompiledRuntimePlan]:
    """Return the document to keep, as it came or sealed where it had no digest, and the plan it is."""
    document = _sealed(body)
    try:
        return document, parse_plan(document)
    except PlanError as error:
        issues = [FieldIssue(issue.code.value, issue.pointer, issue.message) for issue in error.issues]
        code = ControlCode.BODY_TOO_LARGE if error.is_too_large else ControlCode.INVALID_PLAN
        raise Refused(code, f"{len(issues)} issues; nothing changed", issues=issues) from None


def _sealed(body: bytes) -> bytes:
    try:
        document, faults = read_strictly(body, most_faults=_ONE_FAULT)
    except StrictJsonError:
        return body
    if faults or not isinstance(document, dict) or "digest" in document:
        return body
    return seal(document)


def _refuse_foreign(plan: CompiledRuntimePlan, sandbox: Sandbox) -> None:
    issues = []
    if plan.sandbox_id != sandbox.id:
        issues.append(FieldIssue("sandbox_mismatch", "/sandboxId", "the plan is for another sandbox"))
    if plan.organization_id != sandbox.organization_id:
        message = "the sandbox belongs to another organization"
        issues.append(FieldIssue("organization_mismatch", "/organizationId", message))
    if issues:
        raise Refused(ControlCode.INVALID_PLAN, "it is not this sandbox's; nothing changed", issues=issues)


async def enforce(tx: Transaction, new: Plan, plan: CompiledRuntimePlan, now: float) -> None:
    """Keep a plan that was compiled here and put it in force; the caller holds the sandbox's lock.

    Of `plan` only routes and MCP servers are read: they are the same for every sandbox it was compiled for.
    """
    await rows.store_plan(tx, new)
    await _put_in_force(tx, new, plan, now)


async def _put_in_force(tx: Transaction, kept: Plan, plan: CompiledRuntimePlan, now: float) -> None:
    await rows.put_in_force(tx, kept, list(_references(kept.sandbox_id, plan)))
    await feed.put_plan_servers(tx, kept.sandbox_id, list(_servers_inside(plan)))
    tx.emit("plan", {"sandboxId": kept.sandbox_id, "revision": kept.revision, "digest": kept.digest}, now)


def _is_new(plan: CompiledRuntimePlan, kept: Plan | None, sandbox: Sandbox) -> bool:
    """Say whether the plan is to be kept; False where it is already. Raises Refused."""
    if kept is not None and kept.digest == plan.digest and plan.revision >= (sandbox.revision or 0):
        return False
    if kept is None and plan.revision > (sandbox.revision or 0):
        return True
    newest = max(plan.revision, sandbox.revision or 0)
    raise Refused(ControlCode.PLAN_CONFLICT, f"revision {newest} is there already; a changed plan needs a higher one")


def _servers_inside(plan: CompiledRuntimePlan) -> Iterator[str]:
    """Yield the MCP servers within the sandbox that a gateway can forward requests to.

    One on standard input and output is spoken to through sandboxd, which serves it over HTTP. An id that two bindings
    brought is left out: sandboxd would have to choose.
    """
    count = Counter(server.server_id for server in plan.mcp_servers)
    for server in plan.mcp_servers:
        transport = server.transport
        if count[server.server_id] > 1:
            continue
        if transport.type == "stdio" or is_loopback(urlsplit(transport.url).hostname or ""):
            yield server.server_id


def _references(sandbox_id: str, plan: CompiledRuntimePlan) -> Iterator[PlanReference]:
    position = 0
    for route in plan.egress_routes:
        additional = [header.credential_resolver for header in route.additional_credential_headers or ()]
        for resolver in (route.credential_resolver, *additional):
            yield PlanReference(
                sandbox_id=sandbox_id,
                position=position,
                egress_rule_id=route.egress_rule_id,
                binding_id=route.binding_id,
                connection_id=resolver.connection_id,
                secret_type=resolver.secret_type,
                slot_key=resolver.slot_key or "",
                resolver_key=resolver.resolver_key or "",
            )
            position += 1
