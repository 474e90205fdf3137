"""Which gateways live and what they hold: leases of 30 seconds, renewed by each of them (contracts section 5)."""

from collections.abc import Mapping, Sequence
from typing import Final

import orjson

from control_plane.refusals import ControlCode, Refused, sandbox_not_found
from control_plane.store import leases as rows
from control_plane.store import sandboxes
from control_plane.store.database import Database, Transaction
from control_plane.store.leases import Held
from control_plane.store.models import GatewayLease, GatewaySandbox

LEASE_SECONDS: Final = 30


async def renew_lease(
    database: Database,
    gateway_id: str,
    *,
    epoch: int,
    admin_url: str,
    held: Mapping[str, Held],
    plan_revisions: Mapping[str, int],
    now: float,
) -> dict[str, object]:
    """Take a gateway's report; tell it which of its tunnels another gateway has a newer one for. Raises Refused."""
    new = GatewayLease(
        gateway_id=gateway_id,
        epoch=epoch,
        admin_url=admin_url,
        plan_revisions=orjson.dumps(dict(plan_revisions)).decode(),
        expires_at=int(now) + LEASE_SECONDS,
    )
    async with database.write() as tx:
        known = await rows.lease(tx, gateway_id, lock=True)
        if known is not None and known.epoch > epoch and known.expires_at > now:
            raise Refused(ControlCode.LEASE_CONFLICT, "a newer process reports under this id; stop one of the two")
        await rows.put_lease(tx, new, held)
    # After the commit: of two gateways that report at the same moment, the later one to look sees both.
    async with database.read() as tx:
        superseded = await rows.superseded(tx, gateway_id, now)
    return {"expiresInSeconds": LEASE_SECONDS, "superseded": list(superseded)}


async def placement(database: Database, sandbox_id: str, now: float) -> dict[str, object]:
    """Return the live gateways that hold a sandbox. Of several tunnels only the newest counts. Raises Refused."""
    async with database.read() as tx:
        if await sandboxes.sandbox(tx, sandbox_id) is None:
            raise sandbox_not_found()
        found = await rows.placement(tx, sandbox_id, now)
    newest = _newest_tunnel(found)
    items = []
    for lease, held in found:
        item: dict[str, object] = {"id": lease.gateway_id, "adminUrl": lease.admin_url}
        item["tunnel"] = lease is newest
        items.append(item | ({"revision": held.revision} if held.revision is not None else {}))
    return {"gateways": items}


async def tunnel_of(tx: Transaction, sandbox_id: str, now: float) -> GatewayLease | None:
    """Return the live gateway that has the newest tunnel to a sandbox."""
    return _newest_tunnel(await rows.placement(tx, sandbox_id, now))


async def gateways(database: Database, now: float) -> dict[str, object]:
    """Return every live gateway."""
    async with database.read() as tx:
        found = await rows.live_leases(tx, now)
    return {"items": [_gateway(lease, held) for lease, held in found]}


def _newest_tunnel(found: Sequence[tuple[GatewayLease, GatewaySandbox]]) -> GatewayLease | None:
    tunnels = [(held.tunnel_epoch, held.gateway_id, lease) for lease, held in found if held.tunnel]
    return max(tunnels, key=lambda each: each[:2])[2] if tunnels else None


def _gateway(lease: GatewayLease, held: Sequence[GatewaySandbox]) -> dict[str, object]:
    return {
        "id": lease.gateway_id,
        "adminUrl": lease.admin_url,
        "epoch": lease.epoch,
        "expiresAt": lease.expires_at,
        "sandboxes": [_held(row) for row in held],
        "planRevisions": orjson.loads(lease.plan_revisions),
    }


def _held(row: GatewaySandbox) -> dict[str, object]:
    shown: dict[str, object] = {"sandboxId": row.sandbox_id, "tunnel": row.tunnel}
    return shown | ({"tunnelEpoch": row.tunnel_epoch} if row.tunnel else {})
