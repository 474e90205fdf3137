"""`/v1`: sandboxes, their profiles, plans and tokens, as operators and the command use them."""

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from control_plane import revocations, sandboxes
from control_plane.api.bodies import DisplayName, OrganizationId, body_of, read_body, read_bytes, read_document
from control_plane.api.caller import OrganizationQuery, authenticate
from control_plane.api.parts import (
    PAGE_DEFAULT,
    Cursor,
    IdPath,
    Limit,
    NumberPath,
    PartsOf,
    SandboxPath,
    decode_cursor,
    page,
)
from control_plane.minting import PROXY_SECONDS, TUNNEL_SECONDS
from control_plane.refusals import ControlCode, FieldIssue, Refused
from control_plane.signing import MAX_TTL_SECONDS
from control_plane.store import sandboxes as rows
from sallyport.plan.codec import MAX_PLAN_BYTES
from sallyport.plan.fields import Id, Model, Positive, SandboxId
from sallyport.plan.model import Egress
from sallyport.plan.workload import Image

router = APIRouter(prefix="/v1", dependencies=[Depends(authenticate)])

_JSON: Final = "application/json"
_MAX_REVISION: Final = 2**53

# docs/runtime-plan.md tells what a plan is.
_PLAN_BODY: Final = {"requestBody": {"required": True, "content": {_JSON: {"schema": {"type": "object"}}}}}

type Document = dict[str, object]

InForce = Annotated[bool, Query(alias="inForce")]


class NewProfile(Model):
    """POST /v1/sandbox/profiles."""

    organization_id: OrganizationId
    display_name: DisplayName | None = None


class NewVersion(Model):
    """POST /v1/sandbox/profiles/{id}/versions."""

    image: Image | None = None
    egress: Egress | None = None


class NewSandbox(Model):
    """POST /v1/sandboxes."""

    organization_id: OrganizationId
    sandbox_id: SandboxId | None = None
    sandbox_profile_id: Id | None = None
    version: Positive | None = None


class NewToken(Model):
    """POST /v1/sandboxes/{id}/tokens."""

    kind: Literal["proxy", "tunnel"]
    ttl_seconds: Annotated[int, Field(ge=1, le=MAX_TTL_SECONDS)] | None = None


class NewRevocation(Model):
    """POST /v1/revocations."""

    kind: Literal["jti", "sid", "sandbox", "connection", "binding"]
    id: Id
    until: Positive
    organization_id: OrganizationId | None = None


@router.post("/sandbox/profiles", status_code=201, openapi_extra=body_of(NewProfile))
async def create_profile(request: Request, parts: PartsOf) -> Document:
    """Make a sandbox profile."""
    body = await read_body(request, NewProfile)
    return await sandboxes.create_profile(parts.database, body.organization_id, body.display_name, parts.now())


@router.get("/sandbox/profiles")
async def list_profiles(
    parts: PartsOf, organization_id: OrganizationQuery, cursor: Cursor = None, limit: Limit = PAGE_DEFAULT
) -> Document:
    """List sandbox profiles by id."""
    after = "" if cursor is None else decode_cursor(cursor)
    async with parts.database.read() as tx:
        found = await rows.list_profiles(tx, organization_id, after, limit + 1)
        latest = await rows.latest_versions(tx, [each.id for each in found])
    shown = [sandboxes.profile_document(each, latest.get(each.id, 0)) for each in found]
    return page(shown, "sandboxProfileId", limit)


@router.get("/sandbox/profiles/{profile_id}")
async def get_profile(profile_id: IdPath, parts: PartsOf) -> Document:
    """Return a sandbox profile."""
    async with parts.database.read() as tx:
        profile = await rows.profile(tx, profile_id)
        if profile is None:
            raise sandboxes.profile_not_found()
        return sandboxes.profile_document(profile, await rows.latest_version(tx, profile_id))


@router.post("/sandbox/profiles/{profile_id}/versions", status_code=201, openapi_extra=body_of(NewVersion))
async def create_version(profile_id: IdPath, request: Request, parts: PartsOf) -> Document:
    """Add a version to a profile."""
    _, document = await read_document(request, NewVersion, MAX_PLAN_BYTES)
    image, egress = document.get("image"), document.get("egress")
    return await sandboxes.create_version(parts.database, profile_id, image, egress, parts.now())


@router.get("/sandbox/profiles/{profile_id}/versions/{version}")
async def get_version(profile_id: IdPath, version: NumberPath, parts: PartsOf) -> Document:
    """Return one version of a profile."""
    async with parts.database.read() as tx:
        found = await rows.profile_version(tx, profile_id, version)
    if found is None:
        raise sandboxes.profile_not_found()
    return sandboxes.version_document(found)


