"""The admin listener: health, readiness, metrics, and what may be changed at run time (contracts section 10).

On loopback, or with TLS for whoever has a service token. It takes plans, invalidations, revocations and the order to
drain; it never gives out a secret, because nothing behind it returns one. Every refusal is problem+json.
"""

import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from aiohttp import web

from gateway.admin.bodies import read_body, read_order, word
from gateway.admin.refusals import (
    OPEN_PATH,
    AdminCode,
    Refused,
    answer_refusals,
    refuse_foreigners,
    refuse_strangers,
)
from gateway.core.credential_cache import Invalidated, RevocationsFull
from gateway.metrics import CONTENT_TYPE, Metrics
from gateway.plan_holder import Applied, PlanConflict, PlanHolder, PlanLimitError
from gateway.revocations import RevocationLimitError
from gateway.service_auth import ServiceAuth
from sallyport.plan.codec import PlanError
from sallyport.problem import Code

# What a revocation may name (contracts section 5).
REVOCATION_KINDS: Final = ("jti", "sid", "sandbox", "connection", "binding")
# What two organizations may call alike. Tokens, lineages and sandboxes have their ids for themselves.
ORGANIZATION_KINDS: Final = ("connection", "binding")

_log = structlog.get_logger(__name__)


# Named here, because only here the framework is known.
type AdminApp = web.Application
type AdminRunner = web.AppRunner


