"""The watch stream of one replica: one reader of the events' table, any number of subscribers.

The reader looks when it is woken (PostgreSQL's NOTIFY from any replica, or a commit of this process) and every
POLL_SECONDS in any case, so that a lost notification costs no more than that. Each subscriber has a queue of its own;
one whose queue runs over is cut, and resumes by its last id.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Final, NamedTuple

import orjson
import structlog

from control_plane.revocations import document
from control_plane.store import events as rows
from control_plane.store import sandboxes
from control_plane.store.database import Database, DatabaseUnavailable, Transaction
from control_plane.store.models import Event
from sallyport.net.tasks import TaskSet

POLL_SECONDS: Final = 2.0
# A comment each: proxies and gateways tell a quiet stream from a dead one.
HEARTBEAT_SECONDS: Final = 10.0
# How long to wait before listening again where listening failed; until then the poll carries the stream.
LISTEN_AGAIN_SECONDS: Final = 1.0
# Events read at once, and events a subscriber may be behind: some 200 bytes each.
READ_BATCH: Final = 500
QUEUE_EVENTS: Final = 2_000
# A gateway each, with its spares; each costs a queue and a socket.
MAX_SUBSCRIBERS: Final = 1_000

_log = structlog.get_logger(__name__)


class WatchFull(Exception):
    """This replica has MAX_SUBSCRIBERS already."""


class Entry(NamedTuple):
    """One event of the stream."""

    id: int
    kind: str
    data: bytes

    def without_organizations(self) -> "Entry":
        """Return it for a reader that knows of none: its orders are then about all that bear an id."""
        if self.kind not in ("snapshot", "revocation", "invalidation") or b"organizationId" not in self.data:
            return self
        told = orjson.loads(self.data)
        for order in told["revocations"] if self.kind == "snapshot" else [told]:
            order.pop("organizationId", None)
        return self._replace(data=orjson.dumps(told))


class Subscription:
    """One subscriber's queue, in order of ids."""

    def __init__(self) -> None:
        self._queue: deque[Entry] = deque()
        self._wake = asyncio.Event()
        self.is_ended = False

    def offer(self, entry: Entry) -> None:
        """Queue an event; a queue that runs over ends the subscription."""
        if len(self._queue) >= QUEUE_EVENTS:
            _log.warning("watch_subscriber_cut", events=len(self._queue))
            self._queue.clear()
            self.end()
        elif not self.is_ended:
            self._queue.append(entry)
            self._wake.set()

    def end(self) -> None:
        """Let take() return None once the queue is empty."""
        self.is_ended = True
        self._wake.set()

    async def take(self, seconds: float) -> list[Entry] | None:
        """Return what is queued, [] when nothing came in time, None at the end."""
        if not self._queue and not self.is_ended:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
        self._wake.clear()
        entries = list(self._queue)
        self._queue.clear()
        return None if self.is_ended and not entries else entries


