"""Sandboxes and their profiles: made, looked at, deleted."""

from collections.abc import Awaitable, Callable
from typing import Final

import orjson

from control_plane import revocations
from control_plane.ids import new_id
from control_plane.refusals import ControlCode, Refused, sandbox_not_found
from control_plane.signing import MAX_TTL_SECONDS
from control_plane.store import sandboxes as rows
from control_plane.store.database import AlreadyExists, Database, Transaction
from control_plane.store.models import Profile, ProfileVersion, Sandbox

ACTIVE: Final = "active"


def sandbox_document(sandbox: Sandbox) -> dict[str, object]:
    """Return a sandbox as the API shows it; what it has none of is absent."""
    document: dict[str, object] = {"sandboxId": sandbox.id, "organizationId": sandbox.organization_id}
    if sandbox.profile_id is not None:
        document["sandboxProfileId"] = sandbox.profile_id
    if sandbox.version is not None:
        document["version"] = sandbox.version
    document |= {"status": ACTIVE, "createdAt": sandbox.created_at}
    if sandbox.revision is not None:
        document["plan"] = {"revision": sandbox.revision, "digest": sandbox.digest}
    if sandbox.compile_issues is not None:
        document["compileIssues"] = orjson.loads(sandbox.compile_issues)
    return document


def profile_document(profile: Profile, latest: int) -> dict[str, object]:
    """Return a profile as the API shows it; latestVersion is absent while it has none."""
    document: dict[str, object] = {"sandboxProfileId": profile.id, "organizationId": profile.organization_id}
    if profile.display_name is not None:
        document["displayName"] = profile.display_name
    document["createdAt"] = profile.created_at
    return document | ({"latestVersion": latest} if latest else {})


def version_document(version: ProfileVersion) -> dict[str, object]:
    """Return one version of a profile as the API shows it."""
    document: dict[str, object] = {"sandboxProfileId": version.profile_id, "version": version.version}
    if version.image is not None:
        document["image"] = orjson.loads(version.image)
    if version.egress is not None:
        document["egress"] = orjson.loads(version.egress)
    return document | {"createdAt": version.created_at}


async def create_profile(
    database: Database, organization_id: str, display_name: str | None, now: float
) -> dict[str, object]:
    """Make a profile without versions."""
    profile = Profile(
        id=new_id("sbp", now), organization_id=organization_id, display_name=display_name, created_at=int(now)
    )
    async with database.write() as tx:
        await tx.add(profile)
    return profile_document(profile, 0)


async def create_version(
    database: Database, profile_id: str, image: object, egress: object, now: float
) -> dict[str, object]:
    """Add a version to a profile. Raises Refused."""
    async with database.write() as tx:
        if await rows.profile(tx, profile_id, lock=True) is None:
            raise profile_not_found()
        version = ProfileVersion(
            profile_id=profile_id,
            version=await rows.latest_version(tx, profile_id) + 1,
            image=None if image is None else orjson.dumps(image).decode(),
            egress=None if egress is None else orjson.dumps(egress).decode(),
            created_at=int(now),
        )
        await tx.add(version)
    return version_document(version)


async def create_sandbox(
    database: Database,
    organization_id: str,
    *,
    sandbox_id: str | None,
    profile_id: str | None,
    version: int | None,
    now: float,
    begin: Callable[[Transaction, Sandbox], Awaitable[None]] | None = None,
) -> dict[str, object]:
    """Make a sandbox, of a profile's latest version where none is named. Raises Refused.

    `begin` gives it what it starts with, in the same transaction.
    """
    async with database.write() as tx:
        if profile_id is not None:
            version = await version_of(tx, organization_id, profile_id, version)
        sandbox = Sandbox(
            id=sandbox_id or new_id("sbx", now),
            organization_id=organization_id,
            profile_id=profile_id,
            version=version,
            created_at=int(now),
            deleted_at=None,
            revision=None,
            digest=None,
            compile_issues=None,
        )
        try:
            await tx.add(sandbox)
        except AlreadyExists:
            raise Refused(
                ControlCode.ALREADY_EXISTS, "a sandbox has this id, or had it; leave it out to be given one"
            ) from None
        if begin is not None:
            await begin(tx, sandbox)
    return sandbox_document(sandbox)


async def delete_sandbox(database: Database, sandbox_id: str, now: float) -> None:
    """Delete a sandbox and revoke everything of it; again for one that was deleted. Raises Refused."""
    async with database.write() as tx:
        sandbox = await tx.get(Sandbox, sandbox_id, lock=True)
        if sandbox is None:
            raise sandbox_not_found()
        if sandbox.deleted_at is not None:
            return
        had_plan = sandbox.revision is not None
        await rows.mark_deleted(tx, sandbox_id, now)
        if had_plan:
            tx.emit("plan_removed", {"sandboxId": sandbox_id}, now)
        await revocations.record(tx, "sandbox", sandbox_id, int(now) + MAX_TTL_SECONDS, now)


async def get_sandbox(database: Database, sandbox_id: str) -> Sandbox:
    """Return a sandbox that was not deleted. Raises Refused."""
    async with database.read() as tx:
        sandbox = await rows.sandbox(tx, sandbox_id)
    if sandbox is None:
        raise sandbox_not_found()
    return sandbox


def profile_not_found() -> Refused:
    """Return the refusal of a profile, or a version of one, that is not there."""
    return Refused(ControlCode.PROFILE_NOT_FOUND, "make the profile and a version of it first")


async def version_of(tx: Transaction, organization_id: str, profile_id: str, version: int | None) -> int:
    """Return the version of an organization's profile, the latest where none is named. Raises Refused."""
    profile = await rows.profile(tx, profile_id)
    if profile is None or profile.organization_id != organization_id:
        raise profile_not_found()
    wanted = version or await rows.latest_version(tx, profile_id)
    if await rows.profile_version(tx, profile_id, wanted) is None:
        raise profile_not_found()
    return wanted
