"""Servers that come and go under running calls: what is new is built first, then swapped in (contracts section 7).

A link is built beside the one it replaces, with all its tools, and takes its place by one assignment of the view. The
old one goes on until its calls have drained. A server that cannot be built is tried again; until it can, whatever stood
in its place stays.
"""

import asyncio
import random
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import structlog

from control_client.backoff import pause_seconds
from control_client.feed_state import NO_SERVERS, Servers, changes
from control_client.server_link import ServerLink
from control_client.tool_errors import CUT, GONE, UNKNOWN, UNREACHABLE, ServerError, ToolCallError
from control_client.toolset import NOTHING, CallResult, Progress, Tool, View
from sallyport.net.tasks import TaskSet

# Contracts section 7. Calls that take longer than this when their server is replaced are cut.
GRACE_SECONDS: Final = 10.0
CALL_SECONDS: Final = 300.0
# Handshake and every page of tools.
BUILD_SECONDS: Final = 15.0
# A hundred servers at once would be a hundred handshakes; each waits for its turn.
MAX_BUILDS: Final = 16
# How long a call waits for a server that is away, before it is told.
PATIENCE_SECONDS: Final = 10.0
# A server that is told to go and does not is left.
CLOSE_SECONDS: Final = 5.0
# Servers come back in a second or two; one that does not is asked less and less.
MOST_PAUSE_SECONDS: Final = 15.0

_log = structlog.get_logger(__name__)


