"""The admin listener: health, readiness, metrics, and what may be changed at run time (contracts section 10).

Loopback only. It takes plans, invalidations, revocations and the order to drain; it never gives out a secret,
because nothing behind it returns one. Every refusal is problem+json.
"""

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address
from typing import Final

import structlog
from aiohttp import web

from gateway.core.credential_cache import Invalidated, RevocationsFull
from gateway.metrics import CONTENT_TYPE, Metrics
from gateway.plan_holder import Applied, PlanConflict, PlanHolder, PlanLimitError
from gateway.tokens import RevocationLimitError
from sallyport.host import HostError, split_authority
from sallyport.plan.codec import PlanError
from sallyport.problem import Code

# The objects of the watch stream are a line long.
MAX_ORDER_BYTES: Final = 16 * 1024
# A body comes over loopback; whoever takes longer has stopped sending.
BODY_SECONDS: Final = 10.0
# What a revocation may name (contracts section 5).
REVOCATION_KINDS: Final = ("jti", "sid", "sandbox", "connection", "binding")

_log = structlog.get_logger(__name__)


class AdminListenError(Exception):
    """The admin listener cannot be opened; str() says what to do."""


class AdminCode(Enum):
    """Refusals that only this listener makes; the others are in sallyport.problem.Code."""

    wire: str
    status: int
    title: str
    retryable: bool

    def __new__(cls, wire: str, status: int, title: str, retryable: bool) -> "AdminCode":
        code = object.__new__(cls)
        code._value_ = code.wire = wire
        code.status = status
        code.title = title
        code.retryable = retryable
        return code

    BROWSER_REFUSED = "browser_refused", 403, "Browsers may not use this listener", False
    NOT_FOUND = "not_found", 404, "There is nothing here", False
    METHOD_NOT_ALLOWED = "method_not_allowed", 405, "This method is not for this resource", False
    PLAN_CONFLICT = "plan_conflict", 409, "The plan may not replace the one in force", False
    INVALID_PLAN = "invalid_plan", 422, "The document is not a plan", False
    INTERNAL_ERROR = "internal_error", 500, "The gateway failed", True


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminParts:
    """What the admin listener acts on.

    not_ready returns why the gateway should get no traffic, nothing when it should. invalidate(kind, id) returns
    how many credentials went, revoke(kind, id, until) how many open streams ended. drain is idempotent.
    """

    plans: PlanHolder
    metrics: Metrics
    not_ready: Callable[[], Sequence[str]]
    invalidate: Callable[[str, str | None], int]
    revoke: Callable[[str, str, float], int]
    drain: Callable[[], None]
    drain_seconds: float
    max_plan_bytes: int


class Refused(Exception):
    """A request that is answered with a problem document; details are extra members of it."""

    def __init__(self, code: Code | AdminCode, detail: str, **details: object) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.details = details


