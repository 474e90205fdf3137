"""Queries on instances, their keys and servers, and on what they are served."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import delete, func, select, update

from control_plane.store.database import Transaction
from control_plane.store.models import (
    ClientKey,
    FeedEntry,
    GatewayLease,
    GatewaySandbox,
    Instance,
    InstanceServer,
    PlanServer,
    Sandbox,
)

# --- instances --------------------------------------------------------------------------------------------------------


async def instance(tx: Transaction, instance_id: str, *, lock: bool = False) -> Instance | None:
    """Return an instance. `lock` makes whoever changes what it is served wait."""
    return await tx.get(Instance, instance_id, lock=lock)


async def list_instances(tx: Transaction, organization_id: str | None, after: str, limit: int) -> Sequence[Instance]:
    """Return instances by id, after one."""
    query = select(Instance).where(Instance.id > after).order_by(Instance.id).limit(limit)
    return await tx.all(query if organization_id is None else query.where(Instance.organization_id == organization_id))


async def all_instances(tx: Transaction) -> Sequence[tuple[str, str]]:
    """Return (id, organization) of every instance."""
    rows = await tx.rows(select(Instance.id, Instance.organization_id).order_by(Instance.id))
    return [(row.id, row.organization_id) for row in rows]


async def revision(tx: Transaction, instance_id: str) -> int:
    """Return an instance's revision as it is in the database, 0 where there is no such instance."""
    return await tx.first(select(Instance.revision).where(Instance.id == instance_id)) or 0


# --- keys -------------------------------------------------------------------------------------------------------------


async def key_of(tx: Transaction, key_hash: str) -> ClientKey | None:
    """Return the key of a hash."""
    return await tx.first(select(ClientKey).where(ClientKey.key_hash == key_hash))


async def key(tx: Transaction, key_id: str, *, lock: bool = False) -> ClientKey | None:
    """Return a key by its id."""
    return await tx.get(ClientKey, key_id, lock=lock)


async def list_keys(
    tx: Transaction, instance_id: str, tiers: Sequence[str], after: str, limit: int
) -> Sequence[ClientKey]:
    """Return the keys of an instance, of these tiers, by id, after one."""
    query = select(ClientKey).where(ClientKey.instance_id == instance_id, ClientKey.tier.in_(tiers))
    return await tx.all(query.where(ClientKey.id > after).order_by(ClientKey.id).limit(limit))


async def count_keys(tx: Transaction, instance_id: str) -> int:
    """Return how many keys of an instance are good."""
    query = select(func.count()).select_from(ClientKey)
    return await tx.first(query.where(ClientKey.instance_id == instance_id, ClientKey.revoked_at.is_(None))) or 0


async def forget_revoked(tx: Transaction, before: float) -> int:
    """Delete keys that were revoked before an instant."""
    return await tx.run(delete(ClientKey).where(ClientKey.revoked_at < int(before)))


# A server that is not on its way out.
_STAYS = (InstanceServer.removal == "",)

# --- servers ----------------------------------------------------------------------------------------------------------


async def server(tx: Transaction, server_id: str, *, lock: bool = False) -> InstanceServer | None:
    """Return a server by its id."""
    return await tx.get(InstanceServer, server_id, lock=lock)


async def servers_named(tx: Transaction, instance_id: str, name: str, worker_id: str) -> Sequence[InstanceServer]:
    """Return the servers at a worker that an instance's feed has a name for, or had, the newest first."""
    query = select(InstanceServer).where(InstanceServer.instance_id == instance_id, InstanceServer.name == name)
    return await tx.all(query.where(InstanceServer.worker_id == worker_id).order_by(InstanceServer.id.desc()))


async def servers_of(tx: Transaction, instance_id: str) -> Sequence[InstanceServer]:
    """Return every server of an instance, those that leave among them."""
    query = select(InstanceServer).where(InstanceServer.instance_id == instance_id)
    return await tx.all(query.order_by(InstanceServer.name))


async def leaving(tx: Transaction, now: float) -> Sequence[InstanceServer]:
    """Return the servers whose time has come."""
    return await tx.all(select(InstanceServer).where(InstanceServer.leaves_at <= int(now)).order_by(InstanceServer.id))


async def servers_at(tx: Transaction, worker_id: str) -> Sequence[InstanceServer]:
    """Return every server that is to be at a worker, those that leave among them."""
    return await tx.all(select(InstanceServer).where(InstanceServer.worker_id == worker_id).order_by(InstanceServer.id))


async def list_shared(
    tx: Transaction, instance_id: str, tiers: Sequence[str], after: str, limit: int
) -> Sequence[InstanceServer]:
    """Return the shared tools of an instance, of these tiers, by id, after one."""
    shared = (InstanceServer.instance_id == instance_id, InstanceServer.user_id.is_(None))
    query = select(InstanceServer).where(*shared, *_STAYS, InstanceServer.tier.in_(tiers))
    return await tx.all(query.where(InstanceServer.id > after).order_by(InstanceServer.id).limit(limit))


