"""`/v1/api-keys`: who may ask this API. A key is in one answer, that to its making, and in no other."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from control_plane import api_keys
from control_plane.api.bodies import DisplayName, OrganizationId, body_of, read_body
from control_plane.api.caller import Caller, OrganizationQuery, authenticate
from control_plane.api.parts import PAGE_DEFAULT, Cursor, IdPath, Limit, PartsOf, decode_cursor, page
from control_plane.callers import Role
from sallyport.plan.fields import Model

router = APIRouter(prefix="/v1/api-keys", dependencies=[Depends(authenticate)])

MAX_SECONDS: Final = 10 * 365 * 86_400

type Document = dict[str, object]


class NewApiKey(Model):
    """POST /v1/api-keys. Without expiresInSeconds it ends by DELETE alone."""

    role: Annotated[Role, Field(strict=False)]
    organization_id: OrganizationId | None = None
    display_name: DisplayName | None = None
    expires_in_seconds: Annotated[int, Field(ge=1, le=MAX_SECONDS)] | None = None


@router.post("", status_code=201, openapi_extra=body_of(NewApiKey))
async def create_api_key(request: Request, response: Response, caller: Caller, parts: PartsOf) -> Document:
    """Make a key, and show it this once."""
    body = await read_body(request, NewApiKey)
    response.headers["Cache-Control"] = "no-store"
    return await api_keys.create(
        parts.database,
        body.role,
        body.organization_id,
        display_name=body.display_name,
        ttl_seconds=body.expires_in_seconds,
        created_by=caller.id,
        now=parts.now(),
    )


@router.get("")
async def list_api_keys(
    parts: PartsOf, organization_id: OrganizationQuery, cursor: Cursor = None, limit: Limit = PAGE_DEFAULT
) -> Document:
    """List keys by id, those that ended lately among them."""
    after = "" if cursor is None else decode_cursor(cursor)
    return page(await api_keys.page(parts.database, organization_id, after, limit + 1), "apiKeyId", limit)


@router.get("/{key_id}")
async def get_api_key(key_id: IdPath, parts: PartsOf) -> Document:
    """Return what is known of a key."""
    return await api_keys.get(parts.database, key_id)


@router.delete("/{key_id}", status_code=204, response_class=Response)
async def revoke_api_key(key_id: IdPath, parts: PartsOf) -> None:
    """End a key at once."""
    await api_keys.revoke(parts.database, key_id, parts.now())
