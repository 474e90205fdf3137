"""The API as the page and the built-in server ask it: in this process, with every check that any caller meets."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import orjson
from fastapi import Request
from starlette.types import ASGIApp, Message

from control_plane.api.caller import SCOPE_KEY
from control_plane.callers import Caller


class Answer(NamedTuple):
    """A status, and the document: what was asked for, or a problem."""

    status: int
    document: dict[str, Any]

    @property
    def is_good(self) -> bool:
        """Whether it is what was asked for."""
        return self.status < 400

    @property
    def issues(self) -> Sequence[Mapping[str, str]]:
        """What is wrong, in order."""
        found: Sequence[Mapping[str, str]] = self.document.get("issues", ())
        return found


class OwnApi:
    """Asks the application that a request came to."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def ask(
        self,
        request: Request,
        caller: Caller,
        method: str,
        path: str,
        *,
        body: object = None,
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        """Ask for `path`, whose variable parts are ids, and return the answer, by the id of the outer request."""
        sent = b"" if body is None else orjson.dumps(body)
        scope = {
            "type": "http",
            "asgi": request.scope["asgi"],
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": quote(path).encode("ascii"),
            "query_string": urlencode(query or {}).encode("ascii"),
            "root_path": "",
            "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(sent)).encode("ascii"))],
            "client": request.scope.get("client"),
            "server": request.scope.get("server"),
            "sallyport.request_id": request.scope["sallyport.request_id"],
            SCOPE_KEY: caller,
        }
        exchange = _Exchange(sent)
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except Exception:
            # own_fault has told it and answered; the framework raises it again all the same.
            if not exchange.is_answered:
                raise
        return exchange.answer()


class _Exchange:
    """One request's body and its answer, both whole."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self.is_answered = False
        self._status = 0
        self._answer = bytearray()

    async def receive(self) -> Message:
        if self._body is None:
            return {"type": "http.disconnect"}
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
        else:
            self._answer += message.get("body", b"")
            self.is_answered = not message.get("more_body", False)

    def answer(self) -> Answer:
        return Answer(self._status, orjson.loads(bytes(self._answer)) if self._answer else {})
