"""Queries on sandboxes, their profiles, plans and interception authorities."""

from collections.abc import Mapping, Sequence

from sqlalchemy import delete, func, select, update

from control_plane.store.database import Transaction
from control_plane.store.models import (
    InterceptionAuthority,
    Plan,
    PlanReference,
    PlanServer,
    Profile,
    ProfileVersion,
    Sandbox,
)


async def profile(tx: Transaction, profile_id: str, *, lock: bool = False) -> Profile | None:
    """Return a profile."""
    return await tx.get(Profile, profile_id, lock=lock)


async def list_profiles(tx: Transaction, organization_id: str | None, after: str, limit: int) -> Sequence[Profile]:
    """Return profiles by id, after one."""
    query = select(Profile).where(Profile.id > after).order_by(Profile.id).limit(limit)
    return await tx.all(query if organization_id is None else query.where(Profile.organization_id == organization_id))


async def latest_versions(tx: Transaction, profile_ids: Sequence[str]) -> Mapping[str, int]:
    """Return the numbers of the newest versions, by profile; one without versions is absent."""
    query = select(ProfileVersion.profile_id, func.max(ProfileVersion.version)).group_by(ProfileVersion.profile_id)
    return {row[0]: row[1] for row in await tx.rows(query.where(ProfileVersion.profile_id.in_(profile_ids)))}


async def latest_version(tx: Transaction, profile_id: str) -> int:
    """Return the number of a profile's newest version, 0 where it has none."""
    query = select(func.coalesce(func.max(ProfileVersion.version), 0))
    return await tx.first(query.where(ProfileVersion.profile_id == profile_id)) or 0


async def profile_version(
    tx: Transaction, profile_id: str, version: int, *, lock: bool = False
) -> ProfileVersion | None:
    """Return one version of a profile. `lock` makes who would change its bindings wait."""
    return await tx.get(ProfileVersion, (profile_id, version), lock=lock)


async def sandbox(tx: Transaction, sandbox_id: str, *, lock: bool = False) -> Sandbox | None:
    """Return a sandbox that was not deleted. `lock` makes other writers of this sandbox wait."""
    found = await tx.get(Sandbox, sandbox_id, lock=lock)
    return found if found is not None and found.deleted_at is None else None


async def list_sandboxes(tx: Transaction, organization_id: str | None, after: str, limit: int) -> Sequence[Sandbox]:
    """Return sandboxes that were not deleted, by id, after one."""
    query = select(Sandbox).where(Sandbox.deleted_at.is_(None), Sandbox.id > after).order_by(Sandbox.id).limit(limit)
    return await tx.all(query if organization_id is None else query.where(Sandbox.organization_id == organization_id))


async def mark_deleted(tx: Transaction, sandbox_id: str, now: float) -> None:
    """Take a sandbox out of every answer, its plan's references and its CA with it."""
    gone = {"deleted_at": int(now), "revision": None, "digest": None}
    await tx.run(update(Sandbox).where(Sandbox.id == sandbox_id).values(**gone))
    await tx.run(delete(PlanReference).where(PlanReference.sandbox_id == sandbox_id))
    await tx.run(delete(PlanServer).where(PlanServer.sandbox_id == sandbox_id))
    await tx.run(delete(InterceptionAuthority).where(InterceptionAuthority.sandbox_id == sandbox_id))


async def plan(tx: Transaction, sandbox_id: str, revision: int) -> Plan | None:
    """Return one revision of a sandbox's plan."""
    return await tx.get(Plan, (sandbox_id, revision))


async def latest_revision(tx: Transaction, sandbox_id: str) -> int:
    """Return the highest revision that is kept of a sandbox, 0 where there is none."""
    return await tx.first(select(func.max(Plan.revision)).where(Plan.sandbox_id == sandbox_id)) or 0


async def list_plans(tx: Transaction, sandbox_id: str, before: int, limit: int) -> Sequence[tuple[int, str, int]]:
    """Return (revision, digest, created_at) of a sandbox's plans, the newest first, below a revision."""
    query = select(Plan.revision, Plan.digest, Plan.created_at).where(Plan.sandbox_id == sandbox_id)
    rows = await tx.rows(query.where(Plan.revision < before).order_by(Plan.revision.desc()).limit(limit))
    return [(row.revision, row.digest, row.created_at) for row in rows]


async def store_plan(tx: Transaction, new: Plan) -> None:
    """Keep a revision; the caller holds the sandbox's lock."""
    await tx.add(new)


async def put_in_force(tx: Transaction, chosen: Plan, references: Sequence[PlanReference]) -> None:
    """Make a stored plan the current one of its sandbox; the caller holds the sandbox's lock."""
    current = {"revision": chosen.revision, "digest": chosen.digest}
    await tx.run(update(Sandbox).where(Sandbox.id == chosen.sandbox_id).values(**current))
    await tx.run(delete(PlanReference).where(PlanReference.sandbox_id == chosen.sandbox_id))
    await tx.add_all(references)


async def current_plans(tx: Transaction) -> Sequence[tuple[str, int, str]]:
    """Return (sandbox, revision, digest) of every plan in force."""
    query = select(Sandbox.id, Sandbox.revision, Sandbox.digest).where(Sandbox.revision.is_not(None))
    return [(row.id, row.revision, row.digest) for row in await tx.rows(query.order_by(Sandbox.id))]


async def authority(tx: Transaction, sandbox_id: str, *, lock: bool = False) -> InterceptionAuthority | None:
    """Return a sandbox's interception authority."""
    return await tx.get(InterceptionAuthority, sandbox_id, lock=lock)
