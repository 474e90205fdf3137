"""Refusals of the admin listener: every one is problem+json, and web pages get nothing else."""

import secrets
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Final, Protocol

import structlog
from aiohttp import web

from gateway.service_auth import ServiceAuth
from sallyport.claims import TokenError
from sallyport.host import HostError, is_loopback, split_authority
from sallyport.problem import Code

# What a kubelet or a load balancer asks, which have no token.
OPEN_PATH: Final = "/healthz"

_log = structlog.get_logger(__name__)


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
    NO_TUNNEL = "no_tunnel", 409, "The sandbox has no tunnel to this gateway", True
    SETUP_CONFLICT = "setup_conflict", 409, "The set-up is not for this sandbox", False
    RECORDER_BUSY = "recorder_busy", 409, "Exchanges are being recorded already", True
    INVALID_PLAN = "invalid_plan", 422, "The document is not a plan", False
    INVALID_SETUP = "invalid_setup", 422, "The document is not a set-up", False
    SANDBOX_REFUSED = "sandbox_refused", 502, "The sandbox did not do what was asked", True
    SETUP_PENDING = "setup_pending", 503, "The sandbox's set-up is not there yet", True
    SANDBOX_TIMEOUT = "sandbox_timeout", 504, "The sandbox did not answer in time", True
    INTERNAL_ERROR = "internal_error", 500, "The gateway failed", True


class Refused(Exception):
    """A request that is answered with a problem document; details are extra members of it."""

    def __init__(self, code: Code | AdminCode, detail: str, **details: object) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.details = details


type Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Middleware(Protocol):
    """What aiohttp calls for each request; the names of the arguments are its own."""

    def __call__(self, request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]: ...


@web.middleware
async def answer_refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
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
async def refuse_foreigners(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what a web page could send to loopback: by a name rebound to it, or across origins."""
    if not _is_loopback_authority(request.headers.get("Host", "")):
        raise Refused(Code.AUTHORITY_MISMATCH, "this listener answers to localhost, 127.0.0.1 and [::1] only")
    _refuse_browsers(request)
    return await handler(request)


def refuse_strangers(auth: ServiceAuth) -> Middleware:
    """Refuse whoever shows no service token for gateways; `/healthz` says nothing, so it asks for none.

    The name in Host does not matter: a web page, by whatever name it comes, has no token.
    """

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        _refuse_browsers(request)
        if request.path != OPEN_PATH:
            try:
                auth.check(request.headers.get("Authorization"), request.path)
            except TokenError as error:
                _log.warning("admin_token_refused", path=request.path, reason=error.reason.value)
                raise Refused(Code.AUTHENTICATION_REQUIRED, "send a service token for gateways as bearer") from None
        return await handler(request)

    return check


def _refuse_browsers(request: web.Request) -> None:
    if "Origin" in request.headers:
        raise Refused(AdminCode.BROWSER_REFUSED, "requests with an Origin come from web pages")


def _is_loopback_authority(authority: str) -> bool:
    try:
        host, _ = split_authority(authority, 80)
    except HostError:
        return False
    return is_loopback(host)


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
    headers = {"X-Sallyport-Error": code.wire}
    if code is Code.AUTHENTICATION_REQUIRED:
        headers["WWW-Authenticate"] = "Bearer"  # RFC 9110 section 15.5.2 demands a challenge
    if code is AdminCode.SETUP_PENDING:
        headers["Retry-After"] = "1"
    return web.json_response(document, status=code.status, content_type="application/problem+json", headers=headers)
