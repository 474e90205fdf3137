"""The worker's HTTP API (contracts section 8). Thin: it reads requests and writes documents.

On loopback this machine is answered; with TLS, whoever has a service token for workers.
"""

import asyncio
import contextlib
import json
import math
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Final

import structlog
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from control_client.callers import CallerCheck
from control_client.errors import ControlError
from sallyport.claims import TokenError
from sallyport.net.setting_kinds import HostPort
from sallyport.net.transports import bind_tcp
from worker.application import Application
from worker.applications import Applications, NoSuchApplication, NotPossible, TooManyApplications
from worker.metrics import CONTENT_TYPE

# A request names a sandbox and a revision; more is no request of ours.
MAX_BODY_BYTES: Final = 16 * 1024
# What a kubelet or a load balancer asks, which have no token.
OPEN_PATH: Final = "/healthz"
# Behind a proxy that ends idle streams after a minute the watcher stays connected.
HEARTBEAT_SECONDS: Final = 10.0
# How often an application is looked at for its watchers: another worker may be the one that carries it out.
WATCH_SECONDS: Final = 0.2

type Next = Callable[[Request], Awaitable[Response]]

_log = structlog.get_logger(__name__)

_ID = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$"


class PlanApplicationRequest(BaseModel):
    """What is to be applied."""

    model_config = ConfigDict(extra="forbid", strict=True)

    sandbox_id: str = Field(alias="sandboxId", pattern=_ID)
    revision: int = Field(ge=1, lt=2**53)


class RollbackError(Exception):
    """The earlier plan could not be put in force again; str() says why."""


def build_api(
    applications: Applications,
    roll_back: Callable[[Application], Awaitable[Application]],
    callers: CallerCheck | None = None,
) -> FastAPI:
    """Build the application; `serve` serves it. roll_back raises NotPossible, NoSuchApplication or RollbackError.

    With callers every request needs a token; without, only this machine is answered.
    """
    api = FastAPI(title="Sallyport worker", version="1", docs_url=None, redoc_url=None)
    _add_errors(api)
    # Added last, so asked first.
    api.middleware("http")(_refuse_foreigners if callers is None else _refuse_strangers(callers))

    @api.get(OPEN_PATH)
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @api.get("/readyz")
    async def readyz() -> dict[str, str]:
        return {"status": "ready"}

    @api.post("/v1/plan-applications", status_code=202)
    async def begin(order: PlanApplicationRequest) -> dict[str, str]:
        application = await applications.begin(order.sandbox_id, order.revision)
        return {"applicationId": application.application_id}

    @api.get("/v1/plan-applications/{application_id}")
    async def find(application_id: str) -> dict[str, object]:
        return (await applications.find(application_id)).to_document()

    @api.get("/v1/plan-applications/{application_id}/events")
    async def events(application_id: str) -> StreamingResponse:
        first = await applications.find(application_id)
        return StreamingResponse(_events(applications, first), media_type="text/event-stream")

    @api.post("/v1/plan-applications/{application_id}/cancel")
    async def cancel(application_id: str) -> dict[str, object]:
        return (await applications.cancel(application_id)).to_document()

    @api.post("/v1/plan-applications/{application_id}/rollback", status_code=202)
    async def rollback(application_id: str) -> dict[str, str]:
        application = await roll_back(await applications.find(application_id))
        return {"applicationId": application.application_id}

    return api


def add_upkeep(api: FastAPI, reconciliation: Callable[[], dict[str, object]], metrics: Callable[[], bytes]) -> None:
    """Add what operators and their Prometheus look at."""

    @api.get("/v1/reconciliation")
    async def reconciled() -> dict[str, object]:
        return reconciliation()

    @api.get("/metrics")
    async def scraped() -> Response:
        return Response(metrics(), media_type=CONTENT_TYPE)


