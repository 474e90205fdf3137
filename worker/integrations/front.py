"""The front: each integration server at a path of its own, over streamable HTTP, for whoever has a key.

A request is checked in this order: the Host and Origin it names, its key, whether the server is there for that key.
What passes is answered by a program, in a session that has a process of its own, or passed on to a server at a URL.
"""

from typing import Final

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from control_client.admissions import SandboxPlace
from sallyport.claims import TokenError
from sallyport.net.tasks import TaskSet
from sallyport.wire.compact_token import bearer_token
from worker.integrations.errors import IntegrationError
from worker.integrations.front_admission import Admitted, CannotAsk, FrontAdmission
from worker.integrations.front_exchange import FrontExchange
from worker.integrations.front_keys import Caller
from worker.integrations.integration import Integration
from worker.integrations.integrations import Integrations
from worker.integrations.manifest import HttpTransport
from worker.integrations.passage import Passage
from worker.integrations.sandbox_passages import SandboxPassages

PATH: Final = "/mcp/"
OPEN_PATH: Final = "/healthz"
LOOPBACK_HOSTS: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})


class Front:
    """The application."""

    def __init__(
        self,
        integrations: Integrations,
        admission: FrontAdmission,
        sandboxes: SandboxPassages,
        tasks: TaskSet,
        *,
        allowed_hosts: frozenset[str] = frozenset(),
        allowed_origins: frozenset[str] = frozenset(),
        most_body_bytes: int,
        most_sessions: int,
    ) -> None:
        self._integrations = integrations
        self._admission = admission
        self._sandboxes = sandboxes
        self._tasks = tasks
        self._hosts = LOOPBACK_HOSTS | {host.lower() for host in allowed_hosts}
        self._origins = allowed_origins
        self._most_body_bytes = most_body_bytes
        self._most_sessions = most_sessions
        self._passages: dict[str, Passage] = {}
        integrations.on_removed = self._close_passage
        integrations.on_ended = self._close_passage

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        refusal = self._refuse_foreigners(headers)
        if refusal is None and scope["path"] == OPEN_PATH:
            refusal = JSONResponse({"status": "ok"})
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        try:
            admitted = await self._admit(headers, scope["path"])
        except CannotAsk:
            await _away("keys cannot be checked at the moment")(scope, receive, send)
            return
        if admitted is None:
            answer = _error(401, "Unauthorized", "send a key as bearer, or as X-API-Key")
            answer.headers["WWW-Authenticate"] = "Bearer"
            await answer(scope, receive, send)
            return
        caller = admitted.caller
        if admitted.sandbox is not None and admitted.server_id is not None:
            request = Request(scope, receive)
            got = await self._to_sandbox(admitted.sandbox, admitted.server_id, request, caller)
            await got(scope, receive, send)
            return
        integration = self._integration(admitted)
        if integration is None:
            await _error(404, "NotFound", "there is no such server")(scope, receive, send)
            return
        if isinstance(integration.stored.manifest.transport, HttpTransport):
            await (await self._passed_on(integration, Request(scope, receive), caller))(scope, receive, send)
            return
        exchange = FrontExchange(scope, receive, send, most_body_bytes=self._most_body_bytes)
        await exchange.run(lambda asked: integration.serve(exchange, asked, caller.name))

    async def close(self) -> None:
        """Close the ways to servers elsewhere."""
        passages, self._passages = self._passages, {}
        for passage in passages.values():
            await passage.close()
        await self._sandboxes.close()

    def _refuse_foreigners(self, headers: Headers) -> JSONResponse | None:
        """Refuse what a web page could send here, by a name rebound to this listener or from its own."""
        if _without_port(headers.get("host", "")).lower() not in self._hosts:
            return _error(421, "ValidationError", "this listener does not answer to that name")
        origin = headers.get("origin")
        if origin is not None and origin not in self._origins:
            return _error(403, "ValidationError", "requests with an Origin come from web pages")
        return None

    async def _admit(self, headers: Headers, path: str) -> Admitted | None:
        key = headers.get("x-api-key")
        if key is None:
            try:
                key = bearer_token(headers.get("authorization", "").encode("latin-1"))
            except TokenError:
                return None
        name = path.removeprefix(PATH).rstrip("/") if path.startswith(PATH) else ""
        return None if key is None else await self._admission.admit(key, name)

    def _integration(self, admitted: Admitted) -> Integration | None:
        """Return the server that is called; None also where it is not there for this caller: the two look the same."""
        if admitted.server_id is None:
            return None
        try:
            integration = self._integrations.find(admitted.server_id)
        except IntegrationError:
            return None
        return integration if admitted.caller.may_call(integration.stored.manifest.tier) else None

    async def _passed_on(self, integration: Integration, request: Request, caller: Caller) -> Response:
        call = integration.call
        if call is None:
            return _not_running()
        passage = self._passages.get(integration.id)
        if passage is None or passage.call != call:
            self._close_passage(integration.id)
            passage = self._passages[integration.id] = integration.passage(call, self._most_sessions)
        return await self._answered(passage, request, caller)

    async def _to_sandbox(self, place: SandboxPlace, server_id: str, request: Request, caller: Caller) -> Response:
        try:
            passage = self._sandboxes.to(place, server_id)
        except IntegrationError as error:
            return JSONResponse(error.to_document(), error.category.status)
        return await self._answered(passage, request, caller)

    async def _answered(self, passage: Passage, request: Request, caller: Caller) -> Response:
        try:
            return await passage.answer(request, caller.name)
        except IntegrationError as error:
            return JSONResponse(error.to_document(), error.category.status)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it

    def _close_passage(self, integration_id: str) -> None:
        passage = self._passages.pop(integration_id, None)
        if passage is not None:
            self._tasks.spawn(passage.close(), name=f"close the way to {integration_id}")

    def __repr__(self) -> str:
        return f"<Front {len(self._passages)} passages>"


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() else host


def _not_running() -> JSONResponse:
    return _away("the server does not run")


def _away(message: str) -> JSONResponse:
    answer = _error(503, "InvalidState", message)
    answer.headers["Retry-After"] = "1"
    return answer


def _error(status: int, category: str, message: str) -> JSONResponse:
    return JSONResponse({"error": {"category": category, "message": message, "details": None}}, status)
