"""Whether the holder of a key may call a server at a worker's front, and where that server is.

Asked again and again while a client calls: what was revoked, removed or is another's is refused from then on, and what
is another's looks like what was never there.
"""

from typing import NamedTuple

from control_plane import leases
from control_plane.feed import keys
from control_plane.feed.keeping import RUNNING
from control_plane.feed.merge import Kind, sandbox_name
from control_plane.feed.tiers import Tier
from control_plane.store import feed as rows
from control_plane.store import workers as worker_rows
from control_plane.store.database import Database


class AtWorker(NamedTuple):
    """An integration server of the worker that asks."""

    server_id: str


class InSandbox(NamedTuple):
    """A server inside a sandbox, and the gateway that has the tunnel to it."""

    sandbox_id: str
    server_id: str
    admin_url: str


type Place = AtWorker | InSandbox


class Admission(NamedTuple):
    """Who calls, and what; place is None where nothing of that name is there for them."""

    holder: keys.KeyHolder
    place: Place | None


async def admit(database: Database, worker_id: str, key_hash: str, name: str, now: float) -> Admission | None:
    """Decide on a call; None where the key opens nothing."""
    holder = await keys.find_by_hash(database, key_hash)
    if holder is None:
        return None
    async with database.read() as tx:
        # One that was stopped or removed lingers for those who have not heard of it yet.
        here = await rows.servers_named(tx, holder.instance_id, name, worker_id)
        for row in here:
            if holder.tier.sees(Tier(row.tier)) and (row.desired == RUNNING or row.leaves_at is not None):
                return Admission(holder, AtWorker(row.id))
        entry = await rows.entry(tx, holder.instance_id, name)
        if entry is None or entry.kind != Kind.SANDBOX or not holder.tier.sees(Tier(entry.tier)):
            return Admission(holder, None)
        sandbox_id, server_id = entry.subject, name.removeprefix(sandbox_name(entry.subject, ""))
        if await rows.organizations_of(tx, [sandbox_id]) != {sandbox_id: holder.organization_id}:
            return Admission(holder, None)
        run_here = await worker_rows.server(tx, worker_id, server_id)
        if run_here is not None and run_here.sandbox_id == sandbox_id:
            return Admission(holder, AtWorker(server_id))
        tunnel = await leases.tunnel_of(tx, sandbox_id, now)
    return Admission(holder, None if tunnel is None else InSandbox(sandbox_id, server_id, tunnel.admin_url))


def document(admission: Admission | None) -> dict[str, object]:
    """Return what the worker that asks is told; what is not there is absent."""
    if admission is None:
        return {}
    told: dict[str, object] = {"keyId": admission.holder.key_id, "tier": admission.holder.tier}
    match admission.place:
        case AtWorker(server_id):
            return told | {"server": {"serverId": server_id}}
        case InSandbox(sandbox_id, server_id, admin_url):
            return told | {"server": {"serverId": server_id, "sandboxId": sandbox_id, "adminUrl": admin_url}}
        case None:
            return told
