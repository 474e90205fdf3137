"""`/v1/integration/webhook-endpoints` and `-events`: the URLs for providers, and what came by them."""

from fastapi import APIRouter, Depends, Request, Response

from control_plane.api.bodies import body_of, read_body
from control_plane.api.caller import Caller, OrganizationQuery, authenticate
from control_plane.api.parts import PAGE_DEFAULT, Cursor, Limit, PartsOf, decode_cursor, page
from control_plane.api.webhooks import EndpointPath
from control_plane.webhooks.events import events_page
from sallyport.plan.fields import ConnectionId, Id, Model

router = APIRouter(prefix="/v1/integration", dependencies=[Depends(authenticate)])

type Document = dict[str, object]


class NewEndpoint(Model):
    """POST /v1/integration/webhook-endpoints."""

    target_key: Id
    connection_id: ConnectionId | None = None


@router.post("/webhook-endpoints", status_code=201, openapi_extra=body_of(NewEndpoint))
async def create_endpoint(request: Request, caller: Caller, parts: PartsOf) -> Document:
    """Make a URL for a provider to send events to."""
    body = await read_body(request, NewEndpoint)
    return await parts.webhook_endpoints.create(
        body.target_key, body.connection_id, caller.organization_id, parts.now()
    )


@router.get("/webhook-endpoints")
async def list_endpoints(
    parts: PartsOf, organization_id: OrganizationQuery, cursor: Cursor = None, limit: Limit = PAGE_DEFAULT
) -> Document:
    """List endpoints by key."""
    after = "" if cursor is None else decode_cursor(cursor)
    return page(await parts.webhook_endpoints.page(organization_id, after, limit + 1), "endpointKey", limit)


@router.get("/webhook-endpoints/{endpoint_key}")
async def get_endpoint(endpoint_key: EndpointPath, caller: Caller, parts: PartsOf) -> Document:
    """Return an endpoint."""
    return await parts.webhook_endpoints.get(endpoint_key, caller.organization_id)


@router.delete("/webhook-endpoints/{endpoint_key}", status_code=204, response_class=Response)
async def delete_endpoint(endpoint_key: EndpointPath, caller: Caller, parts: PartsOf) -> None:
    """Delete an endpoint."""
    await parts.webhook_endpoints.remove(endpoint_key, caller.organization_id)


@router.get("/webhook-events")
async def list_events(
    parts: PartsOf, organization_id: OrganizationQuery, cursor: Cursor = None, limit: Limit = PAGE_DEFAULT
) -> Document:
    """List events, the newest first, without what their providers wrote."""
    before = "" if cursor is None else decode_cursor(cursor)
    return page(await events_page(parts.database, organization_id, before, limit + 1), "eventId", limit)