async def serve(
    api: ASGIApp,
    address: HostPort,
    started: Callable[[str, int], None],
    stop: asyncio.Event,
    context: ssl.SSLContext | None = None,
    *,
    prepare: Callable[[], Awaitable[None]] | None = None,
    drain_seconds: float = 5.0,
) -> None:
    """Serve until `stop`, with TLS where a context is given; started(host, port) is called once requests are taken.

    prepare() is awaited before that, once the address is ours. Requests that are open at the end may last for
    drain_seconds more: an event stream would never end. Raises ListenError, and what prepare() raises.
    """
    listening = bind_tcp(address.host, address.port)
    if prepare is not None:
        with contextlib.ExitStack() as failing:
            failing.enter_context(contextlib.closing(listening))
            await prepare()
            failing.pop_all()
    config = uvicorn.Config(
        api, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=math.ceil(drain_seconds)
    )
    config.load()
    config.ssl = context
    server = _Server(config)
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve(sockets=[listening]), name=f"serve {address}")
        bound = listening.getsockname()
        started(str(bound[0]), int(bound[1]))
        await stop.wait()
        server.should_exit = True


class _Server(uvicorn.Server):
    """uvicorn that leaves signals alone: the process decides when it ends."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _events(applications: Applications, application: Application) -> AsyncIterator[str]:
    """Tell the application now and after each change. Who watches misses states, never the last."""
    told, quiet = None, 0.0
    while True:
        document = json.dumps(application.to_document())
        if document != told:
            told, quiet = document, 0.0
            yield f"event: application\ndata: {document}\n\n"
        elif quiet >= HEARTBEAT_SECONDS:
            quiet = 0.0
            yield ": still here\n\n"
        if application.has_ended:
            return
        await asyncio.sleep(WATCH_SECONDS)
        quiet += WATCH_SECONDS
        application = await applications.find(application.application_id)


async def _refuse_foreigners(request: Request, serve_next: Next) -> Response:
    """Refuse what a web page could send to loopback by a name rebound to it."""
    host = request.headers.get("host", "").rpartition(":")[0] or request.headers.get("host", "")
    if host not in ("127.0.0.1", "localhost", "[::1]"):
        return _error(421, "ValidationError", "this listener answers to localhost, 127.0.0.1 and [::1] only")
    return await serve_next(request)


def _refuse_strangers(callers: CallerCheck) -> Callable[[Request, Next], Awaitable[Response]]:
    """Refuse whoever shows no service token for workers; `/healthz` says nothing, so it asks for none."""

    async def check(request: Request, serve_next: Next) -> Response:
        if request.url.path != OPEN_PATH:
            try:
                await callers.check(request.headers.get("authorization"))
            except TokenError as error:
                _log.warning("caller_refused", path=request.url.path, reason=error.reason.value)
                answer = _error(401, "Unauthorized", "send a service token for workers as bearer")
                answer.headers["WWW-Authenticate"] = "Bearer"
                return answer
            except ControlError as error:
                return _error(503, "ProviderError", str(error))
        return await serve_next(request)

    return check


def _add_errors(api: FastAPI) -> None:
    """Map what the rooms below raise to `{"error": {category, message, details}}`."""

    @api.middleware("http")
    async def refuse_in_general(request: Request, serve_next: Next) -> Response:
        if "origin" in request.headers:
            return _error(403, "ValidationError", "requests with an Origin come from web pages")
        if int(request.headers.get("content-length", "0") or 0) > MAX_BODY_BYTES:
            return _error(413, "ValidationError", f"the body is larger than {MAX_BODY_BYTES} bytes")
        return await serve_next(request)

    @api.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        details = [
            {"pointer": "".join(f"/{step}" for step in fault["loc"][1:]), "message": fault["msg"]}
            for fault in error.errors()
        ]
        return _error(400, "ValidationError", "the request is not what is asked for here", details)

    @api.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> JSONResponse:
        category = "NotFound" if error.status_code == 404 else "ValidationError"
        return _error(error.status_code, category, str(error.detail))

    @api.exception_handler(NoSuchApplication)
    async def missing(_: Request, error: NoSuchApplication) -> JSONResponse:
        return _error(404, "NotFound", str(error))

    @api.exception_handler(NotPossible)
    async def impossible(_: Request, error: NotPossible) -> JSONResponse:
        return _error(409, "InvalidState", str(error))

    @api.exception_handler(TooManyApplications)
    async def too_many(_: Request, error: TooManyApplications) -> JSONResponse:
        return _error(503, "ProviderError", str(error))

    @api.exception_handler(RollbackError)
    async def no_rollback(_: Request, error: RollbackError) -> JSONResponse:
        return _error(502, "ProviderError", str(error))


def _error(status: int, category: str, message: str, details: object = None) -> JSONResponse:
    return JSONResponse({"error": {"category": category, "message": message, "details": details}}, status)
