"""`GET /v1/denials`: the last denials of a sandbox, or of all, as a list or as they come (docs/operations/denials.md).

On the admin listener, because hosts and paths are what sandboxes do. A list ends with a cursor, and one that is given
back as `after` gets what has come since; an event stream has it as the id of each event.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

import structlog
from aiohttp import web

from gateway.admin.refusals import Refused
from gateway.denials import Denial, Denials
from gateway.service_auth import DENIALS_PATH
from sallyport.denial_cursor import is_cursor
from sallyport.problem import Code

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 1000
# How long a denial may wait for a follower to be looked after.
LOOK_SECONDS: Final = 0.25
# A comment, so that both ends learn when the other is gone.
ALIVE_SECONDS: Final = 10.0
WRITE_SECONDS: Final = 30.0
# A control plane asks for lists; followers are people.
MAX_FOLLOWERS: Final = 16

_log = structlog.get_logger(__name__)


class _Query(NamedTuple):
    sandbox_id: str | None
    after: str
    limit: int


def denials_routes(denials: Denials) -> Sequence[web.AbstractRouteDef]:
    """Return the route to add to the admin application."""
    surface = _Surface(denials)
    return [web.get(DENIALS_PATH, surface.get)]


class _Surface:
    """The handler, and how many follow."""

    def __init__(self, denials: Denials) -> None:
        self._denials = denials
        self._followers = 0

    async def get(self, request: web.Request) -> web.StreamResponse:
        query = _read_query(request)
        if "text/event-stream" in request.headers.get("Accept", ""):
            return await self._follow(request, query)
        found = self._denials.after(query.after, query.sandbox_id, most=query.limit)
        items = b",".join(denial.document for denial in found)
        body = b'{"items":[%b],"next":"%b"}' % (items, self._denials.cursor().encode())
        return web.Response(body=body, content_type="application/json", headers={"Cache-Control": "no-store"})

    async def _follow(self, request: web.Request, query: _Query) -> web.StreamResponse:
        if self._followers >= MAX_FOLLOWERS:
            raise Refused(Code.OVERLOADED, f"{MAX_FOLLOWERS} follow already")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        self._followers += 1
        try:
            await response.prepare(request)
            await self._write_all(request, response, query)
            if request.transport is not None:
                await response.write_eof()
        except (ConnectionError, TimeoutError) as error:
            _log.info("follower_lost", reason=type(error).__name__)
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._followers -= 1
        return response

    async def _write_all(self, request: web.Request, response: web.StreamResponse, query: _Query) -> None:
        after, silent_seconds = query.after, ALIVE_SECONDS  # something at once, so that it is known to be open
        while request.transport is not None and not self._denials.is_closed:
            found = self._denials.after(after, query.sandbox_id, most=query.limit)
            after = self._denials.cursor()
            events = b"".join(map(self._event, found))
            if not events and silent_seconds >= ALIVE_SECONDS:
                events = b": alive\n\n"
            if events:
                silent_seconds = 0.0
                async with asyncio.timeout(WRITE_SECONDS):
                    await response.write(events)
            await asyncio.sleep(LOOK_SECONDS)
            silent_seconds += LOOK_SECONDS

    def _event(self, denial: Denial) -> bytes:
        cursor = self._denials.cursor(denial.number).encode()
        return b"id: %b\nevent: denial\ndata: %b\n\n" % (cursor, denial.document)


def _read_query(request: web.Request) -> _Query:
    """Return what is asked for; raises Refused."""
    if set(request.query) - {"sandboxId", "after", "limit"} or len(request.query) != len(set(request.query)):
        raise Refused(Code.INVALID_REQUEST, "the query knows sandboxId, after and limit, each once")
    sandbox_id = request.query.get("sandboxId")
    if sandbox_id is not None and not (0 < len(sandbox_id) <= 256 and sandbox_id.isprintable()):
        raise Refused(Code.INVALID_REQUEST, "sandboxId: write a sandbox's id")
    after = request.headers.get("Last-Event-ID") or request.query.get("after", "")
    if after and not is_cursor(after):
        raise Refused(Code.INVALID_REQUEST, "after: give back the `next` of a list, as it is")
    text = request.query.get("limit", str(DEFAULT_LIMIT))
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 0 < int(text) <= MAX_LIMIT):
        raise Refused(Code.INVALID_REQUEST, f"limit: write a number from 1 to {MAX_LIMIT}")
    return _Query(sandbox_id, after, int(text))