@router.post("/sandboxes", status_code=201, openapi_extra=body_of(NewSandbox))
async def create_sandbox(request: Request, parts: PartsOf) -> Document:
    """Make a sandbox."""
    body = await read_body(request, NewSandbox)
    if body.version is not None and body.sandbox_profile_id is None:
        issue = FieldIssue("missing_field", "/sandboxProfileId", "a version is one of a profile")
        raise Refused(ControlCode.INVALID_REQUEST, "1 issues; nothing changed", issues=[issue])
    return await parts.compilation.create_sandbox(
        body.organization_id,
        sandbox_id=body.sandbox_id,
        profile_id=body.sandbox_profile_id,
        version=body.version,
        now=parts.now(),
    )


@router.get("/sandboxes")
async def list_sandboxes(
    parts: PartsOf, organization_id: OrganizationQuery, cursor: Cursor = None, limit: Limit = PAGE_DEFAULT
) -> Document:
    """List sandboxes by id."""
    after = "" if cursor is None else decode_cursor(cursor)
    async with parts.database.read() as tx:
        found = await rows.list_sandboxes(tx, organization_id, after, limit + 1)
    return page([sandboxes.sandbox_document(each) for each in found], "sandboxId", limit)


@router.get("/sandboxes/{sandbox_id}")
async def get_sandbox(sandbox_id: SandboxPath, parts: PartsOf) -> Document:
    """Return a sandbox."""
    return sandboxes.sandbox_document(await sandboxes.get_sandbox(parts.database, sandbox_id))


@router.delete("/sandboxes/{sandbox_id}", status_code=204, response_class=Response)
async def delete_sandbox(sandbox_id: SandboxPath, parts: PartsOf) -> None:
    """Delete a sandbox: its tokens are revoked, its plan is withdrawn."""
    await sandboxes.delete_sandbox(parts.database, sandbox_id, parts.now())


@router.post("/sandboxes/{sandbox_id}/plans", status_code=201, openapi_extra=_PLAN_BODY)
async def put_plan(
    sandbox_id: SandboxPath, request: Request, response: Response, parts: PartsOf, in_force: InForce = True
) -> Document:
    """Keep a compiled plan and put it in force; `inForce=false` leaves that to the worker. The same again is 200."""
    body = await read_bytes(request, MAX_PLAN_BYTES)
    accepted = await parts.plans.put(sandbox_id, body, parts.now(), in_force=in_force)
    response.status_code = 201 if accepted.is_new else 200
    return {"sandboxId": sandbox_id, "revision": accepted.revision, "digest": accepted.digest}


@router.get("/sandboxes/{sandbox_id}/plans")
async def list_plans(
    sandbox_id: SandboxPath, parts: PartsOf, cursor: Cursor = None, limit: Limit = PAGE_DEFAULT
) -> Document:
    """List a sandbox's plans, the newest first."""
    before = _MAX_REVISION if cursor is None else _revision(decode_cursor(cursor))
    await sandboxes.get_sandbox(parts.database, sandbox_id)
    async with parts.database.read() as tx:
        found = await rows.list_plans(tx, sandbox_id, before, limit + 1)
    return page([{"revision": each[0], "digest": each[1], "createdAt": each[2]} for each in found], "revision", limit)


@router.get("/sandboxes/{sandbox_id}/plans/{revision}")
async def get_plan(sandbox_id: SandboxPath, revision: NumberPath, parts: PartsOf) -> Response:
    """Return a plan, byte for byte as it was accepted."""
    plan = await parts.plans.revision(sandbox_id, revision)
    return Response(plan.document, media_type=_JSON, headers={"ETag": f'"{plan.digest}"'})


@router.post("/sandboxes/{sandbox_id}/tokens", status_code=201, openapi_extra=body_of(NewToken))
async def mint_token(sandbox_id: SandboxPath, request: Request, response: Response, parts: PartsOf) -> Document:
    """Mint a token for a sandbox."""
    body = await read_body(request, NewToken)
    response.headers["Cache-Control"] = "no-store"
    if body.kind == "proxy":
        return await parts.office.mint_proxy(sandbox_id, body.ttl_seconds or PROXY_SECONDS, parts.now())
    if (body.ttl_seconds or 1) > TUNNEL_SECONDS:
        message = f"a tunnel token lives {TUNNEL_SECONDS} seconds at most; it is renewed"
        issue = FieldIssue("out_of_range", "/ttlSeconds", message)
        raise Refused(ControlCode.INVALID_REQUEST, "1 issues; nothing changed", issues=[issue])
    return await parts.office.mint_tunnel(sandbox_id, body.ttl_seconds or TUNNEL_SECONDS, parts.now())


@router.get("/sandboxes/{sandbox_id}/ca.pem")
async def get_ca(sandbox_id: SandboxPath, parts: PartsOf) -> Response:
    """Return the certificate a sandbox has to trust."""
    pem = await parts.authorities.certificate(sandbox_id, parts.now())
    return Response(pem, media_type="application/x-pem-file")


@router.post("/revocations", status_code=201, openapi_extra=body_of(NewRevocation))
async def revoke(request: Request, parts: PartsOf) -> Document:
    """Take a token, lineage, sandbox, connection or binding out of service until an instant."""
    body = await read_body(request, NewRevocation)
    return await revocations.revoke(parts.database, body.kind, body.id, body.until, parts.now(), body.organization_id)


def _revision(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 17 else 0
