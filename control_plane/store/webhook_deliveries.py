"""Queries on webhook subscriptions, and on events on their way to them."""

from collections.abc import Sequence

from sqlalchemy import func, select, update

from control_plane.store.database import Transaction
from control_plane.store.models import WebhookDelivery, WebhookSubscription

PENDING = "pending"
DELIVERED = "delivered"
FAILED = "failed"


async def subscription(tx: Transaction, subscription_id: str, *, lock: bool = False) -> WebhookSubscription | None:
    """Return a subscription."""
    return await tx.get(WebhookSubscription, subscription_id, lock=lock)


async def list_subscriptions(tx: Transaction, profile_id: str, after: str, limit: int) -> Sequence[WebhookSubscription]:
    """Return the subscriptions of a profile by id, after one."""
    query = select(WebhookSubscription).where(WebhookSubscription.profile_id == profile_id)
    query = query.where(WebhookSubscription.id > after)
    return await tx.all(query.order_by(WebhookSubscription.id).limit(limit))


async def count_subscriptions(tx: Transaction, profile_id: str) -> int:
    """Return how many subscriptions a profile has."""
    query = select(func.count()).select_from(WebhookSubscription)
    return await tx.first(query.where(WebhookSubscription.profile_id == profile_id)) or 0


async def delivery(
    tx: Transaction, event_id: str, subscription_id: str, *, lock: bool = False
) -> WebhookDelivery | None:
    """Return a delivery."""
    return await tx.get(WebhookDelivery, (event_id, subscription_id), lock=lock)


async def list_deliveries(tx: Transaction, subscription_id: str, before: str, limit: int) -> Sequence[WebhookDelivery]:
    """Return the deliveries to a subscription by event, the newest first, before one (an empty text: all)."""
    query = select(WebhookDelivery).where(WebhookDelivery.subscription_id == subscription_id)
    if before:
        query = query.where(WebhookDelivery.event_id < before)
    return await tx.all(query.order_by(WebhookDelivery.event_id.desc()).limit(limit))


async def make_out(tx: Transaction, event_id: str, subscription_id: str, now: float, give_up_at: float) -> None:
    """Write down that a subscription is to be told of an event, unless that is written already."""
    await tx.add_unless_there(
        WebhookDelivery,
        event_id=event_id,
        subscription_id=subscription_id,
        state=PENDING,
        attempts=0,
        not_before=int(now),
        give_up_at=int(give_up_at),
        owner="",
        updated_at=int(now),
    )


async def due(tx: Transaction, now: float, limit: int) -> Sequence[tuple[str, str, int]]:
    """Return (organization, subscription, how many) of enabled subscriptions with due deliveries, the longest first."""
    query = (
        select(WebhookSubscription.organization_id, WebhookSubscription.id, func.count())
        .join(WebhookDelivery, WebhookDelivery.subscription_id == WebhookSubscription.id)
        .where(WebhookDelivery.state == PENDING, WebhookDelivery.not_before <= int(now), WebhookSubscription.enabled)
        .group_by(WebhookSubscription.organization_id, WebhookSubscription.id)
        .order_by(func.min(WebhookDelivery.not_before), WebhookSubscription.id)
    )
    return [(row[0], row[1], row[2]) for row in await tx.rows(query.limit(limit))]


async def count_pending(tx: Transaction) -> int:
    """Return how many deliveries are still to be made, those of disabled subscriptions among them."""
    query = select(func.count()).select_from(WebhookDelivery)
    return await tx.first(query.where(WebhookDelivery.state == PENDING)) or 0


async def claim(
    tx: Transaction, subscription_id: str, owner: str, now: float, until: float, limit: int
) -> Sequence[WebhookDelivery]:
    """Take due deliveries to a subscription for one owner until an instant; each counts as an attempt from now on."""
    query = select(WebhookDelivery).where(
        WebhookDelivery.state == PENDING,
        WebhookDelivery.not_before <= int(now),
        WebhookDelivery.subscription_id == subscription_id,
    )
    query = query.order_by(WebhookDelivery.event_id).limit(limit).with_for_update(skip_locked=True)
    taken = await tx.all(query)
    for each in taken:
        each.owner, each.not_before, each.updated_at = owner, int(until), int(now)
        each.attempts += 1
    return taken


async def give_up(tx: Transaction, now: float) -> int:
    """Let deliveries fail whose time is over while their subscription is disabled: nobody attempts them."""
    disabled = select(WebhookSubscription.id).where(WebhookSubscription.enabled.is_(False))
    over = (WebhookDelivery.give_up_at <= int(now), WebhookDelivery.not_before <= int(now))
    statement = update(WebhookDelivery).where(WebhookDelivery.state == PENDING, *over)
    values = {"state": FAILED, "owner": "", "updated_at": int(now)}
    return await tx.run(statement.where(WebhookDelivery.subscription_id.in_(disabled)).values(**values))
