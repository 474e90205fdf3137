"""`Idempotency-Key` on every POST below /v1 and /api, around all endpoints: no endpoint knows of it."""

import re
from typing import Final

import structlog
from fastapi import Request, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from control_plane.api.bodies import read_bytes
from control_plane.api.caller import identify
from control_plane.api.parts import Parts
from control_plane.api.problems import problem, unavailable
from control_plane.idempotency import Answer, Claim, is_kept
from control_plane.refusals import ControlCode, FieldIssue, Refused
from control_plane.store.database import DatabaseUnavailable
from sallyport.plan.codec import MAX_PLAN_BYTES

HEADER: Final = "Idempotency-Key"
# Below these, POST may carry one.
PREFIXES: Final = ("/v1/", "/api/")
# Tells an answer that was given before.
REPLAYED: Final = "Idempotency-Replayed"
_KEY: Final = re.compile(r"[\x21-\x7E]{1,255}")
# Written by whoever sends the answer.
_OF_THIS_TIME: Final = frozenset({"content-length", "date", "x-request-id"})

_log = structlog.get_logger(__name__)


class Idempotency:
    """Between the request ids and the application."""

    def __init__(self, app: ASGIApp, parts: Parts) -> None:
        self._app = app
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].startswith(PREFIXES):
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        if HEADER not in request.headers:
            await self._app(scope, receive, send)
            return
        try:
            answer = await self._serve(request, send)
        except Refused as refused:
            answer = problem(request, refused)
        except DatabaseUnavailable as error:
            answer = await unavailable(request, error)
        if answer is not None:
            await answer(scope, receive, send)

    async def _serve(self, request: Request, send: Send) -> Response | None:
        """Let the application answer, or return an answer that was given before. Raises Refused."""
        keys = request.headers.getlist(HEADER)
        if len(keys) != 1 or _KEY.fullmatch(keys[0]) is None:
            issue = FieldIssue("malformed", HEADER, "one key of 1 to 255 visible ASCII characters")
            raise Refused(ControlCode.INVALID_REQUEST, "faulty parameters", issues=[issue])
        caller = await identify(request, self._parts)
        body = await read_bytes(request, MAX_PLAN_BYTES)
        target = request.url.path + "?" + request.url.query
        found = await self._parts.answers.begin(caller, keys[0], target.encode() + b"\n" + body, self._parts.now())
        if isinstance(found, Answer):
            return Response(found.body, found.status, {**dict(found.headers), REPLAYED: "true"})
        await self._first(found, request, _Once(body), send)
        return None

    async def _first(self, claim: Claim, request: Request, receive: "_Once", send: Send) -> None:
        """Serve a request and keep its answer before anybody hears of it."""
        heard = _Heard()
        try:
            await self._app(request.scope, receive, heard)
        finally:
            # Also where the application failed: it has answered that all the same.
            await self._end(claim, heard.answer())
            for message in heard.messages:
                await send(message)

    async def _end(self, claim: Claim, answer: Answer | None) -> None:
        try:
            if answer is not None and is_kept(answer.status):
                await self._parts.answers.keep(claim, answer, self._parts.now())
            else:
                await self._parts.answers.give_back(claim)
        except DatabaseUnavailable:
            # It was done and is answered; asked again within a minute it is 409, and later it is done again.
            _log.warning("answer_not_kept", caller=claim.caller_id)


class _Once:
    """Gives the application a body that was read before."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body

    async def __call__(self) -> Message:
        """Return the whole body, and after that that the client is gone: nobody listens any longer than this."""
        if self._body is None:
            return {"type": "http.disconnect"}
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


class _Heard:
    """Takes an answer in place of the client."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def __call__(self, message: Message) -> None:
        """Take one message."""
        self.messages.append(message)

    def answer(self) -> Answer | None:
        """Return the answer, None where it is not whole."""
        if not self.messages or self.messages[-1].get("more_body", False):
            return None
        start, *rest = self.messages
        if start["type"] != "http.response.start" or not rest:
            return None
        headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in start["headers"]]
        kept = [(name, value) for name, value in headers if name not in _OF_THIS_TIME]
        return Answer(start["status"], kept, b"".join(each.get("body", b"") for each in rest))
