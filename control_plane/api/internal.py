"""`/internal`: what gateways and workers ask. The watch stream is in stream.py."""

import math
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from control_client.plans import WATCH_HEADER, WATCH_WORD
from control_plane import leases
from control_plane.api.bodies import body_of, read_body
from control_plane.api.caller import Caller, authenticate
from control_plane.api.parts import IdPath, PartsOf, SandboxPath
from control_plane.api.stream import EventStream, encode, encode_without_organizations
from control_plane.resolution import Wanted
from control_plane.store.leases import Held
from sallyport.plan.fields import BindingId, ConnectionId, Count, HttpUrl, Id, Model, Positive, SandboxId

router = APIRouter(prefix="/internal", dependencies=[Depends(authenticate)])

_JSON: Final = "application/json"
# A gateway's limit on plans is 10,000 by default; a report of twice as many is some 3 MiB.
MAX_HELD: Final = 20_000
MAX_LEASE_BYTES: Final = 4 * 1024 * 1024
MAX_RENEWAL_TOKEN: Final = 8 * 1024
# Then its reader comes again by the last id, and shows that its key or token still opens anything.
WATCH_SECONDS: Final = 3_600

type Document = dict[str, object]


class Resolve(Model):
    """POST /internal/integration-credentials/resolve."""

    sandbox_id: SandboxId
    plan_revision: Positive
    egress_rule_id: Id
    binding_id: BindingId
    connection_id: ConnectionId
    secret_type: Id
    slot_key: Id | None = None
    resolver_key: Id | None = None


class TokenRequest(Model):
    """POST /internal/sandboxes/{id}/tokens. sid is the lineage of the tunnel that asks, where it is known."""

    request_id: Id
    renewal_token: Annotated[str, Field(min_length=1, max_length=MAX_RENEWAL_TOKEN)] | None = None
    sid: Id | None = None


class PlanInForce(Model):
    """PUT /internal/sandboxes/{id}/plan."""

    revision: Positive


class HeldSandbox(Model):
    """A sandbox in a lease. The greater tunnelEpoch is the newer tunnel, whichever gateway holds it."""

    sandbox_id: SandboxId
    tunnel: bool
    tunnel_epoch: Count | None = None


class Lease(Model):
    """PUT /internal/gateways/{id}/lease."""

    epoch: Count
    admin_url: HttpUrl
    sandboxes: Annotated[tuple[HeldSandbox, ...], Field(strict=False, max_length=MAX_HELD)]
    plan_revisions: Annotated[dict[SandboxId, Positive], Field(max_length=MAX_HELD)]


@router.post("/integration-credentials/resolve", openapi_extra=body_of(Resolve))
async def resolve(request: Request, caller: Caller, parts: PartsOf) -> Response:
    """Resolve a credential for a sandbox's current plan."""
    body = await read_body(request, Resolve)
    wanted = Wanted(
        sandbox_id=body.sandbox_id,
        plan_revision=body.plan_revision,
        egress_rule_id=body.egress_rule_id,
        binding_id=body.binding_id,
        connection_id=body.connection_id,
        secret_type=body.secret_type,
        slot_key=body.slot_key,
        resolver_key=body.resolver_key,
    )
    answer = await parts.resolver.resolve(wanted, caller.id, parts.now())
    return Response(answer, media_type=_JSON, headers={"Cache-Control": "no-store"})


@router.post("/sandboxes/{sandbox_id}/tokens", openapi_extra=body_of(TokenRequest))
async def renew_tokens(sandbox_id: SandboxPath, request: Request, parts: PartsOf) -> Response:
    """Exchange a renewal token, or renew for a tunnel that the gateway vouches for."""
    body = await read_body(request, TokenRequest)
    answer = await parts.office.renew(sandbox_id, body.request_id, body.renewal_token, body.sid, parts.now())
    return Response(answer, media_type=_JSON, headers={"Cache-Control": "no-store"})


@router.get("/sandboxes/{sandbox_id}/plan")
async def get_plan(sandbox_id: SandboxPath, request: Request, parts: PartsOf) -> Response:
    """Return the plan in force, byte for byte; 304 where the caller has it."""
    plan = await parts.plans.current(sandbox_id)
    headers = {"ETag": f'"{plan.digest}"', "Cache-Control": "no-cache"}
    if headers["ETag"] in [each.strip() for each in request.headers.get("If-None-Match", "").split(",")]:
        return Response(status_code=304, headers=headers)
    return Response(plan.document, media_type=_JSON, headers=headers)


@router.put("/sandboxes/{sandbox_id}/plan", openapi_extra=body_of(PlanInForce))
async def put_plan_in_force(sandbox_id: SandboxPath, request: Request, parts: PartsOf) -> Document:
    """Put a revision that is kept in force; the one that is already is left."""
    body = await read_body(request, PlanInForce)
    accepted = await parts.plans.put_in_force(sandbox_id, body.revision, parts.now())
    return {"sandboxId": sandbox_id, "revision": accepted.revision, "digest": accepted.digest}


@router.get("/sandboxes/{sandbox_id}/interception-ca")
async def get_authority(sandbox_id: SandboxPath, parts: PartsOf) -> Response:
    """Return a sandbox's CA with its key, which a gateway holds in memory only."""
    answer = await parts.authorities.for_gateway(sandbox_id, parts.now())
    return Response(answer, media_type=_JSON, headers={"Cache-Control": "no-store"})


@router.get("/sandboxes/{sandbox_id}/placement")
async def get_placement(sandbox_id: SandboxPath, parts: PartsOf) -> Document:
    """Return the gateways that hold a sandbox."""
    return await leases.placement(parts.database, sandbox_id, parts.now())


@router.put("/gateways/{gateway_id}/lease", openapi_extra=body_of(Lease))
async def put_lease(gateway_id: IdPath, request: Request, parts: PartsOf) -> Document:
    """Take a gateway's report for the next 30 seconds."""
    body = await read_body(request, Lease, MAX_LEASE_BYTES)
    revisions = dict(body.plan_revisions)
    held = {
        each.sandbox_id: Held(each.tunnel, each.tunnel_epoch or 0, revisions.get(each.sandbox_id))
        for each in body.sandboxes
    }
    return await leases.renew_lease(
        parts.database,
        gateway_id,
        epoch=body.epoch,
        admin_url=body.admin_url,
        held=held,
        plan_revisions=revisions,
        now=parts.now(),
    )


@router.get("/gateways")
async def list_gateways(parts: PartsOf) -> Document:
    """Return the gateways that live."""
    return await leases.gateways(parts.database, parts.now())


@router.get("/plans/watch", response_class=Response)
async def watch_plans(request: Request, caller: Caller, parts: PartsOf) -> Response:
    """Stream what changes (server-sent events), from Last-Event-ID on where it is still known."""
    text = request.headers.get("Last-Event-ID", "")
    last_id = int(text) if text.isdecimal() and len(text) < 19 else None
    ends_at = min(caller.expires_at or math.inf, parts.now() + WATCH_SECONDS)
    # Gateways read orders strictly: one that does not say that it reads organizations there would refuse the stream.
    write = encode if request.headers.get(WATCH_HEADER) == WATCH_WORD else encode_without_organizations
    return EventStream(parts.watch.subscribe(last_id), write, until=lambda: parts.now() >= ends_at)
