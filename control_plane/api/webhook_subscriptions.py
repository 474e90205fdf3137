"""`/v1/sandbox/profiles/{id}/webhook-subscriptions`: who is told of events, and what became of that."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import Field, StringConstraints

from control_plane.api.bodies import body_of, read_body
from control_plane.api.caller import authenticate
from control_plane.api.parts import PAGE_DEFAULT, Cursor, IdPath, Limit, PartsOf, decode_cursor, page
from sallyport.plan.fields import Listed, Model

router = APIRouter(
    prefix="/v1/sandbox/profiles/{profile_id}/webhook-subscriptions", dependencies=[Depends(authenticate)]
)

type Document = dict[str, object]
SubscriptionPath = Annotated[str, Path(pattern=r"^whs_[0-9a-f]{32}$")]
EventPath = Annotated[str, Path(pattern=r"^evt_[0-9a-f]{32}$")]
SubscriberUrl = Annotated[str, StringConstraints(min_length=1, max_length=2048)]
EventTypes = Annotated[
    Listed[Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1F\x7F]{1,255}$")]], Field(max_length=100)
]


class NewSubscription(Model):
    """POST .../webhook-subscriptions. Without types it is told of all."""

    url: SubscriberUrl
    event_types: EventTypes | None = None


class ChangedSubscription(Model):
    """PATCH .../webhook-subscriptions/{id}."""

    url: SubscriberUrl | None = None
    event_types: EventTypes | None = None
    enabled: bool | None = None
    rotate_secret: bool | None = None


@router.post("", status_code=201, openapi_extra=body_of(NewSubscription))
async def create_subscription(profile_id: IdPath, request: Request, parts: PartsOf) -> Document:
    """Make a subscription; its secret is shown this once."""
    body = await read_body(request, NewSubscription)
    return await parts.webhook_subscriptions.create(profile_id, body.url, body.event_types or (), parts.now())


@router.get("")
async def list_subscriptions(
    profile_id: IdPath, parts: PartsOf, cursor: Cursor = None, limit: Limit = PAGE_DEFAULT
) -> Document:
    """List subscriptions by id."""
    after = "" if cursor is None else decode_cursor(cursor)
    return page(await parts.webhook_subscriptions.page(profile_id, after, limit + 1), "subscriptionId", limit)


@router.get("/{subscription_id}")
async def get_subscription(profile_id: IdPath, subscription_id: SubscriptionPath, parts: PartsOf) -> Document:
    """Return a subscription."""
    return await parts.webhook_subscriptions.get(profile_id, subscription_id)


@router.patch("/{subscription_id}", openapi_extra=body_of(ChangedSubscription))
async def change_subscription(
    profile_id: IdPath, subscription_id: SubscriptionPath, request: Request, parts: PartsOf
) -> Document:
    """Change a subscription, or give it another secret, which is shown this once."""
    body = await read_body(request, ChangedSubscription)
    changed = await parts.webhook_subscriptions.change(
        profile_id,
        subscription_id,
        url=body.url,
        event_types=body.event_types,
        enabled=body.enabled,
        rotate_secret=bool(body.rotate_secret),
        now=parts.now(),
    )
    parts.outbox.wake()
    return changed


@router.delete("/{subscription_id}", status_code=204, response_class=Response)
async def delete_subscription(profile_id: IdPath, subscription_id: SubscriptionPath, parts: PartsOf) -> None:
    """Delete a subscription."""
    await parts.webhook_subscriptions.remove(profile_id, subscription_id)


@router.get("/{subscription_id}/deliveries")
async def list_deliveries(
    profile_id: IdPath,
    subscription_id: SubscriptionPath,
    parts: PartsOf,
    cursor: Cursor = None,
    limit: Limit = PAGE_DEFAULT,
) -> Document:
    """List what became of events, the newest first."""
    before = "" if cursor is None else decode_cursor(cursor)
    found = await parts.webhook_subscriptions.deliveries(profile_id, subscription_id, before, limit + 1)
    return page(found, "eventId", limit)


@router.post("/{subscription_id}/deliveries/{event_id}/redeliver", status_code=202)
async def redeliver(
    profile_id: IdPath, subscription_id: SubscriptionPath, event_id: EventPath, parts: PartsOf
) -> Document:
    """Tell a subscriber of an event again."""
    found = await parts.webhook_subscriptions.redeliver(profile_id, subscription_id, event_id, parts.now())
    parts.outbox.wake()
    return found
