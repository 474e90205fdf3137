"""`/v1/integration/connections`: accounts and their credentials. No answer holds a stored value."""

from typing import Literal

from fastapi import APIRouter, Depends, Request, Response

from control_plane.api.bodies import DisplayName, OrganizationId, body_of, read_body
from control_plane.api.caller import OrganizationQuery, authenticate
from control_plane.api.parts import (
    PAGE_DEFAULT,
    ConnectionPath,
    Cursor,
    IdPath,
    Limit,
    PartsOf,
    decode_cursor,
    page,
)
from control_plane.definitions.fields import SecretText
from sallyport.plan.fields import ConnectionId, Id, Model

router = APIRouter(prefix="/v1/integration/connections", dependencies=[Depends(authenticate)])

type Document = dict[str, object]


class NewApiKey(Model):
    """POST /v1/integration/connections/{targetKey}/api-key."""

    organization_id: OrganizationId
    display_name: DisplayName | None = None
    secret_type: Id
    slot_key: Id | None = None
    value: SecretText
    connection_id: ConnectionId | None = None


class RotatedApiKey(Model):
    """PUT /v1/integration/connections/{id}/api-key. The type and slot are needed where there are several."""

    value: SecretText
    secret_type: Id | None = None
    slot_key: Id | None = None


class ChangedConnection(Model):
    """PATCH /v1/integration/connections/{id}."""

    status: Literal["active", "error", "revoked"] | None = None
    display_name: DisplayName | None = None


@router.post("/{target_key}/api-key", status_code=201, openapi_extra=body_of(NewApiKey))
async def add_api_key(target_key: IdPath, request: Request, parts: PartsOf) -> Document:
    """Make a connection that is authorised by an API key."""
    body = await read_body(request, NewApiKey)
    return await parts.connections.add_api_key(
        target_key,
        body.organization_id,
        value=body.value,
        secret_type=body.secret_type,
        slot_key=body.slot_key,
        connection_id=body.connection_id,
        display_name=body.display_name,
        now=parts.now(),
    )


@router.put("/{connection_id}/api-key", openapi_extra=body_of(RotatedApiKey))
async def rotate_api_key(connection_id: ConnectionPath, request: Request, parts: PartsOf) -> Document:
    """Replace an API key."""
    body = await read_body(request, RotatedApiKey)
    return await parts.connections.rotate_api_key(
        connection_id, value=body.value, secret_type=body.secret_type, slot_key=body.slot_key, now=parts.now()
    )


@router.get("")
async def list_connections(
    parts: PartsOf, organization_id: OrganizationQuery, cursor: Cursor = None, limit: Limit = PAGE_DEFAULT
) -> Document:
    """List connections by id."""
    after = "" if cursor is None else decode_cursor(cursor)
    return page(await parts.connections.page(organization_id, after, limit + 1), "connectionId", limit)


@router.get("/{connection_id}")
async def get_connection(connection_id: ConnectionPath, parts: PartsOf) -> Document:
    """Return a connection."""
    return await parts.connections.get(connection_id)


@router.patch("/{connection_id}", openapi_extra=body_of(ChangedConnection))
async def change_connection(connection_id: ConnectionPath, request: Request, parts: PartsOf) -> Document:
    """Rename a connection or set its status."""
    body = await read_body(request, ChangedConnection)
    return await parts.connections.change(
        connection_id, status=body.status, display_name=body.display_name, now=parts.now()
    )


@router.delete("/{connection_id}", status_code=204, response_class=Response)
async def delete_connection(connection_id: ConnectionPath, parts: PartsOf) -> None:
    """Delete a connection that no current plan uses."""
    await parts.connections.remove(connection_id, parts.now())
