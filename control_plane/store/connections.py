"""Queries on connections, their credentials, what plans use of them, and the record of resolutions."""

from collections.abc import Sequence

from sqlalchemy import delete, select

from control_plane.store.database import Transaction
from control_plane.store.models import Connection, Credential, PlanReference, Resolution


async def connection(tx: Transaction, connection_id: str, *, lock: bool = False) -> Connection | None:
    """Return a connection."""
    return await tx.get(Connection, connection_id, lock=lock)


async def list_connections(
    tx: Transaction, organization_id: str | None, after: str, limit: int
) -> Sequence[Connection]:
    """Return connections by id, after one."""
    query = select(Connection).where(Connection.id > after).order_by(Connection.id).limit(limit)
    if organization_id is not None:
        query = query.where(Connection.organization_id == organization_id)
    return await tx.all(query)


async def credentials(tx: Transaction, connection_ids: Sequence[str]) -> Sequence[Credential]:
    """Return the credentials of connections, in a fixed order."""
    query = select(Credential).where(Credential.connection_id.in_(connection_ids))
    return await tx.all(query.order_by(Credential.connection_id, Credential.secret_type, Credential.slot_key))


async def forget_credentials(tx: Transaction, connection_id: str) -> None:
    """Delete every credential of a connection."""
    await tx.run(delete(Credential).where(Credential.connection_id == connection_id))


async def users(tx: Transaction, connection_id: str, limit: int) -> Sequence[str]:
    """Return sandboxes whose current plan uses a connection."""
    query = select(PlanReference.sandbox_id).where(PlanReference.connection_id == connection_id).distinct()
    return await tx.all(query.order_by(PlanReference.sandbox_id).limit(limit))


async def is_in_plan(tx: Transaction, reference: PlanReference) -> bool:
    """Say whether the current plan of a sandbox holds this very use of a credential."""
    names = (
        *("sandbox_id", "egress_rule_id", "binding_id"),
        *("connection_id", "secret_type", "slot_key", "resolver_key"),
    )
    same = [getattr(PlanReference, name) == getattr(reference, name) for name in names]
    return await tx.first(select(PlanReference.position).where(*same)) is not None


async def forget_resolutions(tx: Transaction, before: float) -> int:
    """Delete the record of resolutions before an instant."""
    return await tx.run(delete(Resolution).where(Resolution.at < int(before)))