def build_admin(parts: AdminParts) -> web.Application:
    """Build the application; start_admin serves it."""
    surface = _Surface(parts)
    app = web.Application(middlewares=[_answer_refusals, _refuse_foreigners])
    app.add_routes(
        [
            web.get("/healthz", surface.health),
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


async def start_admin(app: web.Application, host: str, port: int) -> web.AppRunner:
    """Serve the application; the caller cleans the runner up. Raises AdminListenError."""
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        raise AdminListenError(
            f"listen.admin: {host}:{port} cannot be listened on ({error.strerror}); "
            "stop what uses it, or choose another port"
        ) from None
    return runner


class _Surface:
    """The handlers, in the order of their routes."""

    def __init__(self, parts: AdminParts) -> None:
        self._parts = parts
        # One plan is compiled at a time: each may take a second of a core and 50 MiB.
        self._compiling = asyncio.Lock()

    async def health(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readiness(self, _: web.Request) -> web.Response:
        reasons = list(self._parts.not_ready())
        if reasons:
            return web.json_response({"status": "not_ready", "reasons": reasons}, status=503)
        return web.json_response({"status": "ready"})

    async def metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self._parts.metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    async def put_plan(self, request: web.Request) -> web.Response:
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
        if not self._parts.plans.remove(request.match_info["sandbox_id"]):
            raise _no_plan()
        self._parts.metrics.plan_applied("removed")
        return web.Response(status=204)

    async def invalidate(self, request: web.Request) -> web.Response:
        order = await _read_order(request, {"kind", "id"})
        kind, name = _word(order, "kind", [kind.value for kind in Invalidated]), order.get("id")
        if kind == Invalidated.ALL.value:
            if name is not None:
                raise Refused(Code.INVALID_REQUEST, "/id: leave it out, `all` names nothing")
        else:
            name = _word(order, "id")
        number = self._parts.invalidate(kind, name if isinstance(name, str) else None)
        _log.info("credentials_invalidated", kind=kind, id=name, entries=number)
        return web.json_response({"invalidated": number})

    async def revoke(self, request: web.Request) -> web.Response:
        order = await _read_order(request, {"kind", "id", "until"})
        kind, name, until = _word(order, "kind", REVOCATION_KINDS), _word(order, "id"), order.get("until")
        if type(until) is not int or not 0 < until < 2**53:
            raise Refused(Code.INVALID_REQUEST, "/until: write an instant in whole unix seconds")
        try:
            ended = self._parts.revoke(kind, name, float(until))
        except (RevocationLimitError, RevocationsFull) as error:
            raise Refused(Code.OVERLOADED, str(error)) from None
        _log.warning("revoked", kind=kind, id=name, until=until, streams_ended=ended)
        return web.json_response({"streamsEnded": ended})

    async def drain(self, request: web.Request) -> web.Response:
        await _read_order(request, set())
        _log.info("drain_ordered", seconds=self._parts.drain_seconds)
        self._parts.drain()
        return web.json_response({"status": "draining", "deadlineSeconds": self._parts.drain_seconds}, status=202)

    async def _apply(self, request: web.Request) -> Applied:
        plans, sandbox_id = self._parts.plans, request.match_info["sandbox_id"]
        body = await _read_body(request, self._parts.max_plan_bytes)
        async with self._compiling:
            # On a thread, so that requests are served between the interpreter's switches.
            prepared = await asyncio.to_thread(plans.prepare, body)
        return plans.commit(prepared, sandbox_id=sandbox_id)


type Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def _answer_refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refused as refused:
        return _problem(refused)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        answer = _problem(Refused(AdminCode.METHOD_NOT_ALLOWED, f"use {allowed}"))
        answer.headers["Allow"] = allowed
        return answer
    except web.HTTPNotFound:
        return _problem(Refused(AdminCode.NOT_FOUND, "docs/operations/README.md lists what this listener answers"))
    except Exception as error:
        # Our own bug: told by its type, with the trace in the log, where no answer can carry it out.
        _log.exception("admin_request_failed", path=request.path, error=type(error).__name__)
        return _problem(Refused(AdminCode.INTERNAL_ERROR, "see the gateway's log"))


@web.middleware
async def _refuse_foreigners(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what a web page could send here: by a name rebound to loopback, or across origins."""
    if not _is_loopback_authority(request.headers.get("Host", "")):
        raise Refused(Code.AUTHORITY_MISMATCH, "this listener answers to localhost, 127.0.0.1 and [::1] only")
    if "Origin" in request.headers:
        raise Refused(AdminCode.BROWSER_REFUSED, "requests with an Origin come from web pages")
    return await handler(request)


def _is_loopback_authority(authority: str) -> bool:
    try:
        host, _ = split_authority(authority, 80)
    except HostError:
        return False
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


async def _read_body(request: web.Request, limit: int) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > limit:
                    raise Refused(Code.BODY_TOO_LARGE, f"the body is larger than {limit} bytes")
    except TimeoutError:
        raise Refused(Code.REQUEST_TIMEOUT, f"the body did not arrive within {BODY_SECONDS:g} s") from None
    return bytes(body)


async def _read_order(request: web.Request, known: set[str]) -> Mapping[str, object]:
    """Read a small JSON object strictly: no unknown member, none twice. An empty body is an empty object."""
    body = await _read_body(request, MAX_ORDER_BYTES)
    try:
        order = json.loads(body, object_pairs_hook=_unique) if body.strip() else {}
    except (ValueError, RecursionError):
        raise Refused(Code.INVALID_REQUEST, "the body is not a JSON object with each member once") from None
    if not isinstance(order, dict):
        raise Refused(Code.INVALID_REQUEST, "the body is not a JSON object")
    unknown = sorted(order.keys() - known)
    if unknown:
        pointers = ", ".join(f"/{name}" for name in unknown)
        raise Refused(Code.INVALID_REQUEST, f"unknown: {pointers}; known: {', '.join(sorted(known)) or 'nothing'}")
    return order


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member stands twice")
    return found


def _word(order: Mapping[str, object], name: str, words: Sequence[str] = ()) -> str:
    value = order.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 256 or not value.isprintable():
        raise Refused(Code.INVALID_REQUEST, f"/{name}: write a text")
    if words and value not in words:
        raise Refused(Code.INVALID_REQUEST, f"/{name}: write one of {', '.join(words)}")
    return value


def _no_plan() -> Refused:
    return Refused(AdminCode.NOT_FOUND, "no plan is loaded for this sandbox")


def _problem(refused: Refused) -> web.Response:
    code = refused.code
    document = {
        "type": f"urn:sallyport:error:{code.wire}",
        "title": code.title,
        "status": code.status,
        "code": code.wire,
        "detail": refused.detail,
        "requestId": f"adm_{secrets.token_hex(8)}",
        "retryable": code.retryable,
        **refused.details,
    }
    return web.json_response(
        document,
        status=code.status,
        content_type="application/problem+json",
        headers={"X-Sallyport-Error": code.wire},
    )
