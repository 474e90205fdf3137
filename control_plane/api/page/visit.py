"""Who looks at the page, by the cookie, and whether a form was sent by one of our own pages."""

import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final
from urllib.parse import parse_qs, urlsplit

import orjson
from fastapi import Depends, Request, Response

from control_plane import page_sessions
from control_plane.api.bodies import read_bytes
from control_plane.api.own_api import Answer, OwnApi
from control_plane.api.page.rendering import POLICY, render
from control_plane.api.parts import Parts, PartsOf
from control_plane.callers import Caller
from control_plane.refusals import ControlCode, Refused

COOKIE: Final = "sallyport_page"
CSRF_FIELD: Final = "csrf"
# The bindings of a version are the largest form, as they are the largest body.
MAX_FORM_BYTES: Final = 512 * 1024
MAX_FORM_FIELDS: Final = 10_000
# What a form says when it was done, by the word in the URL; another word says nothing.
NOTICES: Final[Mapping[str, str]] = {
    "saved": "Saved.",
    "secrets": "The secrets are stored. No page shows them again.",
    "connected": "Connected.",
    "rotated": "The secret is replaced. Gateways ask for the new one.",
    "revoked": "Revoked, and its secrets are forgotten.",
    "deleted": "Deleted.",
    "made": "Made.",
    "ended": "Ended. Sessions that began with it end too.",
}

type Document = dict[str, Any]


class LoginNeeded(Exception):
    """Nobody is logged in."""


class Failed(Exception):
    """What a page is made of cannot be had; the problem document says why."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"{answer.status} {answer.document.get('code')}")
        self.answer = answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One request of somebody who is logged in."""

    request: Request
    parts: Parts
    api: OwnApi
    caller: Caller
    csrf_token: str

    async def ask(
        self, method: str, path: str, body: object = None, query: Mapping[str, str | None] | None = None
    ) -> Answer:
        """Ask the API, and return what it answers."""
        given = {name: value for name, value in (query or {}).items() if value is not None}
        return await self.api.ask(self.request, self.caller, method, path, body=body, query=given)

    async def read(self, path: str, **query: str | None) -> Document:
        """Return what the API has at a path. Raises Failed."""
        answer = await self.ask("GET", path, query=query)
        if not answer.is_good:
            raise Failed(answer)
        return answer.document

    async def form(
        self, target_key: str, kind: str, value: Mapping[str, object], connection_id: str | None = None
    ) -> Document | None:
        """Return a form of a target as it is for what stands in it; None where the target can have none."""
        # What is secret is asked for without being told what there is.
        given = None if kind == "secret" else orjson.dumps(value).decode()
        query = {"value": given, "connectionId": connection_id}
        answer = await self.ask("GET", f"/v1/integration/targets/{target_key}/forms/{kind}", query=query)
        return answer.document if answer.is_good else None

    def show(self, template: str, status: int = 200, *, policy: str = POLICY, **context: object) -> Response:
        """Return a page."""
        notice = NOTICES.get(self.request.query_params.get("done", ""))
        about: Document = {"visit": self, "notice": notice, "section": re.split("[_.]", template)[0]}
        return render(template, status, policy=policy, **about, **context)


class Form:
    """What a form carried: each name with its values, in order."""

    def __init__(self, values: Mapping[str, Sequence[str]]) -> None:
        self.values = values

    def __repr__(self) -> str:
        return f"<Form with {len(self.values)} fields>"  # and not what is in them, which may be secret

    def text(self, name: str) -> str:
        """Return the first value of a name, empty where there is none."""
        return next(iter(self.values.get(name, ())), "").strip()

    def number(self, name: str) -> int:
        """Return a number, 0 where there is none."""
        text = self.text(name)
        return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else 0

    def names(self, prefix: str) -> Mapping[str, str]:
        """Return the filled fields below a prefix, without it."""
        found = {
            name.removeprefix(prefix): values[0] for name, values in self.values.items() if name.startswith(prefix)
        }
        return {name: value for name, value in found.items() if value}


async def visit(request: Request, parts: PartsOf) -> Visit:
    """Return who looks. Raises LoginNeeded, or Refused where he asks too often."""
    cookie = request.cookies.get(COOKIE)
    now = parts.now()
    session = None if cookie is None else await page_sessions.find(parts.database, cookie, now)
    if session is None:
        raise LoginNeeded
    parts.rates.count_request(session.caller, now)
    api: OwnApi = request.app.state.own_api
    return Visit(request=request, parts=parts, api=api, caller=session.caller, csrf_token=session.csrf_token)


async def read_form(request: Request, parts: Parts) -> Form:
    """Return what one of our own pages sent. Raises Refused."""
    refuse_foreign_origin(request, parts.public_url)
    data = await read_bytes(request, MAX_FORM_BYTES)
    try:
        found = parse_qs(data.decode("utf-8"), keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS)
    except ValueError:
        raise Refused(ControlCode.INVALID_REQUEST, "the form cannot be read") from None
    return Form(found)


async def _form(request: Request, here: "Visitor") -> Form:
    form = await read_form(request, here.parts)
    if not hmac.compare_digest(form.text(CSRF_FIELD).encode(), here.csrf_token.encode()):
        raise Refused(ControlCode.FORBIDDEN, "the form is of another login; go back, reload the page, send it again")
    return form


def refuse_foreign_origin(request: Request, public_url: str) -> None:
    """Raise Refused unless the request comes from a page of this host. Browsers name the origin with every form."""
    origins = request.headers.getlist("Origin")
    origin = urlsplit(origins[0]) if len(origins) == 1 else None
    allowed = {urlsplit(public_url).netloc, request.headers.get("Host", "")}
    if origin is None or origin.scheme not in ("http", "https") or origin.netloc not in allowed:
        raise Refused(ControlCode.FORBIDDEN, "the form does not come from a page of this host")


Visitor = Annotated[Visit, Depends(visit)]
PostedForm = Annotated[Form, Depends(_form)]