class Watch:
    """Reads new events and hands them out. start() and close() once each."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self._database = database
        self._now = now
        self._tasks = TaskSet(_task_failed)
        self._subscriptions: set[Subscription] = set()
        self._wake = asyncio.Event()
        self._last_id = 0
        self._is_closed = False
        database.subscribe(self._wake.set)

    async def start(self) -> None:
        """Begin to read, behind the newest event. Raises DatabaseUnavailable."""
        async with self._database.read() as tx:
            self._last_id = (await rows.known_range(tx)).newest
        self._tasks.spawn(self._read(), name="watch reader")
        if self._database.is_postgresql:
            self._tasks.spawn(self._listen(), name="watch listener")

    @property
    def streams(self) -> int:
        """How many subscribe."""
        return len(self._subscriptions)

    @property
    def is_closed(self) -> bool:
        """Whether the process ends: nothing that has no end of its own goes on."""
        return self._is_closed

    def end_subscriptions(self) -> None:
        """End every stream, so that a server that waits for its answers can stop."""
        self._is_closed = True
        for subscription in self._subscriptions:
            subscription.end()

    async def close(self) -> None:
        """End everything."""
        self.end_subscriptions()
        await self._tasks.close()

    async def subscribe(self, last_id: int | None) -> AsyncGenerator[list[Entry]]:
        """Yield a snapshot, or what happened after last_id where that is still known; then what happens.

        An empty list means that nothing came for a while. Ends when the subscriber is cut. Raises
        DatabaseUnavailable, WatchFull.
        """
        if len(self._subscriptions) >= MAX_SUBSCRIBERS:
            raise WatchFull
        subscription = Subscription()
        # Before the table is read: what is committed in between is in the queue, and perhaps in both.
        self._subscriptions.add(subscription)
        if self._is_closed:
            subscription.end()
        try:
            sent = 0
            async for entries in self._begin(last_id):
                sent = entries[-1].id if entries else sent
                yield entries
            while True:
                taken = await subscription.take(HEARTBEAT_SECONDS)
                if taken is None:
                    return
                entries = [entry for entry in taken if entry.id > sent]
                sent = entries[-1].id if entries else sent
                if entries or not taken:
                    yield entries
        finally:
            self._subscriptions.discard(subscription)

    async def _begin(self, last_id: int | None) -> AsyncIterator[list[Entry]]:
        """Yield the events after last_id page by page, or a snapshot where they are not all known any more."""
        while True:
            snapshot: Entry | None = None
            page: list[Entry] = []
            async with self._database.read() as tx:
                if last_id is not None:
                    page = [_entry(row) for row in await rows.events_after(tx, last_id, READ_BATCH)]
                # Read after the page: what was forgotten in between is noticed. oldest - 1 was the last to be
                # forgotten, and who has it has missed nothing.
                known = await rows.known_range(tx)
                if last_id is None or not known.oldest - 1 <= last_id <= known.newest:
                    snapshot = await self._snapshot(tx, known.newest)
            if snapshot is not None:
                yield [snapshot]
                return
            yield page  # an empty one too: who has missed nothing hears at once that this is so
            if len(page) < READ_BATCH:
                return
            last_id = page[-1].id

    async def _snapshot(self, tx: Transaction, newest: int) -> Entry:
        # `newest` was read first: what is committed since may be in the snapshot and come again, which changes nothing.
        plans = await sandboxes.current_plans(tx)
        revoked = await rows.revocations(tx, self._now())
        told = {
            "plans": [{"sandboxId": each[0], "revision": each[1], "digest": each[2]} for each in plans],
            "revocations": [document(row.kind, row.id, row.until, row.organization_id) for row in revoked],
        }
        return Entry(newest, "snapshot", orjson.dumps(told))

    async def _read(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self._hand_out()
            except DatabaseUnavailable:
                _log.warning("watch_database_unavailable")

    async def _hand_out(self) -> None:
        while True:
            async with self._database.read() as tx:
                page = [_entry(row) for row in await rows.events_after(tx, self._last_id, READ_BATCH)]
            for entry in page:
                self._last_id = entry.id
                for subscription in tuple(self._subscriptions):
                    subscription.offer(entry)
            if len(page) < READ_BATCH:
                return

    async def _listen(self) -> None:
        while True:
            try:
                async with contextlib.aclosing(self._database.notifications()) as notifications:
                    async for _ in notifications:
                        self._wake.set()
            except DatabaseUnavailable:
                pass
            await asyncio.sleep(LISTEN_AGAIN_SECONDS)

    def __repr__(self) -> str:
        return f"<Watch at {self._last_id}, {len(self._subscriptions)} subscribers>"


def _entry(row: Event) -> Entry:
    return Entry(row.id, row.kind, row.body.encode())


def _task_failed(name: str, error: BaseException) -> None:
    _log.error("task_failed", task=name, exc_info=error)
