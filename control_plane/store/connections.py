"""Queries on connections, their credentials, what plans use of them, and the record of resolutions."""

from collections.abc import Sequence

from sqlalchemy import delete, or_, select

from control_plane.store.database import Transaction
from control_plane.store.models import Binding, Connection, Credential, PlanReference, Resolution


async def connection(tx: Transaction, connection_id: str, *, lock: bool = False) -> Connection | None:
    """Return a connection."""
    return await tx.get(Connection, connection_id, lock=lock)


async def list_connections(
    tx: Transaction, organization_id: str | None, after: str, limit: int, search: str = ""
) -> Sequence[Connection]:
    """Return connections by id, after one; with a text in their id, name or target, in whatever case."""
    query = select(Connection).where(Connection.id > after).order_by(Connection.id).limit(limit)
    if search:
        columns = (Connection.id, Connection.display_name, Connection.target_key)
        query = query.where(or_(*(column.icontains(search, autoescape=True) for column in columns)))
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


async def forget_made(tx: Transaction, connection_id: str) -> None:
    """Delete what was made from a connection's secrets and configuration, and can be made again."""
    same = (Credential.connection_id == connection_id, Credential.slot_key.startswith("_", autoescape=True))
    await tx.run(delete(Credential).where(*same))


async def forget_made_before(tx: Transaction, before: float) -> int:
    """Delete what was made and ended before an instant."""
    same = (Credential.expires_at < int(before), Credential.slot_key.startswith("_", autoescape=True))
    return await tx.run(delete(Credential).where(*same))


async def ending(tx: Transaction, before: float, slot_prefix: str, limit: int) -> Sequence[Credential]:
    """Return credentials of active connections in use that end before an instant, the first first.

    Those without a slot, and those whose slot begins so.
    """
    used = select(PlanReference.position).where(PlanReference.connection_id == Credential.connection_id)
    query = (
        select(Credential)
        .join(Connection, Connection.id == Credential.connection_id)
        .where(Connection.status == "active", Credential.expires_at < int(before), used.exists())
        .where(or_(Credential.slot_key == "", Credential.slot_key.startswith(slot_prefix, autoescape=True)))
    )
    return await tx.all(query.order_by(Credential.expires_at).limit(limit))


async def of_target(tx: Transaction, target_key: str, not_of: str) -> Sequence[Connection]:
    """Return the connections of a target that are not of one organization."""
    query = select(Connection).where(Connection.target_key == target_key, Connection.organization_id != not_of)
    return await tx.all(query.order_by(Connection.id))


async def binding(tx: Transaction, binding_id: str) -> Binding | None:
    """Return a binding."""
    return await tx.get(Binding, binding_id)


async def bound_to(tx: Transaction, connection_id: str, limit: int) -> Sequence[tuple[str, int]]:
    """Return profiles and versions that a connection is bound to."""
    query = select(Binding.profile_id, Binding.version).where(Binding.connection_id == connection_id).distinct()
    rows = await tx.rows(query.order_by(Binding.profile_id, Binding.version).limit(limit))
    return [(row[0], row[1]) for row in rows]


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


async def list_resolutions(tx: Transaction, connection_id: str, before: int, limit: int) -> Sequence[Resolution]:
    """Return the requests for credentials of a connection, the newest first, below an id."""
    query = select(Resolution).where(Resolution.connection_id == connection_id, Resolution.id < before)
    return await tx.all(query.order_by(Resolution.id.desc()).limit(limit))


async def forget_resolutions(tx: Transaction, before: float) -> int:
    """Delete the record of resolutions before an instant."""
    return await tx.run(delete(Resolution).where(Resolution.at < int(before)))
