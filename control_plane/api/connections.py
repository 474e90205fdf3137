"""`/v1/integration/connections`: accounts and their credentials. No answer holds a stored value."""

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from control_plane.api.bodies import DisplayName, OrganizationId, body_of, read_body
from control_plane.api.caller import Caller, OrganizationQuery, authenticate
from control_plane.api.parts import (
    PAGE_DEFAULT,
    ConnectionPath,
    Cursor,
    IdPath,
    Limit,
    Parts,
    PartsOf,
    decode_cursor,
    page,
)
from control_plane.connections import Typed
from control_plane.definitions.contract import MethodKind
from control_plane.definitions.fields import SecretText, SecretTyped
from control_plane.refusals import ControlCode, FieldIssue, Refused
from sallyport.plan.fields import ConnectionId, Id, Model, Positive

router = APIRouter(prefix="/v1/integration/connections", dependencies=[Depends(authenticate)])

# A provider has two or three.
MAX_SECRETS: Final = 16
_MAX_RESOLUTION: Final = 2**53
MAX_SEARCH: Final = 200

type Document = dict[str, object]

Search = Annotated[str, Query(max_length=MAX_SEARCH, pattern=r"^[^\x00-\x1F\x7F]*$")]


type Secrets = Annotated[dict[Id, SecretTyped], Field(min_length=1, max_length=MAX_SECRETS)]


class NewConnection(Model):
    """POST /v1/integration/connections/{targetKey}/api-key and its kin: one secret, or several by their types."""

    organization_id: OrganizationId
    display_name: DisplayName | None = None
    connection_id: ConnectionId | None = None
    config: dict[str, object] | None = None
    secret_type: Id | None = None
    slot_key: Id | None = None
    value: SecretText | None = None
    secrets: Secrets | None = None


class RotatedSecrets(Model):
    """PUT /v1/integration/connections/{id}/api-key. Of one value, type and slot are needed where there are several."""

    secret_type: Id | None = None
    slot_key: Id | None = None
    value: SecretText | None = None
    secrets: Secrets | None = None


class ChangedConnection(Model):
    """PATCH /v1/integration/connections/{id}."""

    status: Literal["active", "error", "revoked"] | None = None
    display_name: DisplayName | None = None
    config: dict[str, object] | None = None
    revision: Positive | None = None


@router.post("/{target_key}/api-key", status_code=201, openapi_extra=body_of(NewConnection))
async def add_api_key(target_key: IdPath, request: Request, caller: Caller, parts: PartsOf) -> Document:
    """Make a connection that is authorised by an API key."""
    return await _add(target_key, MethodKind.API_KEY, request, caller, parts)


@router.post("/{target_key}/oauth2/client-credentials", status_code=201, openapi_extra=body_of(NewConnection))
async def add_client_credentials(target_key: IdPath, request: Request, caller: Caller, parts: PartsOf) -> Document:
    """Make a connection that is authorised by an OAuth client of its own."""
    return await _add(target_key, MethodKind.OAUTH2_CLIENT_CREDENTIALS, request, caller, parts)


@router.put("/{connection_id}/api-key", openapi_extra=body_of(RotatedSecrets))
async def rotate_secrets(connection_id: ConnectionPath, request: Request, parts: PartsOf) -> Document:
    """Replace an API key, or another secret that was typed in."""
    body = await read_body(request, RotatedSecrets)
    if body.value is None or body.secrets is not None:
        secrets = _typed(body)
    else:
        secret_type, slot_key = await parts.connections.only(connection_id, body.secret_type, body.slot_key)
        secrets = [Typed(secret_type, slot_key, body.value, "/value", "/secretType")]
    return await parts.connections.rotate(connection_id, secrets, parts.now())


@router.get("")
async def list_connections(
    parts: PartsOf,
    organization_id: OrganizationQuery,
    cursor: Cursor = None,
    limit: Limit = PAGE_DEFAULT,
    search: Search = "",
) -> Document:
    """List connections by id, all or those with a text in their id, name or target."""
    after = "" if cursor is None else decode_cursor(cursor)
    return page(await parts.connections.page(organization_id, after, limit + 1, search), "connectionId", limit)


@router.get("/{connection_id}")
async def get_connection(connection_id: ConnectionPath, parts: PartsOf) -> Document:
    """Return a connection."""
    return await parts.connections.get(connection_id)


@router.get("/{connection_id}/resolutions")
async def list_resolutions(
    connection_id: ConnectionPath, parts: PartsOf, cursor: Cursor = None, limit: Limit = PAGE_DEFAULT
) -> Document:
    """List who asked for its credentials, the newest first."""
    before = _MAX_RESOLUTION if cursor is None else _resolution(decode_cursor(cursor))
    return page(await parts.connections.resolutions(connection_id, before, limit + 1), "resolutionId", limit)


@router.patch("/{connection_id}", openapi_extra=body_of(ChangedConnection))
async def change_connection(connection_id: ConnectionPath, request: Request, parts: PartsOf) -> Document:
    """Rename a connection, configure it, or set its status."""
    body = await read_body(request, ChangedConnection)
    return await parts.connections.change(
        connection_id,
        status=body.status,
        display_name=body.display_name,
        config=body.config,
        revision=body.revision,
        now=parts.now(),
    )


@router.delete("/{connection_id}", status_code=204, response_class=Response)
async def delete_connection(connection_id: ConnectionPath, parts: PartsOf) -> None:
    """Delete a connection that no binding and no current plan uses."""
    await parts.connections.remove(connection_id, parts.now())


async def _add(target_key: str, method: MethodKind, request: Request, caller: Caller, parts: Parts) -> Document:
    body = await read_body(request, NewConnection)
    return await parts.connections.add(
        target_key,
        body.organization_id,
        method,
        _typed(body),
        config=body.config,
        connection_id=body.connection_id,
        display_name=body.display_name,
        for_operator=caller.is_operator,
        now=parts.now(),
    )


def _typed(body: NewConnection | RotatedSecrets) -> list[Typed]:
    """Return the secrets of a body in either form. Raises Refused."""
    if body.secrets is None:
        if body.value is not None and body.secret_type is not None:
            return [Typed(body.secret_type, body.slot_key or "", body.value, "/value", "/secretType")]
        given = {"/secretType": body.secret_type, "/value": body.value}
        missing = [pointer for pointer, value in given.items() if value is None]
        issues = [FieldIssue("missing_field", pointer, "this field is required") for pointer in missing]
    else:
        single = {"/secretType": body.secret_type, "/slotKey": body.slot_key, "/value": body.value}
        message = "either this or `secrets`"
        issues = [FieldIssue("unknown_field", name, message) for name, value in single.items() if value is not None]
        if not issues:
            pointers = {name: f"/secrets/{name}" for name in body.secrets}
            return [
                Typed(name, "", value, pointers[name], pointers[name])
                for name, value in sorted(body.secrets.items(), key=lambda item: item[0])
            ]
    raise Refused(ControlCode.INVALID_REQUEST, f"{len(issues)} issues; nothing changed", issues=issues)


def _resolution(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        issue = FieldIssue("malformed", "cursor", "give back the nextCursor of the page before, as it is")
        raise Refused(ControlCode.INVALID_REQUEST, "this is no cursor of ours", issues=[issue])
    return int(text)
