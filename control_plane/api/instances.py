"""`/api/instances` and `/api/auth/keys`: whose clients read a feed, and by which keys."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from control_plane.api.bodies import DisplayName, OrganizationId, body_of, read_body
from control_plane.api.caller import Caller, OrganizationQuery, TiersOf, authenticate
from control_plane.api.parts import PAGE_DEFAULT, Cursor, IdPath, Limit, PartsOf, decode_cursor, page
from control_plane.feed import instances, keys
from control_plane.feed.tiers import Tier
from control_plane.refusals import ControlCode, Refused
from sallyport.plan.fields import Id, Model

router = APIRouter(prefix="/api", dependencies=[Depends(authenticate)])

type Document = dict[str, object]

InstanceQuery = Annotated[str, Query(alias="instanceId", pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$")]


class NewInstance(Model):
    """POST /api/instances."""

    organization_id: OrganizationId
    instance_id: Id | None = None
    display_name: DisplayName | None = None


class NewClientKey(Model):
    """POST /api/auth/keys."""

    instance_id: Id
    tier: Annotated[Tier, Field(strict=False)]
    display_name: DisplayName | None = None


@router.post("/instances", status_code=201, openapi_extra=body_of(NewInstance))
async def create_instance(request: Request, parts: PartsOf) -> Document:
    """Make an instance."""
    body = await read_body(request, NewInstance)
    return await instances.create(
        parts.database,
        body.organization_id,
        instance_id=body.instance_id,
        display_name=body.display_name,
        now=parts.now(),
    )


@router.get("/instances")
async def list_instances(
    parts: PartsOf, organization_id: OrganizationQuery, cursor: Cursor = None, limit: Limit = PAGE_DEFAULT
) -> Document:
    """List instances by id."""
    after = "" if cursor is None else decode_cursor(cursor)
    return page(await instances.page(parts.database, organization_id, after, limit + 1), "instanceId", limit)


@router.get("/instances/{instance_id}")
async def get_instance(instance_id: IdPath, parts: PartsOf) -> Document:
    """Return an instance."""
    return await instances.get(parts.database, instance_id)


@router.delete("/instances/{instance_id}", status_code=204, response_class=Response)
async def delete_instance(instance_id: IdPath, parts: PartsOf) -> None:
    """Delete an instance that has no shared tools and no installations, and its keys."""
    await instances.remove(parts.database, instance_id)


@router.post("/auth/keys", status_code=201, openapi_extra=body_of(NewClientKey))
async def create_client_key(
    request: Request, response: Response, caller: Caller, tiers: TiersOf, parts: PartsOf
) -> Document:
    """Make a client key, and show it this once. One of the tier admin is for an operator to make."""
    body = await read_body(request, NewClientKey)
    if body.tier not in tiers:
        raise Refused(ControlCode.FORBIDDEN, "a client key of the tier admin is for an operator to make")
    response.headers["Cache-Control"] = "no-store"
    return await keys.create(
        parts.database,
        body.instance_id,
        body.tier,
        display_name=body.display_name,
        created_by=caller.id,
        now=parts.now(),
    )


@router.get("/auth/keys")
async def list_client_keys(
    instance_id: InstanceQuery, tiers: TiersOf, parts: PartsOf, cursor: Cursor = None, limit: Limit = PAGE_DEFAULT
) -> Document:
    """List the keys of an instance by id, those that were revoked lately among them."""
    after = "" if cursor is None else decode_cursor(cursor)
    return page(await keys.page(parts.database, instance_id, tiers, after, limit + 1), "clientKeyId", limit)


@router.get("/auth/keys/{client_key_id}")
async def get_client_key(client_key_id: IdPath, tiers: TiersOf, parts: PartsOf) -> Document:
    """Return what is known of a key."""
    return await keys.get(parts.database, client_key_id, tiers)


@router.delete("/auth/keys/{client_key_id}", status_code=204, response_class=Response)
async def revoke_client_key(client_key_id: IdPath, tiers: TiersOf, parts: PartsOf) -> None:
    """End a key at once."""
    await keys.revoke(parts.database, client_key_id, tiers, parts.now())
