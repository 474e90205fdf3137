"""The page's application: its routers, its stylesheet and its script, and how it tells refusals."""

from typing import Final

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from control_plane.api.own_api import OwnApi
from control_plane.api.page import connections, denials, keys, login, profiles, sandboxes, targets
from control_plane.api.page.rendering import HEADERS, SCRIPT, STYLE, render, see_other
from control_plane.api.page.visit import Failed, LoginNeeded
from control_plane.api.parts import Parts
from control_plane.refusals import ControlCode, Refused
from control_plane.store.database import DatabaseUnavailable

PREFIX: Final = "/page"

_log = structlog.get_logger(__name__)


def build_page(api: ASGIApp, parts: Parts) -> FastAPI:
    """Build the application; it is mounted at PREFIX within the one it asks."""
    app = FastAPI(
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        exception_handlers=_HANDLERS,  # type: ignore[arg-type]  # FastAPI's type is narrower than what it takes
    )
    app.state.parts = parts
    app.state.own_api = OwnApi(api)
    app.state.streams = denials.Streams()
    app.add_api_route("/", _front, methods=["GET"], response_class=Response)
    app.add_api_route("/page.css", _style, methods=["GET"], response_class=Response)
    app.add_api_route("/live.js", _script, methods=["GET"], response_class=Response)
    for module in (login, targets, connections, profiles, sandboxes, denials, keys):
        app.include_router(module.router)
    return app


async def _front() -> Response:
    return see_other(f"{PREFIX}/targets")


async def _style() -> Response:
    return Response(STYLE, headers={**HEADERS, "Cache-Control": "max-age=300"}, media_type="text/css")


async def _script() -> Response:
    return Response(SCRIPT, headers={**HEADERS, "Cache-Control": "max-age=300"}, media_type="text/javascript")


async def _login_needed(request: Request, error: Exception) -> Response:
    return see_other(f"{PREFIX}/login")


async def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, Failed)
    return _problem(request, error.answer.status, error.answer.document)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    answer = _problem(request, error.code.status, {"title": error.code.title, "detail": error.detail})
    if error.retry_after_seconds is not None:
        answer.headers["Retry-After"] = str(error.retry_after_seconds)
    return answer


async def _unavailable(request: Request, error: Exception) -> Response:
    _log.warning("database_unavailable", path=request.url.path)
    return await _refused(request, Refused(ControlCode.DATABASE_UNAVAILABLE, "reload in a moment"))


async def _not_served(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = ControlCode.METHOD_NOT_ALLOWED if error.status_code == 405 else ControlCode.NOT_FOUND
    return await _refused(request, Refused(code, "follow the links above to what there is"))


async def _malformed(request: Request, error: Exception) -> Response:
    return await _refused(request, Refused(ControlCode.INVALID_REQUEST, "the address of this page is malformed"))


async def _own_fault(request: Request, error: Exception) -> Response:
    request_id = request.scope["sallyport.request_id"]
    _log.error("page_failed", request_id=request_id, error=type(error).__name__, exc_info=error)
    return await _refused(request, Refused(ControlCode.INTERNAL_ERROR, "the control plane's log has more"))


def _problem(request: Request, status: int, document: dict[str, object]) -> Response:
    return render("problem.html", status, problem=document, request_id=request.scope["sallyport.request_id"])


_HANDLERS: Final = {
    LoginNeeded: _login_needed,
    Failed: _failed,
    Refused: _refused,
    DatabaseUnavailable: _unavailable,
    HTTPException: _not_served,
    RequestValidationError: _malformed,
    Exception: _own_fault,
}