async def list_installed(
    tx: Transaction, instance_id: str, user_id: str | None, after: str, limit: int
) -> Sequence[InstanceServer]:
    """Return what users of an instance have installed, or one of them, by id, after one."""
    query = select(InstanceServer).where(InstanceServer.instance_id == instance_id, *_STAYS)
    query = query.where(InstanceServer.user_id.is_not(None) if user_id is None else InstanceServer.user_id == user_id)
    return await tx.all(query.where(InstanceServer.id > after).order_by(InstanceServer.id).limit(limit))


async def note_issue(tx: Transaction, server_id: str, issue: str | None, now: float) -> None:
    """Note why a server does not run, or that nothing is known against it."""
    same = (InstanceServer.id == server_id, InstanceServer.issue.is_distinct_from(issue))
    await tx.run(update(InstanceServer).where(*same).values(issue=issue, updated_at=int(now)))


async def forget_server(tx: Transaction, server_id: str) -> None:
    """Delete a server."""
    await tx.run(delete(InstanceServer).where(InstanceServer.id == server_id))


async def count_servers(tx: Transaction, instance_id: str, user_id: str | None) -> int:
    """Return how many servers a user of an instance has, or how many all of them share."""
    query = select(func.count()).select_from(InstanceServer).where(InstanceServer.instance_id == instance_id, *_STAYS)
    same = InstanceServer.user_id.is_(None) if user_id is None else InstanceServer.user_id == user_id
    return await tx.first(query.where(same)) or 0


# --- what runs in sandboxes -------------------------------------------------------------------------------------------


class SandboxServer(NamedTuple):
    """An MCP server inside a sandbox, and whether a live gateway has a tunnel to that."""

    organization_id: str
    sandbox_id: str
    server_id: str
    is_held: bool


async def put_plan_servers(tx: Transaction, sandbox_id: str, server_ids: Sequence[str]) -> None:
    """Replace the MCP servers inside a sandbox by those of its new plan; the caller holds the sandbox's lock."""
    await tx.run(delete(PlanServer).where(PlanServer.sandbox_id == sandbox_id))
    await tx.add_all([PlanServer(sandbox_id=sandbox_id, server_id=each) for each in server_ids])


async def sandbox_servers(tx: Transaction, now: float) -> Sequence[SandboxServer]:
    """Return the MCP servers inside sandboxes, of all plans in force."""
    held = (
        select(GatewaySandbox.sandbox_id)
        .join(GatewayLease, GatewayLease.gateway_id == GatewaySandbox.gateway_id)
        .where(GatewaySandbox.sandbox_id == PlanServer.sandbox_id)
        .where(GatewaySandbox.tunnel, GatewayLease.expires_at > int(now))
        .exists()
    )
    query = select(Sandbox.organization_id, PlanServer.sandbox_id, PlanServer.server_id, held)
    query = query.join(Sandbox, Sandbox.id == PlanServer.sandbox_id).where(Sandbox.deleted_at.is_(None))
    return [SandboxServer(*row) for row in await tx.rows(query)]


async def organizations_of(tx: Transaction, sandbox_ids: Sequence[str]) -> Mapping[str, str]:
    """Return the organizations of sandboxes that are not deleted, by sandbox."""
    query = select(Sandbox.id, Sandbox.organization_id).where(Sandbox.id.in_(sandbox_ids), Sandbox.deleted_at.is_(None))
    return {row.id: row.organization_id for row in await tx.rows(query)}


# --- what is served ---------------------------------------------------------------------------------------------------


class EntryRow(NamedTuple):
    """One entry as it is kept."""

    name: str
    url: str
    tier: str
    user_id: str | None
    kind: str
    subject: str


_ENTRY = (FeedEntry.name, FeedEntry.url, FeedEntry.tier, FeedEntry.user_id, FeedEntry.kind, FeedEntry.subject)


async def entries_of(tx: Transaction, instance_id: str) -> Sequence[EntryRow]:
    """Return what an instance is served."""
    rows = await tx.rows(select(*_ENTRY).where(FeedEntry.instance_id == instance_id).order_by(FeedEntry.name))
    return [EntryRow(*row) for row in rows]


async def entry(tx: Transaction, instance_id: str, name: str) -> EntryRow | None:
    """Return one entry of what an instance is served."""
    rows = await tx.rows(select(*_ENTRY).where(FeedEntry.instance_id == instance_id, FeedEntry.name == name))
    return EntryRow(*rows[0]) if rows else None


async def replace_entries(tx: Transaction, instance_id: str, removed: Sequence[str], added: Sequence[EntryRow]) -> None:
    """Take entries away, then add others; the caller holds the instance's lock."""
    if removed:
        gone = (FeedEntry.instance_id == instance_id, FeedEntry.name.in_(removed))
        await tx.run(delete(FeedEntry).where(*gone))
    await tx.add_all([FeedEntry(instance_id=instance_id, **each._asdict()) for each in added])