class LiveTools:
    """The servers of one tier, and their tools. `view` is what stands now; read it whenever it is needed."""

    def __init__(
        self,
        fields_for: Callable[[str], Awaitable[dict[str, str]]],
        *,
        grace_seconds: float = GRACE_SECONDS,
        call_seconds: float = CALL_SECONDS,
        build_seconds: float = BUILD_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        """fields_for(url) gives the header fields of requests to a server."""
        self.view: View = NOTHING
        self._fields_for = fields_for
        self._grace_seconds = grace_seconds
        self._call_seconds = call_seconds
        self._build_seconds = build_seconds
        self._patience_seconds = patience_seconds
        self._trust = trust
        self._servers: Servers = NO_SERVERS
        self._links: dict[str, ServerLink] = {}
        self._runs: dict[ServerLink, asyncio.Task[None]] = {}
        self._building: dict[str, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(MAX_BUILDS)
        self._building_tasks = TaskSet(_task_failed)
        self._link_tasks = TaskSet(_task_failed)
        self._news = asyncio.Event()

    # What callers do ---------------------------------------------------------------------------------

    async def call(
        self, server: str, tool: str, arguments: Mapping[str, Any], *, progress: Progress | None = None
    ) -> CallResult:
        """Call a tool of a server as it stands now; raises ToolCallError.

        While its server is away it waits, and is made again where that does nothing twice: it was not begun, or the
        server says of the tool that a second call changes nothing further. What is cut again may be what cuts it, and
        is not made a third time.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience_seconds
        was_cut = False
        while True:
            number, found = self.view.number, self.view.tools.get((server, tool))
            if found is None:
                raise ToolCallError(UNKNOWN, f"{server}: {tool}")
            try:
                return await found.call(arguments, progress=progress)
            except ToolCallError as error:
                is_cut = error.code == CUT
                is_over = loop.time() >= deadline or (is_cut and was_cut)
                if is_over or not _is_repeated(error, found):
                    raise
                was_cut, refused = was_cut or is_cut, error
            await self._next_view(number, deadline, refused)

    def is_settled(self) -> bool:
        """Whether every server of the set is linked, and nothing is being built."""
        return not self._building and all(name in self._links for name in self._servers)

    async def settled(self) -> View:
        """Wait until every server of the set is linked; return the view."""
        while not self.is_settled():
            await self._news.wait()
        return self.view

    # What the feed does ------------------------------------------------------------------------------

    def apply(self, servers: Servers) -> None:
        """Make these the servers: what is gone leaves the view now, what is new joins it once it is built."""
        differs = changes(self._servers, servers)
        self._servers = servers
        # Also where nothing goes: who waits for the set to be settled looks again.
        self._show(self.view.without(differs.removed) if differs.removed else self.view)
        for name in differs.removed:
            self._stop_building(name)
            if name in self._links:
                self._retire(self._links.pop(name))
        for name, url in differs.changed.items():
            self._stop_building(name)
            link = self._links.get(name)
            # One that moved and moved back is linked to already.
            if link is None or link.url != url or link.is_broken:
                self._build(name, url)

    async def close(self) -> None:
        """End every link, cutting what is open, and wait for all of it."""
        self._servers = NO_SERVERS
        await self._building_tasks.close()
        self._building.clear()
        self._show(self.view.without(self.view.toolsets))
        retiring = [self._retire(link, grace_seconds=0) for link in self._links.values()]
        self._links.clear()
        if retiring:
            await asyncio.wait(retiring)
        await self._link_tasks.close()

    # Building and retiring ---------------------------------------------------------------------------

    def _build(self, name: str, url: str) -> None:
        self._building[name] = self._building_tasks.spawn(self._build_until_ready(name, url), name=f"build {name}")

    def _stop_building(self, name: str) -> None:
        task = self._building.pop(name, None)
        if task is not None:
            task.cancel()

    async def _build_until_ready(self, name: str, url: str) -> None:
        attempt = 0
        while True:
            attempt += 1
            try:
                async with self._turns:
                    await self._build_once(name, url)
                return
            except ServerError as error:
                _log.warning("server_not_ready", server=name, attempt=attempt, detail=str(error))
            await asyncio.sleep(pause_seconds(attempt, random.random(), most_seconds=MOST_PAUSE_SECONDS))

    async def _build_once(self, name: str, url: str) -> None:
        link = ServerLink(
            name,
            url,
            await self._fields_for(url),
            on_broken=self._rebuild,
            call_seconds=self._call_seconds,
            trust=self._trust,
        )
        task = self._runs[link] = self._link_tasks.spawn(link.run(), name=f"link {name}")
        task.add_done_callback(lambda _: self._runs.pop(link, None))
        try:
            async with asyncio.timeout(self._build_seconds):
                toolset = await link.ready()
        except TimeoutError:
            task.cancel()
            raise ServerError(f"not ready within {self._build_seconds:g} s") from None
        except asyncio.CancelledError:
            task.cancel()
            raise
        # From here to the end without an await: whoever looks sees the old link with its tools, or the new one.
        old = self._links.get(name)
        self._links[name] = link
        self._building.pop(name, None)
        self._show(self.view.replaced(toolset))
        if old is not None:
            self._retire(old)

    def _rebuild(self, link: ServerLink) -> None:
        """Build a link anew whose server has gone; the broken one stays listed until then."""
        if self._links.get(link.server) is link and link.server not in self._building:
            _log.warning("server_lost", server=link.server)
            self._build(link.server, self._servers[link.server])

    def _retire(self, link: ServerLink, grace_seconds: float | None = None) -> asyncio.Task[None]:
        grace = self._grace_seconds if grace_seconds is None else grace_seconds
        return self._link_tasks.spawn(self._retire_link(link, grace), name=f"retire {link.server}")

    async def _retire_link(self, link: ServerLink, grace_seconds: float) -> None:
        run = self._runs.get(link)
        await link.retire(grace_seconds)
        if run is not None:
            await asyncio.wait([run], timeout=CLOSE_SECONDS)
            run.cancel()

    def _show(self, view: View) -> None:
        self.view = view
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _next_view(self, number: int, deadline: float, otherwise: ToolCallError) -> None:
        """Wait for another view than this one; raises what was found otherwise once the deadline has come."""
        try:
            async with asyncio.timeout_at(deadline):
                while self.view.number == number:
                    await self._news.wait()
        except TimeoutError:
            raise otherwise from None

    def __repr__(self) -> str:
        return f"<LiveTools: {len(self._links)} links, {len(self._building)} being built, {self.view!r}>"


def _is_repeated(error: ToolCallError, tool: Tool) -> bool:
    return error.code in (GONE, UNREACHABLE) or (error.code == CUT and tool.is_repeatable)


def _task_failed(name: str, error: BaseException) -> None:
    _log.error("task_failed", task=name, exc_info=error)
