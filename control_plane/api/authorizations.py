"""`/v1/integration/connections/{targetKey}/oauth2|redirect/start|complete`: the way to a provider and back, by API."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import Field, StringConstraints

from control_plane.api.bodies import DisplayName, OrganizationId, body_of, read_body
from control_plane.api.caller import Caller, authenticate
from control_plane.api.parts import IdPath, PartsOf
from control_plane.authorizations import Began, Wanted
from sallyport.plan.fields import ConnectionId, Model

router = APIRouter(prefix="/v1/integration/connections", dependencies=[Depends(authenticate)])

type Document = dict[str, object]
# What providers give along is short; what is longer is no code of theirs.
Given = Annotated[str, StringConstraints(min_length=1, max_length=4096)]


class Start(Model):
    """POST .../oauth2/start and .../redirect/start. With a connection's id that one is authorised again."""

    organization_id: OrganizationId
    display_name: DisplayName | None = None
    connection_id: ConnectionId | None = None
    config: dict[str, object] | None = None


class CompleteOAuth(Model):
    """POST .../oauth2/complete."""

    organization_id: OrganizationId
    state: Given
    code: Given


class CompleteRedirect(Model):
    """POST .../redirect/complete; `parameters` is the query of the way back."""

    organization_id: OrganizationId
    state: Given
    parameters: Annotated[dict[str, Given], Field(max_length=50)]


@router.post("/{target_key}/oauth2/start", openapi_extra=body_of(Start))
async def start_oauth(target_key: IdPath, request: Request, caller: Caller, parts: PartsOf) -> Document:
    """Return the URL at which a member authorises a connection."""
    body = await read_body(request, Start)
    return await parts.authorizations.start_oauth(_wanted(target_key, body, caller.id), parts.now())


@router.post("/{target_key}/oauth2/complete", openapi_extra=body_of(CompleteOAuth))
async def complete_oauth(target_key: IdPath, request: Request, parts: PartsOf) -> Document:
    """Make the connection of a code that a member came back with."""
    body = await read_body(request, CompleteOAuth)
    began = Began(target_key, body.organization_id)
    return await parts.authorizations.complete_oauth(body.state, body.code, parts.now(), began)


@router.post("/{target_key}/redirect/start", openapi_extra=body_of(Start))
async def start_redirect(target_key: IdPath, request: Request, caller: Caller, parts: PartsOf) -> Document:
    """Return the URL to which a member is sent."""
    body = await read_body(request, Start)
    return await parts.authorizations.start_redirect(_wanted(target_key, body, caller.id), parts.now())


@router.post("/{target_key}/redirect/complete", openapi_extra=body_of(CompleteRedirect))
async def complete_redirect(target_key: IdPath, request: Request, parts: PartsOf) -> Document:
    """Make the connection that a member came back for."""
    body = await read_body(request, CompleteRedirect)
    began = Began(target_key, body.organization_id)
    return await parts.authorizations.complete_redirect(body.state, body.parameters, parts.now(), began)


def _wanted(target_key: str, body: Start, caller: str) -> Wanted:
    return Wanted(
        target_key=target_key,
        organization_id=body.organization_id,
        config=body.config,
        display_name=body.display_name,
        connection_id=body.connection_id,
        caller=caller,
    )