class AdminListenError(Exception):
    """The admin listener cannot be opened; str() says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminParts:
    """What the admin listener acts on.

    not_ready returns why the gateway should get no traffic, nothing when it should; notes what is worth knowing though
    it gets it. With is_controlled plans come from a control plane and are not taken here. invalidate(kind, id,
    organization) gives how many credentials went, revoke(kind, id, until, organization) how many open streams ended.
    drain is idempotent. Of a gateway of several processes, applied(sandbox_id) waits until each of them has the plan as
    it is now, and scrape() adds their metrics up.
    With auth every request needs a token; without it only this machine is answered.
    """

    plans: PlanHolder
    metrics: Metrics
    not_ready: Callable[[], Sequence[str]]
    invalidate: Callable[[str, str | None, str | None], Awaitable[int]]
    revoke: Callable[[str, str, float, str | None], Awaitable[int]]
    drain: Callable[[], None]
    drain_seconds: float
    max_plan_bytes: int
    notes: Callable[[], Sequence[str]] = tuple
    is_controlled: bool = False
    auth: ServiceAuth | None = None
    applied: Callable[[str], Awaitable[None]] | None = None
    scrape: Callable[[], Awaitable[bytes]] | None = None


def build_admin(parts: AdminParts) -> web.Application:
    """Build the application; start_admin serves it."""
    surface = _Surface(parts)
    guard = refuse_foreigners if parts.auth is None else refuse_strangers(parts.auth)
    app = web.Application(middlewares=[answer_refusals, guard])
    app.add_routes(
        [
            web.get(OPEN_PATH, surface.health),
            web.get("/readyz", surface.readiness),
            web.get("/metrics", surface.metrics),
            web.put("/v1/sandboxes/{sandbox_id}/plan", surface.put_plan),
            web.get("/v1/sandboxes/{sandbox_id}/plan", surface.get_plan),
            web.delete("/v1/sandboxes/{sandbox_id}/plan", surface.delete_plan),
            web.post("/v1/credentials/invalidate", surface.invalidate),
            web.post("/v1/tokens/revoke", surface.revoke),
            web.post("/v1/drain", surface.drain),
        ]
    )
    return app


async def start_private_admin(app: web.Application, path: Path) -> web.AppRunner:
    """Serve the application to whoever may use the folder; the caller cleans the runner up. Raises OSError."""
    runner = await _runner(app)
    await web.UnixSite(runner, path).start()
    return runner


async def start_admin(
    app: web.Application, host: str, port: int, context: ssl.SSLContext | None = None
) -> web.AppRunner:
    """Serve the application, with TLS where a context is given; the caller cleans up. Raises AdminListenError."""
    runner = await _runner(app)
    try:
        await web.TCPSite(runner, host, port, ssl_context=context).start()
    except OSError as error:
        await runner.cleanup()
        raise AdminListenError(
            f"listen.admin: {host}:{port} cannot be listened on ({error.strerror}); "
            "stop what uses it, or choose another port"
        ) from None
    return runner


async def _runner(app: web.Application) -> web.AppRunner:
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    return runner


class _Surface:
    """The handlers, in the order of their routes."""

    def __init__(self, parts: AdminParts) -> None:
        self._parts = parts

    async def health(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readiness(self, _: web.Request) -> web.Response:
        reasons = list(self._parts.not_ready())
        if reasons:
            return web.json_response({"status": "not_ready", "reasons": reasons}, status=503)
        notes = list(self._parts.notes())
        return web.json_response({"status": "ready", "reasons": notes} if notes else {"status": "ready"})

    async def metrics(self, _: web.Request) -> web.Response:
        scrape = self._parts.scrape
        body = self._parts.metrics.render() if scrape is None else await scrape()
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    async def put_plan(self, request: web.Request) -> web.Response:
        self._refuse_if_controlled()
        count = self._parts.metrics.plan_applied
        try:
            applied = await self._apply(request)
        except PlanError as error:
            issues = [issue.to_document() for issue in error.issues]
            if error.is_too_large:
                count("refused")
                raise Refused(Code.BODY_TOO_LARGE, "the plan is over its limits", issues=issues) from None
            count("invalid")
            raise Refused(AdminCode.INVALID_PLAN, f"{len(issues)} issues; nothing changed", issues=issues) from None
        except Refused:
            count("refused")
            raise
        except PlanConflict as conflict:
            count("conflict")
            raise Refused(AdminCode.PLAN_CONFLICT, str(conflict)) from None
        except PlanLimitError as error:
            count("refused")
            raise Refused(Code.OVERLOADED, str(error)) from None
        count("applied" if applied.changed else "unchanged")
        await self._applied(applied.sandbox_id)
        return web.json_response(
            {
                "sandboxId": applied.sandbox_id,
                "revision": applied.revision,
                "digest": applied.digest,
                "changed": applied.changed,
            }
        )

    async def get_plan(self, request: web.Request) -> web.Response:
        sandbox_id = request.match_info["sandbox_id"]
        table, document = self._parts.plans.table(sandbox_id), self._parts.plans.document(sandbox_id)
        if table is None or document is None:
            raise _no_plan()
        return web.Response(body=document, content_type="application/json", headers={"ETag": f'"{table.digest}"'})

    async def delete_plan(self, request: web.Request) -> web.Response:
        self._refuse_if_controlled()
        sandbox_id = request.match_info["sandbox_id"]
        if not self._parts.plans.remove(sandbox_id):
            raise _no_plan()
        self._parts.metrics.plan_applied("removed")
        await self._applied(sandbox_id)
        return web.Response(status=204)

    async def _applied(self, sandbox_id: str) -> None:
        if self._parts.applied is not None:
            await self._parts.applied(sandbox_id)

    def _refuse_if_controlled(self) -> None:
        if self._parts.is_controlled:
            raise Refused(AdminCode.PLAN_CONFLICT, "plans come from the control plane; change them there")

    async def invalidate(self, request: web.Request) -> web.Response:
        order = await read_order(request, {"kind", "id", "organizationId"})
        kind, name = word(order, "kind", [kind.value for kind in Invalidated]), order.get("id")
        if kind == Invalidated.ALL.value:
            if name is not None:
                raise Refused(Code.INVALID_REQUEST, "/id: leave it out, `all` names nothing")
        else:
            name = word(order, "id")
        whose = _organization(order, kind)
        number = await self._parts.invalidate(kind, name if isinstance(name, str) else None, whose)
        _log.info("credentials_invalidated", kind=kind, id=name, organization_id=whose, entries=number)
        return web.json_response({"invalidated": number})

    async def revoke(self, request: web.Request) -> web.Response:
        order = await read_order(request, {"kind", "id", "until", "organizationId"})
        kind, name, until = word(order, "kind", REVOCATION_KINDS), word(order, "id"), order.get("until")
        if type(until) is not int or not 0 < until < 2**53:
            raise Refused(Code.INVALID_REQUEST, "/until: write an instant in whole unix seconds")
        whose = _organization(order, kind)
        try:
            ended = await self._parts.revoke(kind, name, float(until), whose)
        except (RevocationLimitError, RevocationsFull) as error:
            raise Refused(Code.OVERLOADED, str(error)) from None
        _log.warning("revoked", kind=kind, id=name, organization_id=whose, until=until, streams_ended=ended)
        return web.json_response({"streamsEnded": ended})

    async def drain(self, request: web.Request) -> web.Response:
        await read_order(request, set())
        _log.info("drain_ordered", seconds=self._parts.drain_seconds)
        self._parts.drain()
        return web.json_response({"status": "draining", "deadlineSeconds": self._parts.drain_seconds}, status=202)

    async def _apply(self, request: web.Request) -> Applied:
        plans, sandbox_id = self._parts.plans, request.match_info["sandbox_id"]
        body = await read_body(request, self._parts.max_plan_bytes)
        return plans.commit(await plans.compile(body, sandbox_id), sandbox_id=sandbox_id)


def _organization(order: Mapping[str, object], kind: str) -> str | None:
    """Return whose connection or binding is meant, None where all that bear the id are; raises Refused."""
    if order.get("organizationId") is None:
        return None
    if kind not in ORGANIZATION_KINDS:
        raise Refused(Code.INVALID_REQUEST, "/organizationId: it goes with `connection` and `binding` alone")
    return word(order, "organizationId")


def _no_plan() -> Refused:
    return Refused(AdminCode.NOT_FOUND, "no plan is loaded for this sandbox")
