"""`/api/push-subscribers`: who is told when what an instance is served changes."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field, StringConstraints

from control_plane.api.bodies import body_of, read_body
from control_plane.api.caller import OrganizationQuery, TiersOf, authenticate
from control_plane.api.parts import PAGE_DEFAULT, Cursor, IdPath, Limit, PartsOf, decode_cursor, page
from control_plane.feed.tiers import Tier
from control_plane.refusals import ControlCode, Refused
from sallyport.plan.fields import Id, Listed, Model

router = APIRouter(prefix="/api/push-subscribers", dependencies=[Depends(authenticate)])

type Document = dict[str, object]

Url = Annotated[str, StringConstraints(min_length=1, max_length=2_048)]
Event = Literal[
    "installation_created",
    "installation_deleted",
    "installation_updated",
    "shared_tool_started",
    "shared_tool_stopped",
    "sandbox_started",
    "sandbox_stopped",
    "sandbox_destroyed",
]
InstanceQuery = Annotated[str | None, Query(alias="instanceId", pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$")]


class NewPushSubscriber(Model):
    """POST /api/push-subscribers. No events: all of them."""

    instance_id: Id
    url: Url
    tier: Annotated[Tier, Field(strict=False)] = Tier.STANDARD
    events: Listed[Event] = ()


class ChangedPushSubscriber(Model):
    """PATCH /api/push-subscribers/{id}."""

    url: Url | None = None
    events: Listed[Event] | None = None
    enabled: bool | None = None
    rotate_secret: bool = False


@router.post("", status_code=201, openapi_extra=body_of(NewPushSubscriber))
async def create_push_subscriber(request: Request, response: Response, tiers: TiersOf, parts: PartsOf) -> Document:
    """Make a subscriber of an instance; the answer alone holds its secret. One of the tier admin is for operators."""
    body = await read_body(request, NewPushSubscriber)
    if body.tier not in tiers:
        raise Refused(ControlCode.FORBIDDEN, "a subscriber of the tier admin is for an operator to make")
    response.headers["Cache-Control"] = "no-store"
    return await parts.push_subscribers.create(body.instance_id, body.url, body.tier, body.events, parts.now())


@router.get("")
async def list_push_subscribers(
    parts: PartsOf,
    tiers: TiersOf,
    organization_id: OrganizationQuery,
    instance_id: InstanceQuery = None,
    cursor: Cursor = None,
    limit: Limit = PAGE_DEFAULT,
) -> Document:
    """List subscribers by id."""
    after = "" if cursor is None else decode_cursor(cursor)
    found = await parts.push_subscribers.page(organization_id, instance_id, tiers, after, limit + 1)
    return page(found, "pushSubscriberId", limit)


@router.get("/{push_subscriber_id}")
async def get_push_subscriber(push_subscriber_id: IdPath, tiers: TiersOf, parts: PartsOf) -> Document:
    """Return a subscriber, and how it answered last."""
    return await parts.push_subscribers.get(push_subscriber_id, tiers)


@router.patch("/{push_subscriber_id}", openapi_extra=body_of(ChangedPushSubscriber))
async def change_push_subscriber(
    push_subscriber_id: IdPath, request: Request, tiers: TiersOf, parts: PartsOf
) -> Document:
    """Change a subscriber or its secret; one that failed is told again at once."""
    body = await read_body(request, ChangedPushSubscriber)
    return await parts.push_subscribers.change(
        push_subscriber_id,
        tiers,
        url=body.url,
        events=body.events,
        enabled=body.enabled,
        rotate_secret=body.rotate_secret,
        now=parts.now(),
    )


@router.delete("/{push_subscriber_id}", status_code=204, response_class=Response)
async def delete_push_subscriber(push_subscriber_id: IdPath, tiers: TiersOf, parts: PartsOf) -> None:
    """Delete a subscriber."""
    await parts.push_subscribers.remove(push_subscriber_id, tiers)
