"""What the front does for a server at a URL: pass requests on as they are, with the server's own credentials.

Everything of the protocol goes through, also what the server asks of its client: each caller has a session of its own
with the server.
"""

import ssl
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

import httpx2
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from worker.integrations.errors import provider_error
from worker.integrations.launch import Call

SESSION: Final = "mcp-session-id"
IDLE_SECONDS: Final = 2.0
METHODS: Final = ("POST", "GET", "DELETE")
# What of a request is the protocol's; a caller's key, cookies and addresses are not the server's business.
_UP: Final = frozenset(
    {"accept", "content-type", "mcp-protocol-version", SESSION, "last-event-id", "mcp-method", "mcp-name"}
)
_UP_PREFIX: Final = "mcp-param-"
_DOWN: Final = frozenset({"content-type", "cache-control", SESSION, "allow", "retry-after"})


class Passage:
    """The way to one server. Always: a session stands in `_owners` with the name of the key that began it."""

    def __init__(
        self,
        call: Call,
        trust: ssl.SSLContext,
        *,
        connect_seconds: float,
        answer_seconds: float,
        most_body_bytes: int,
        most_sessions: int,
        most_calls: int,
    ) -> None:
        self.call = call
        self._answer_seconds = answer_seconds
        self._most_body_bytes = most_body_bytes
        self._most_sessions = most_sessions
        self._most_calls = most_calls
        self._open = 0
        self._owners: OrderedDict[str, str] = OrderedDict()
        self._http = httpx2.AsyncClient(
            timeout=httpx2.Timeout(connect_seconds, read=answer_seconds),
            verify=trust,
            proxy=call.proxy_url,
            trust_env=False,
            # Each open stream of a caller holds one. An idle one is not kept as long as servers keep theirs (uvicorn,
            # Node: 5 s): a request would meet its end, and a POST is not sent twice.
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=16, keepalive_expiry=IDLE_SECONDS),
        )

    async def answer(self, request: Request, caller: str) -> Response:
        """Pass one request on; raises IntegrationError for a server that does not answer."""
        if request.method not in METHODS:
            return Response(status_code=405, headers={"Allow": ", ".join(METHODS)})
        session = request.headers.get(SESSION)
        if session is not None and self._owners.get(session) != caller:
            # As the protocol has it for a session that is over: its client begins a new one.
            return Response("Session not found", 404)
        if self._open >= self._most_calls:
            return Response("too many calls", 503, {"Retry-After": "1"})
        body = await self._body(request)
        if body is None:
            return Response("the body is too large", 413)
        headers = {name: value for name, value in request.headers.items() if _goes_up(name)}
        upstream = self._http.build_request(
            request.method,
            self.call.url,
            content=body,
            headers={**headers, "accept-encoding": "identity", **self.call.headers},
        )
        if request.method == "GET":
            # A stream for what the server says by itself may be silent for as long as it likes.
            upstream.extensions["timeout"]["read"] = None
        self._open += 1
        try:
            got = await self._http.send(upstream, stream=True)
            return await self._passed_down(request, got, caller, session)
        except httpx2.HTTPError as error:
            self._open -= 1
            raise provider_error(f"the server does not answer: {type(error).__name__}") from None
        except BaseException:
            self._open -= 1
            raise

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way."""
        return self._open == 0

    async def close(self) -> None:
        """End what is open."""
        await self._http.aclose()

    async def _passed_down(self, request: Request, got: httpx2.Response, caller: str, session: str | None) -> Response:
        if got.status_code in (401, 403, 407) or 300 <= got.status_code < 400:
            # About the worker's credentials, which the caller can do nothing about; and no redirect takes them along.
            await got.aclose()
            raise provider_error(f"the server answers {got.status_code}")
        begun = got.headers.get(SESSION)
        if begun is not None and session is None:
            self._remember(begun, caller)
        if session is not None and (request.method == "DELETE" or got.status_code == 404):
            self._owners.pop(session, None)
        headers = {name: value for name, value in got.headers.items() if name.lower() in _DOWN}
        return _Answer(got, self._release, got.status_code, headers)

    def _release(self) -> None:
        self._open -= 1

    async def _body(self, request: Request) -> bytes | None:
        parts, length = [], 0
        async for part in request.stream():
            length += len(part)
            if length > self._most_body_bytes:
                return None
            parts.append(part)
        return b"".join(parts)

    def _remember(self, session: str, caller: str) -> None:
        self._owners[session] = caller
        while len(self._owners) > self._most_sessions:
            self._owners.popitem(last=False)

    def __repr__(self) -> str:
        return f"<Passage {self.call.url}: {len(self._owners)} sessions>"


def _goes_up(name: str) -> bool:
    return name in _UP or name.startswith(_UP_PREFIX)


class _Answer(StreamingResponse):
    """An answer as it comes. One that breaks off is broken off; however it ends, what it held is given back."""

    def __init__(
        self, got: httpx2.Response, release: Callable[[], None], status: int, headers: Mapping[str, str]
    ) -> None:
        super().__init__(got.aiter_raw(), status, headers)
        self._got = got
        self._release = release

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it (ASGI)."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._release()
            await self._got.aclose()
