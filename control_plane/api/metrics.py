"""Requests counted as they are answered, and `/metrics` for whoever scrapes: on a listener of its own."""

from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from control_plane.metrics import CONTENT_TYPE, ControlMetrics
from control_plane.store import webhook_deliveries
from control_plane.store.database import Database, DatabaseUnavailable
from sallyport.net.clock import read_clock

# What nobody serves has no path that could be a label, and a method that is none of ours may be any word.
NO_ROUTE: Final = "none"
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class CountedRequests:
    """Counts each request by the head of its answer; one that is never answered was failed."""

    def __init__(self, app: ASGIApp, metrics: ControlMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, seconds = read_clock(), 500, 0.0

        async def send_counted(message: Message) -> None:
            nonlocal status, seconds
            if message["type"] == "http.response.start":
                status, seconds = message["status"], read_clock() - began
            await send(message)

        try:
            await self._app(scope, receive, send_counted)
        finally:
            method = scope["method"] if scope["method"] in METHODS else "other"
            self._metrics.answered(method, _route(scope), status, seconds or read_clock() - began)


def build_metrics(metrics: ControlMetrics, database: Database) -> Starlette:
    """Build the application of the metrics' listener."""

    async def scrape(_: Request) -> Response:
        try:
            async with database.read() as tx:
                metrics.deliveries_pending = await webhook_deliveries.count_pending(tx)
        except DatabaseUnavailable:
            metrics.deliveries_pending = None  # and the error is counted
        return Response(metrics.render(), headers={"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"})

    return Starlette(routes=[Route("/metrics", scrape)])


def _route(scope: Scope) -> str:
    route = scope.get("route")
    return f"{scope.get('root_path', '')}{route.path}" if isinstance(route, Route) else NO_ROUTE
