"""Queries on webhook endpoints, the events that came by them, and who may be meant."""

from collections.abc import Sequence

from sqlalchemy import and_, delete, func, or_, select

from control_plane.store.database import Transaction
from control_plane.store.models import (
    Binding,
    Connection,
    ProfileVersion,
    Sandbox,
    WebhookEndpoint,
    WebhookEvent,
    WebhookSubscription,
)


async def endpoint(tx: Transaction, key: str, *, lock: bool = False) -> WebhookEndpoint | None:
    """Return an endpoint."""
    return await tx.get(WebhookEndpoint, key, lock=lock)


async def list_endpoints(
    tx: Transaction, organization_id: str | None, after: str, limit: int
) -> Sequence[WebhookEndpoint]:
    """Return endpoints by key, after one; with an organization those of its connections only."""
    query = select(WebhookEndpoint).where(WebhookEndpoint.key > after).order_by(WebhookEndpoint.key).limit(limit)
    if organization_id is not None:
        query = query.join(Connection, Connection.id == WebhookEndpoint.connection_id)
        query = query.where(Connection.organization_id == organization_id)
    return await tx.all(query)


async def count_endpoints(tx: Transaction, target_key: str, connection_id: str | None) -> int:
    """Return how many endpoints a target has of its own, or one of its connections."""
    query = select(func.count()).select_from(WebhookEndpoint).where(WebhookEndpoint.target_key == target_key)
    return await tx.first(query.where(WebhookEndpoint.connection_id == connection_id)) or 0


async def candidates(tx: Transaction, target_key: str, after: str, limit: int) -> Sequence[Connection]:
    """Return connections of a target that an event may be for, by id, after one."""
    query = select(Connection).where(Connection.target_key == target_key, Connection.status != "revoked")
    return await tx.all(query.where(Connection.id > after).order_by(Connection.id).limit(limit))


async def event(tx: Transaction, event_id: str) -> WebhookEvent | None:
    """Return an event."""
    return await tx.get(WebhookEvent, event_id)


async def list_events(tx: Transaction, organization_id: str | None, before: str, limit: int) -> Sequence[WebhookEvent]:
    """Return events, the newest first, before one (an empty text: from the newest on)."""
    query = select(WebhookEvent).order_by(WebhookEvent.id.desc()).limit(limit)
    if before:
        query = query.where(WebhookEvent.id < before)
    if organization_id is not None:
        query = query.where(WebhookEvent.organization_id == organization_id)
    return await tx.all(query)


async def has_pending(tx: Transaction) -> bool:
    """Say whether an event waits for its deliveries to be made out."""
    return await tx.first(select(WebhookEvent.id).where(WebhookEvent.state == "pending")) is not None


async def take_pending(tx: Transaction, limit: int) -> Sequence[WebhookEvent]:
    """Return events that wait, the oldest first; no other replica gets them until the transaction ends."""
    query = select(WebhookEvent).where(WebhookEvent.state == "pending").order_by(WebhookEvent.id).limit(limit)
    return await tx.all(query.with_for_update(skip_locked=True))


async def subscribers(tx: Transaction, organization_id: str, connection_id: str) -> Sequence[WebhookSubscription]:
    """Return the enabled subscriptions of profiles whose current bindings use a connection.

    Current are those of a profile's newest version, and of the versions that its sandboxes run.
    """
    newest = select(func.max(ProfileVersion.version)).where(ProfileVersion.profile_id == Binding.profile_id)
    runs = select(Sandbox.id).where(
        Sandbox.profile_id == Binding.profile_id, Sandbox.version == Binding.version, Sandbox.deleted_at.is_(None)
    )
    bound = select(Binding.id).where(
        and_(Binding.profile_id == WebhookSubscription.profile_id, Binding.connection_id == connection_id),
        or_(Binding.version == newest.scalar_subquery(), runs.exists()),
    )
    query = select(WebhookSubscription).where(WebhookSubscription.enabled, bound.exists())
    query = query.where(WebhookSubscription.organization_id == organization_id)
    return await tx.all(query.order_by(WebhookSubscription.id))


async def forget_events(tx: Transaction, before: float, limit: int) -> int:
    """Delete events that were received before an instant and are processed, with their deliveries."""
    old = select(WebhookEvent.id).where(WebhookEvent.received_at < int(before), WebhookEvent.state == "processed")
    return await tx.run(delete(WebhookEvent).where(WebhookEvent.id.in_(old.limit(limit))))
