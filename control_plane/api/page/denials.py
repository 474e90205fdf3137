"""What gateways denied a sandbox: a list, and what comes after it as server-sent events for the page's script."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

import orjson
from fastapi import APIRouter, Request, Response

from control_plane import page_sessions
from control_plane.api.denials import DenialCursor
from control_plane.api.page.rendering import LIVE_POLICY, fragment
from control_plane.api.page.visit import COOKIE, Visit, Visitor
from control_plane.api.parts import PAGE_MAX, SandboxPath
from control_plane.api.stream import EventStream
from control_plane.refusals import ControlCode, Refused
from sallyport.denial_cursor import is_cursor

router = APIRouter(prefix="/sandboxes/{sandbox_id}/denials")

# How long a denial may wait for the page to ask gateways again.
LOOK_SECONDS: Final = 1.0
# A comment, so that what stands between tells a quiet stream from a dead one.
QUIET_LOOKS: Final = 10
# Then the script comes again by itself, and shows that its session is still good.
STREAM_SECONDS: Final = 600
# Each has a replica's gateways asked once a second.
MAX_STREAMS: Final = 32

type Document = dict[str, Any]


class Shown(NamedTuple):
    """A denial as the template writes it: where it is explained, and which binding comes nearest."""

    denial: Document
    explain: str | None
    bindings: str | None
    binding_id: str | None


class Change(NamedTuple):
    """What the script puts into the page, and how far gateways were read."""

    cursor: str
    rows: str
    gateways: str


class Streams:
    """How many are open."""

    def __init__(self) -> None:
        self.open = 0


@router.get("", response_class=Response)
async def show_denials(sandbox_id: SandboxPath, here: Visitor) -> Response:
    """Show those that gateways keep, the newest first."""
    place = await _place(here, sandbox_id)
    found = await here.read(f"/v1/sandboxes/{sandbox_id}/denials", limit=str(PAGE_MAX))
    stream = f"/page/sandboxes/{sandbox_id}/denials/stream?{urlencode({'cursor': found['nextCursor']})}"
    return here.show(
        "sandboxes_denials.html",
        policy=LIVE_POLICY,
        sandbox=place.sandbox,
        stream=stream,
        items=place.shown(found["items"]),
        gateways=found["gateways"],
    )


@router.get("/stream", response_class=Response)
async def follow_denials(
    sandbox_id: SandboxPath, request: Request, here: Visitor, cursor: DenialCursor = ""
) -> Response:
    """Tell what comes after a cursor, or after the last event that the browser had."""
    streams: Streams = request.app.state.streams
    if streams.open >= MAX_STREAMS:
        raise Refused(ControlCode.OVERLOADED, f"{MAX_STREAMS} pages are live already; reload in a while")
    place = await _place(here, sandbox_id)
    last = request.headers.get("Last-Event-ID", "")
    changes = _changes(here, place, last if is_cursor(last) else cursor, streams)
    ends_at = here.parts.now() + STREAM_SECONDS
    return EventStream(changes, _written, until=lambda: here.parts.now() >= ends_at)


class _Place:
    """A sandbox, and what its denials lead to."""

    def __init__(self, sandbox: Document, plan: Document | None) -> None:
        self.sandbox = sandbox
        self._version: str | None = None
        if "sandboxProfileId" in sandbox:
            self._version = f"/page/profiles/{sandbox['sandboxProfileId']}/versions/{sandbox['version']}"
        routes = () if plan is None else plan["egressRoutes"]
        self._bindings = {each["egressRuleId"]: each["bindingId"] for each in routes}

    def shown(self, items: Sequence[Document]) -> list[Shown]:
        """Return denials, the newest first."""
        return [self._one(each) for each in reversed(items)]

    def _one(self, denial: Document) -> Shown:
        version = self._version
        if version is None:
            return Shown(denial, None, None, None)
        binding_id = self._bindings.get(denial.get("nearest", {}).get("egressRuleId"))
        url = _url(denial)
        explain = None
        if url is not None:
            # What was a CONNECT is a request inside it, whatever its path.
            method = "GET" if denial.get("method") in (None, "CONNECT") else denial["method"]
            explain = f"{version}/explain?{urlencode({'method': method, 'url': url})}"
        return Shown(denial, explain, f"{version}#{binding_id or 'connection'}", binding_id)


async def _place(here: Visit, sandbox_id: str) -> _Place:
    sandbox = await here.read(f"/v1/sandboxes/{sandbox_id}")
    if "plan" not in sandbox:
        return _Place(sandbox, None)
    plan = await here.ask("GET", f"/v1/sandboxes/{sandbox_id}/plans/{sandbox['plan']['revision']}")
    return _Place(sandbox, plan.document if plan.is_good else None)


def _url(denial: Document) -> str | None:
    """Return what was asked for, None where it is not known whole."""
    path = denial.get("path") or "/"
    if "host" not in denial or path.endswith("…") or not path.startswith("/"):
        return None
    host = f"[{denial['host']}]" if ":" in denial["host"] else denial["host"]
    return f"{denial['scheme']}://{host}:{denial['port']}{path}"


async def _changes(here: Visit, place: _Place, cursor: str, streams: Streams) -> AsyncGenerator[list[Change]]:
    """Yield what changes, now and then nothing; until the process, the session or the sandbox ends."""
    path, cookie = f"/v1/sandboxes/{place.sandbox['sandboxId']}/denials", here.request.cookies[COOKIE]
    told, quiet = "", QUIET_LOOKS
    streams.open += 1
    try:
        while not here.parts.watch.is_closed:
            if await page_sessions.find(here.parts.database, cookie, here.parts.now()) is None:
                return
            answer = await here.ask("GET", path, query={"cursor": cursor, "limit": str(PAGE_MAX)})
            if not answer.is_good:
                return
            found = answer.document
            gateways = fragment("denials_gateways.html", gateways=found["gateways"])
            if found["items"] or gateways != told:
                rows = fragment("denials_rows.html", items=place.shown(found["items"]))
                cursor, told, quiet = found["nextCursor"], gateways, 0
                yield [Change(cursor, rows, gateways)]
            elif quiet >= QUIET_LOOKS:
                quiet = 0
                yield []
            quiet += 1
            await asyncio.sleep(LOOK_SECONDS)
    finally:
        streams.open -= 1


def _written(changes: Sequence[Change]) -> bytes:
    return b"".join(
        b"id: %b\nevent: denials\ndata: %b\n\n" % (change.cursor.encode(), orjson.dumps(_data(change)))
        for change in changes
    )


def _data(change: Change) -> Mapping[str, str]:
    return {"rows": change.rows, "gateways": change.gateways}
