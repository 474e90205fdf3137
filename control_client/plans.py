"""Plans of the control plane: the stream that announces them, and their bodies (contracts section 5)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final, NamedTuple
from urllib.parse import quote

import aiohttp

from control_client.errors import UNREACHABLE, ControlError, unexpected
from control_client.event_stream import Event, EventStream
from control_client.members import Members, read_object
from control_client.session import ControlSession

# The control plane sends a comment every 10 s when nothing else happens; three missed and the stream is dead.
IDLE_SECONDS: Final = 30.0
# contracts section 1: a plan is at most 2 MiB.
MAX_PLAN_BYTES: Final = 2 * 1024 * 1024
MAX_SANDBOXES: Final = 1_000_000
MAX_REVOCATIONS: Final = 200_000
# All events but a snapshot are a line long.
MAX_SMALL_EVENT_BYTES: Final = 16 * 1024
# A larger document is parsed on a thread: ten milliseconds of parsing would hold up every stream of the gateway.
PARSE_HERE_BYTES: Final = 64 * 1024
REVOCATION_KINDS: Final = frozenset({"jti", "sid", "sandbox", "connection", "binding"})
INVALIDATION_KINDS: Final = frozenset({"connection", "binding", "organization", "all"})
# What two organizations may call alike, and orders therefore say the organization of.
ORGANIZATION_KINDS: Final = frozenset({"connection", "binding"})
# Orders are read strictly, and so a control plane names organizations only to who says that it reads them.
WATCH_HEADER: Final = "Sallyport-Watch"
WATCH_WORD: Final = "organizations"


class AnnouncedPlan(NamedTuple):
    """A plan as the stream names it; its body is fetched."""

    sandbox_id: str
    revision: int
    digest: str


class Revoked(NamedTuple):
    """A token, lineage, sandbox, connection or binding out of service until an instant in unix seconds.

    organization_id narrows a connection or binding to that organization's; None means all that bear the id.
    """

    kind: str
    revoked_id: str
    until: int
    organization_id: str | None = None


class Snapshot(NamedTuple):
    """Everything that is announced now; what it does not name is gone."""

    plans: tuple[AnnouncedPlan, ...]
    revocations: tuple[Revoked, ...]


class PlanRemoved(NamedTuple):
    """A sandbox has no plan any more."""

    sandbox_id: str


class Invalidated(NamedTuple):
    """Credentials to forget; kind `all` has no id. organization_id is as in Revoked."""

    kind: str
    name: str | None
    organization_id: str | None = None


type WatchEvent = Snapshot | AnnouncedPlan | PlanRemoved | Revoked | Invalidated


class Heard(NamedTuple):
    """An event, and the id to resume behind it."""

    event: WatchEvent
    event_id: str | None


class PlanWatch:
    """An open watch stream."""

    def __init__(self, response: aiohttp.ClientResponse, idle_seconds: float) -> None:
        self._content = response.content
        self._idle_seconds = idle_seconds
        self._stream = EventStream()

    async def next(self) -> list[Heard]:
        """Wait for more and return its events in order; none for a heartbeat. Raises ControlError, also at the end."""
        try:
            async with asyncio.timeout(self._idle_seconds):
                chunk = await self._content.readany()
        except TimeoutError:
            detail = f"the watch stream was silent for {self._idle_seconds:g} s"
            raise ControlError(UNREACHABLE, temporary=True, detail=detail) from None
        if not chunk:
            raise ControlError(UNREACHABLE, temporary=True, detail="the watch stream has ended")
        heard = []
        for event in self._stream.feed(chunk):
            read = await _read_event(event)
            if read is not None:
                heard.append(Heard(read, event.event_id))
        return heard


@contextlib.asynccontextmanager
async def open_watch(
    session: ControlSession, last_event_id: str | None, *, idle_seconds: float = IDLE_SECONDS
) -> AsyncIterator[PlanWatch]:
    """Open the watch stream, behind last_event_id where one is given; raises ControlError."""
    headers = {"Accept": "text/event-stream", "Cache-Control": "no-store", WATCH_HEADER: WATCH_WORD}
    if last_event_id is not None:
        headers["Last-Event-ID"] = last_event_id
    # Where nothing was missed there may be nothing to say before the first heartbeat, whatever stands in between.
    async with session.stream("watch", "/internal/plans/watch", headers, open_seconds=idle_seconds) as response:
        if response.content_type != "text/event-stream":
            raise unexpected("the watch stream is no event stream")
        yield PlanWatch(response, idle_seconds)


async def fetch_plan(session: ControlSession, sandbox_id: str, *, most_bytes: int = MAX_PLAN_BYTES) -> bytes:
    """Return the plan document of a sandbox byte for byte; raises ControlError."""
    path = f"/internal/sandboxes/{quote(sandbox_id, safe='')}/plan"
    return (await session.ask("plan", "GET", path, most_bytes=most_bytes)).body


async def _read_event(event: Event) -> WatchEvent | None:
    if event.name != "snapshot" and len(event.data) > MAX_SMALL_EVENT_BYTES:
        raise unexpected("an event larger than its kind can be")
    if len(event.data) <= PARSE_HERE_BYTES:
        return read_event(event.name, event.data)
    return await asyncio.to_thread(read_event, event.name, event.data)


def read_event(name: str, data: bytes) -> WatchEvent | None:
    """Read one event strictly; None for a name that is not known here. Raises ControlError."""
    reader = _READERS.get(name)
    if reader is None:
        return None
    members = read_object(data)
    event = reader(members)
    members.end()
    return event


def _snapshot(members: Members) -> Snapshot:
    return Snapshot(
        tuple(_whole(item, _plan) for item in members.objects("plans", most=MAX_SANDBOXES)),
        tuple(_whole(item, _revoked) for item in members.objects("revocations", most=MAX_REVOCATIONS)),
    )


def _plan(members: Members) -> AnnouncedPlan:
    return AnnouncedPlan(members.text("sandboxId"), members.integer("revision", least=1), members.text("digest"))


def _removed(members: Members) -> PlanRemoved:
    return PlanRemoved(members.text("sandboxId"))


def _revoked(members: Members) -> Revoked:
    kind = members.word("kind", REVOCATION_KINDS)
    return Revoked(kind, members.text("id"), members.instant("until"), _organization(members, kind))


def _invalidated(members: Members) -> Invalidated:
    kind = members.word("kind", INVALIDATION_KINDS)
    name = members.optional_text("id") if kind == "all" else members.text("id")
    return Invalidated(kind, name, _organization(members, kind))


def _organization(members: Members, kind: str) -> str | None:
    """Take the organization where one may stand; elsewhere it is a member that nobody knows."""
    return members.optional_text("organizationId") if kind in ORGANIZATION_KINDS else None


def _whole[T](members: Members, read: Callable[[Members], T]) -> T:
    value = read(members)
    members.end()
    return value


_READERS: Final[Mapping[str, Callable[[Members], WatchEvent]]] = {
    "snapshot": _snapshot,
    "plan": _plan,
    "plan_removed": _removed,
    "revocation": _revoked,
    "invalidation": _invalidated,
}
