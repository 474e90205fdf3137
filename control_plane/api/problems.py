"""Refusals and failures as problem documents (RFC 9457, contracts section 9)."""

import secrets
from typing import Final

import orjson
import structlog
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from control_plane.refusals import ControlCode, FieldIssue, Refused
from control_plane.store.database import DatabaseUnavailable
from control_plane.watch import WatchFull
from sallyport.wire.http1.answers import plain_answer

# A database that restarts is back within seconds.
RETRY_AFTER_SECONDS: Final = 2

_log = structlog.get_logger(__name__)


def problem_document(request_id: str, refused: Refused) -> dict[str, object]:
    """Return the document that tells a refusal."""
    code = refused.code
    document: dict[str, object] = {
        "type": f"urn:sallyport:error:{code.wire}",
        "title": code.title,
        "status": code.status,
        "code": code.wire,
        "detail": refused.detail,
        "requestId": request_id,
        "retryable": code.retryable,
    }
    if refused.issues:
        document["issues"] = [issue._asdict() for issue in refused.issues]
    return document


def problem(request: Request, refused: Refused) -> Response:
    """Return the answer that tells a refusal."""
    code = refused.code
    headers = {"X-Sallyport-Error": code.wire}
    if code.status == 503 or refused.retry_after_seconds is not None:
        headers["Retry-After"] = str(refused.retry_after_seconds or RETRY_AFTER_SECONDS)
    if code is ControlCode.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    body = orjson.dumps(problem_document(request.scope["sallyport.request_id"], refused))
    return Response(body, code.status, headers, media_type="application/problem+json")


def unreadable(detail: str) -> bytes:
    """Return the whole answer to what is no request, after which its connection ends."""
    refused = Refused(ControlCode.INVALID_REQUEST, detail)
    body = orjson.dumps(problem_document(new_request_id(), refused))
    return plain_answer(refused.code.status, "application/problem+json", body, close=True)


async def refused(request: Request, error: Exception) -> Response:
    """Answer a refusal."""
    assert isinstance(error, Refused)
    return problem(request, error)


async def unavailable(request: Request, error: Exception) -> Response:
    """Answer that the database is away. The cause goes to the log."""
    _log.warning("database_unavailable", path=request.url.path, cause=_root(error))
    return problem(request, Refused(ControlCode.DATABASE_UNAVAILABLE, "ask again in a moment"))


async def watch_full(request: Request, error: Exception) -> Response:
    """Answer that this replica watches for as many as it can."""
    return problem(request, Refused(ControlCode.OVERLOADED, "this replica has as many watchers as it takes"))


async def http_error(request: Request, error: Exception) -> Response:
    """Answer what the framework refused: a path nobody serves, a method it does not have."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        answer = problem(request, Refused(ControlCode.METHOD_NOT_ALLOWED, "see Allow for those it has"))
        answer.headers["Allow"] = ", ".join(sorted(request.app.state.methods_of(request.url.path)))
        return answer
    if error.status_code == 404:
        return problem(request, Refused(ControlCode.NOT_FOUND, "docs/control-plane.md lists what is answered"))
    return problem(request, Refused(ControlCode.INVALID_REQUEST, "the request cannot be read"))


async def invalid_parameters(request: Request, error: Exception) -> Response:
    """Answer faulty path and query parameters, all of them."""
    assert isinstance(error, RequestValidationError)
    issues = [
        FieldIssue("malformed", "/".join(map(str, each["loc"][1:])), "not a value this parameter can have")
        for each in error.errors()
    ]
    return problem(request, Refused(ControlCode.INVALID_REQUEST, "faulty parameters", issues=issues))


async def own_fault(request: Request, error: Exception) -> Response:
    """Answer a bug of ours: told by its type, with the trace in the log, where no answer can carry it out."""
    request_id = request.scope["sallyport.request_id"]
    _log.error("request_failed", request_id=request_id, error=type(error).__name__, exc_info=error)
    return problem(request, Refused(ControlCode.INTERNAL_ERROR, "see the control plane's log for this requestId"))


def new_request_id() -> str:
    """Return an id for one request."""
    return f"ctl_{secrets.token_hex(8)}"


class RequestIds:
    """Outermost: give each request an id, send it back, and let no exception reach the server."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = scope["sallyport.request_id"] = new_request_id()
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode("ascii"))]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            # own_fault has told it and answered; the framework raises it again all the same. An answer that had
            # begun is cut: the server closes what was not finished.
            _log.debug("request_ended_by_error", request_id=request_id, had_begun=started)


def _root(error: BaseException) -> str:
    cause = error.__cause__
    return type(cause if cause is not None else error).__name__


HANDLERS: Final = {
    Refused: refused,
    DatabaseUnavailable: unavailable,
    WatchFull: watch_full,
    HTTPException: http_error,
    RequestValidationError: invalid_parameters,
    Exception: own_fault,
}
