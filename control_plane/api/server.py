"""The application of all routers, and uvicorn serving it."""

import asyncio
import contextlib
import functools
from collections.abc import Generator
from typing import Any, Final

import uvicorn
from fastapi import Depends, FastAPI, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.routing import Route
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from control_plane.api import (
    admissions,
    api_keys,
    authorizations,
    bindings,
    callbacks,
    client_feed,
    compilation,
    connections,
    denials,
    instance_servers,
    instances,
    internal,
    public,
    push_subscribers,
    sandboxes,
    targets,
    webhook_endpoints,
    webhook_subscriptions,
    webhooks,
    workers,
)
from control_plane.api.built_in.server import PATH as BUILT_IN_PATH
from control_plane.api.built_in.server import BuiltInServer
from control_plane.api.idempotency import Idempotency
from control_plane.api.metrics import CountedRequests
from control_plane.api.openapi import openapi_document
from control_plane.api.page.rendering import see_other
from control_plane.api.page.site import PREFIX, build_page
from control_plane.api.parts import Parts
from control_plane.api.problems import HANDLERS, RequestIds, unreadable
from control_plane.refusals import ControlCode, FieldIssue, Refused
from sallyport.net.clock import Clock
from sallyport.net.parting import Parting
from sallyport.net.setting_kinds import HostPort

# A gateway keeps one watch stream and some requests; this many at once are an attack or a loop.
MAX_CONCURRENT: Final = 4_096
MAX_HEAD_BYTES: Final = 64 * 1024
KEEP_ALIVE_SECONDS: Final = 75
# A head is one packet; slower is Slowloris.
HEAD_SECONDS: Final = 10.0
# Requests take milliseconds; watch streams are ended first.
DRAIN_SECONDS: Final = 10


_ROUTERS: Final = [
    module.router
    for module in (
        *(public, callbacks, sandboxes, denials, bindings, compilation),
        *(authorizations, connections, api_keys, targets, internal),
        *(webhooks, webhook_endpoints, webhook_subscriptions, workers),
        *(instances, instance_servers, client_feed, admissions, push_subscribers),
    )
]


def build_served(app: FastAPI, parts: Parts) -> ASGIApp:
    """Build what a Server serves: the application of build_api with what is around each of its requests."""
    parts.metrics.watch("live_pages", lambda: app.state.streams.open)
    return RequestIds(CountedRequests(Idempotency(app, parts), parts.metrics))


class ListenError(Exception):
    """The address cannot be listened on; the text says why."""


def build_api(parts: Parts) -> FastAPI:
    """Build the application; build_served puts around it what a request meets before."""
    app = FastAPI(
        title="Sallyport control plane",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
        dependencies=[Depends(_refuse_unknown_parameters)],
        exception_handlers=HANDLERS,  # type: ignore[arg-type]  # FastAPI's type is narrower than what it takes
    )
    app.state.parts = parts
    app.state.methods_of = _methods_of
    app.openapi = lambda: document  # type: ignore[method-assign]  # as FastAPI documents it
    for router in _ROUTERS:
        app.include_router(router)
    document = openapi_document(app)
    app.state.built_in = BuiltInServer(app, document, parts)
    app.router.routes.append(Route(BUILT_IN_PATH, app.state.built_in, include_in_schema=False))
    page = build_page(app, parts)
    app.state.streams = page.state.streams
    app.mount(PREFIX, page)
    app.add_route(PREFIX, _to_page, include_in_schema=False)
    return app


class StrictHeads(H11Protocol):
    """uvicorn's HTTP/1.1, which alone would wait for a request's head for ever, and refuse in words of its own."""

    _late: asyncio.TimerHandle | None = None

    def __init__(self, clock: Clock, *arguments: Any, **named: Any) -> None:  # noqa: ANN401  as uvicorn has them
        super().__init__(*arguments, **named)
        self._clock = clock

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Read on; a head that is whole is waited for no more."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        self._forget()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be read, as every other refusal; whoever is still sending gets to see it."""
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.close()  # an answer has begun that another one would spoil
            return
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        answer = unreadable(f"this is no HTTP/1.1 request with a head of {MAX_HEAD_BYTES} bytes at most")
        Parting(self._clock, self.transport, answer, lambda: self.connection_lost(None)).begin()

    def _watch(self) -> None:
        if self._awaits_head() and self._late is None:
            self._late = self.loop.call_later(HEAD_SECONDS, self._close_late)
        elif not self._awaits_head():
            self._forget()

    def _awaits_head(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _forget(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _close_late(self) -> None:
        self._late = None
        if self._awaits_head() and not self.transport.is_closing():
            self.transport.close()


class Server(uvicorn.Server):
    """uvicorn on the running loop, leaving the signals to its caller."""

    def __init__(self, app: ASGIApp, listen: HostPort, clock: Clock) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=listen.host,
                port=listen.port,
                http=functools.partial(StrictHeads, clock),  # type: ignore[arg-type]  # called as a class is
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                limit_concurrency=MAX_CONCURRENT,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=DRAIN_SECONDS,
                h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            )
        )
        self._is_listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Capture none."""
        yield

    async def startup(self, sockets: list[Any] | None = None) -> None:
        """Listen; raises ListenError where uvicorn would end the process."""
        try:
            await super().startup(sockets)
        except SystemExit:
            raise ListenError("it is in use, or not an address of this machine") from None
        self._is_listening.set()

    async def wait_listening(self) -> int:
        """Wait until requests are taken, and return the port."""
        await self._is_listening.wait()
        return int(self.servers[0].sockets[0].getsockname()[1])


async def _to_page(request: Request) -> Response:
    return see_other(f"{PREFIX}/")


def _methods_of(path: str) -> set[str]:
    """Return every method a path has; the framework tells those of the first route that fits."""
    routes = (route for router in _ROUTERS for route in router.routes if isinstance(route, APIRoute))
    return {method for route in routes if route.path_regex.match(path) for method in route.methods or ()}


async def _refuse_unknown_parameters(request: Request) -> None:
    """Refuse a query parameter nobody reads: a misspelt filter would show more than was asked for."""
    if request.url.path.startswith("/p/"):
        return  # a provider, or a browser it sends, adds what it likes
    route = request.scope.get("route")
    known = _query_names(route.dependant) if isinstance(route, APIRoute) else set()
    issues = [
        FieldIssue("unknown_field", name, "no such parameter") for name in request.query_params if name not in known
    ]
    if issues:
        raise Refused(ControlCode.INVALID_REQUEST, "unknown parameters", issues=issues)


def _query_names(dependant: Dependant) -> set[str]:
    """Return the query parameters that an endpoint or anything it depends on reads."""
    own = {each.alias for each in dependant.query_params}
    return own.union(*map(_query_names, dependant.dependencies))
