"""Queries on the leases of gateways and the sandboxes they hold."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import and_, delete, or_, select, update
from sqlalchemy.orm import aliased

from control_plane.store.database import Transaction
from control_plane.store.models import GatewayLease, GatewaySandbox

# PostgreSQL takes 65,535 parameters in one statement, SQLite 32,766.
_BATCH = 500


class Held(NamedTuple):
    """How a gateway holds a sandbox."""

    tunnel: bool
    tunnel_epoch: int
    revision: int | None


async def lease(tx: Transaction, gateway_id: str, *, lock: bool = False) -> GatewayLease | None:
    """Return a gateway's lease, whether or not it has run out."""
    return await tx.get(GatewayLease, gateway_id, lock=lock)


async def put_lease(tx: Transaction, new: GatewayLease, held: Mapping[str, Held]) -> None:
    """Replace a gateway's lease and what it holds; writes only what differs."""
    known = await tx.get(GatewayLease, new.gateway_id, lock=True)
    if known is None:
        await tx.add(new)
    else:
        values = {name: getattr(new, name) for name in ("epoch", "admin_url", "plan_revisions", "expires_at")}
        await tx.run(update(GatewayLease).where(GatewayLease.gateway_id == new.gateway_id).values(**values))
    before = {row.sandbox_id: row for row in await sandboxes_of(tx, new.gateway_id)}
    await _forget(tx, new.gateway_id, [sandbox_id for sandbox_id in before if sandbox_id not in held])
    added = []
    for sandbox_id, how in held.items():
        row = before.get(sandbox_id)
        if row is None:
            added.append(GatewaySandbox(gateway_id=new.gateway_id, sandbox_id=sandbox_id, **how._asdict()))
        elif (row.tunnel, row.tunnel_epoch, row.revision) != tuple(how):
            row.tunnel, row.tunnel_epoch, row.revision = how
    await tx.add_all(added)


async def sandboxes_of(tx: Transaction, gateway_id: str) -> Sequence[GatewaySandbox]:
    """Return what a gateway holds."""
    query = select(GatewaySandbox).where(GatewaySandbox.gateway_id == gateway_id)
    return await tx.all(query.order_by(GatewaySandbox.sandbox_id))


async def superseded(tx: Transaction, gateway_id: str, now: float) -> Sequence[str]:
    """Return the sandboxes whose newer tunnel a live lease of another gateway holds.

    Equal epochs are told apart by the gateways' ids, so that exactly one of the two is the older.
    """
    mine, other = aliased(GatewaySandbox), aliased(GatewaySandbox)
    newer = or_(
        other.tunnel_epoch > mine.tunnel_epoch,
        and_(other.tunnel_epoch == mine.tunnel_epoch, other.gateway_id > mine.gateway_id),
    )
    query = (
        select(mine.sandbox_id)
        .join(other, and_(other.sandbox_id == mine.sandbox_id, other.gateway_id != mine.gateway_id))
        .join(GatewayLease, GatewayLease.gateway_id == other.gateway_id)
        .where(mine.gateway_id == gateway_id, mine.tunnel, other.tunnel, newer, GatewayLease.expires_at > int(now))
    )
    return await tx.all(query.distinct().order_by(mine.sandbox_id))


async def placement(tx: Transaction, sandbox_id: str, now: float) -> Sequence[tuple[GatewayLease, GatewaySandbox]]:
    """Return the live leases that hold a sandbox, and how."""
    query = (
        select(GatewayLease, GatewaySandbox)
        .join(GatewaySandbox, GatewaySandbox.gateway_id == GatewayLease.gateway_id)
        .where(GatewaySandbox.sandbox_id == sandbox_id, GatewayLease.expires_at > int(now))
    )
    return [(row[0], row[1]) for row in await tx.rows(query.order_by(GatewayLease.gateway_id))]


async def live(tx: Transaction, now: float) -> Sequence[GatewayLease]:
    """Return every live lease."""
    query = select(GatewayLease).where(GatewayLease.expires_at > int(now))
    return await tx.all(query.order_by(GatewayLease.gateway_id))


async def live_leases(tx: Transaction, now: float) -> Sequence[tuple[GatewayLease, Sequence[GatewaySandbox]]]:
    """Return every live lease with what it holds."""
    return [(lease, await sandboxes_of(tx, lease.gateway_id)) for lease in await live(tx, now)]


async def forget_leases(tx: Transaction, before: float) -> int:
    """Delete leases that ran out before an instant, with what they held."""
    gone = await tx.all(select(GatewayLease.gateway_id).where(GatewayLease.expires_at < int(before)))
    for gateway_id in gone:
        await tx.run(delete(GatewaySandbox).where(GatewaySandbox.gateway_id == gateway_id))
    return await tx.run(delete(GatewayLease).where(GatewayLease.gateway_id.in_(gone))) if gone else 0


async def _forget(tx: Transaction, gateway_id: str, sandbox_ids: Sequence[str]) -> None:
    for start in range(0, len(sandbox_ids), _BATCH):
        batch = sandbox_ids[start : start + _BATCH]
        same = (GatewaySandbox.gateway_id == gateway_id, GatewaySandbox.sandbox_id.in_(batch))
        await tx.run(delete(GatewaySandbox).where(*same))
