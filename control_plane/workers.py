"""Which workers live and which integration servers they run: leases of 30 seconds, renewed by each of them.

A worker is `live` until its lease runs out, then `lost`: what it ran is not served as running any more, but is known
still, because nobody withdrew it. One that ends well is `withdrawn`, and runs nothing. Whoever needs to know of a
change hears of it within the transaction that makes it (`on_change`), or by the event `workers_changed` after that.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal

import orjson
import structlog

from control_plane.refusals import ControlCode, Refused
from control_plane.store import workers as rows
from control_plane.store.database import Database, DatabaseUnavailable, Transaction
from control_plane.store.models import Worker, WorkerServer
from control_plane.store.workers import ServerRow

LEASE_SECONDS: Final = 30
# How late it may be told that a lease has run out.
EXPIRY_SECONDS: Final = 2.0
# The kind of event that says that something else runs now, or somewhere else.
CHANGED: Final = "workers_changed"

_log = structlog.get_logger(__name__)

type Tier = Literal["standard", "admin"]


class WorkerState(StrEnum):
    """What is known of a worker."""

    LIVE = "live"
    LOST = "lost"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedServer:
    """An integration server as its worker reports it; sandbox_id of one that a single sandbox's plan had installed."""

    server_id: str
    tier: str
    status: str
    tools: tuple[str, ...]
    sandbox_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredServer:
    """An integration server where it runs; front_url is None where that worker has no front."""

    worker_id: str
    server_id: str
    tier: str
    status: str
    tools: tuple[str, ...]
    front_url: str | None
    sandbox_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """What runs. `is_verified`: every known worker's lease is fresh; else `lost` has what the others ran at last."""

    servers: Sequence[RegisteredServer]
    lost: Sequence[RegisteredServer]
    is_verified: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerChange:
    """What a worker ran as far as anybody could know, and what it runs now."""

    worker_id: str
    before: Sequence[RegisteredServer]
    after: Sequence[RegisteredServer]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredServer:
    """A server that is to be installed on a worker, as the worker's own install request has it (contracts section 8).

    secrets are references, never values.
    """

    server_id: str
    source: str | Mapping[str, object]
    tier: Tier
    desired: Literal["running", "stopped"]
    arguments: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    def to_document(self) -> dict[str, object]:
        """Return it as the worker reads it."""
        return {
            "serverId": self.server_id,
            "source": self.source,
            "tier": self.tier,
            "desired": self.desired,
            "arguments": list(self.arguments),
            "environment": dict(self.environment),
            "secrets": dict(self.secrets),
        }


type OnChange = Callable[[Transaction, WorkerChange, float], Awaitable[None]]
type Declares = Callable[[Transaction, str], Awaitable[Sequence[DeclaredServer]]]


class Workers:
    """Takes reports, and says what runs where."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self._database = database
        self._now = now
        # Each hears of every change in the transaction that makes it, with the instant; raising undoes the change.
        self.on_change: list[OnChange] = []
        # What is to be installed on a worker; all together are asked.
        self.declares: list[Declares] = []

    async def report(
        self, worker_id: str, *, epoch: int, api_url: str, front_url: str | None, servers: Sequence[ReportedServer]
    ) -> int:
        """Take a worker's report and return for how many seconds it is believed. Raises Refused."""
        now = self._now()
        async with self._database.write() as tx:
            known = await rows.locked(tx, worker_id, WorkerState.WITHDRAWN)
            if known.epoch > epoch:
                raise Refused(ControlCode.LEASE_CONFLICT, "a newer process reports under this id; stop one of the two")
            before = await _running(tx, known)
            known.epoch, known.api_url, known.front_url = epoch, api_url, front_url
            known.state, known.expires_at = WorkerState.LIVE, int(now) + LEASE_SECONDS
            await rows.put_servers(tx, worker_id, {each.server_id: _row(each) for each in servers})
            await self._tell(tx, known, before, now)
        return LEASE_SECONDS

    async def withdraw(self, worker_id: str, epoch: int) -> None:
        """Take a worker out that ends; one that a newer process goes on with stays. Again, it changes nothing."""
        now = self._now()
        async with self._database.write() as tx:
            known = await rows.worker(tx, worker_id, lock=True)
            if known is None or known.epoch > epoch or known.state == WorkerState.WITHDRAWN:
                return
            before = await _running(tx, known)
            # The row stays for a while: an older process that wakes up finds that it is none any more.
            known.epoch, known.state, known.expires_at = epoch, WorkerState.WITHDRAWN, int(now)
            await rows.put_servers(tx, worker_id, {})
            await self._tell(tx, known, before, now)

    async def forget(self, worker_id: str) -> None:
        """Have it as if a worker had never been, so that nobody waits for it. Raises Refused while its lease holds."""
        now = self._now()
        async with self._database.write() as tx:
            known = await rows.worker(tx, worker_id, lock=True)
            if known is None:
                raise Refused(ControlCode.WORKER_NOT_FOUND, "it never registered, or was forgotten")
            if _is_live(known, now):
                raise Refused(ControlCode.WORKER_LIVE, f"end it, or wait until {LEASE_SECONDS} s after its last word")
            before = await _running(tx, known)
            known.state = WorkerState.WITHDRAWN
            await self._tell(tx, known, before, now)
            await tx.delete(known)
            # Also where nothing of it ran: without it what runs is known again.
            tx.emit(CHANGED, {"workerId": worker_id}, now)
        _log.warning("worker_forgotten", worker=worker_id)

    async def lose(self) -> int:
        """Note which leases have run out, and tell of it; return how many. Two replicas that do so do it once."""
        now, lost = self._now(), 0
        async with self._database.read() as tx:
            expired = await rows.ran_out(tx, WorkerState.LIVE, now)
        for worker_id in expired:
            async with self._database.write() as tx:
                known = await rows.worker(tx, worker_id, lock=True)
                if known is None or known.state != WorkerState.LIVE or known.expires_at > now:
                    continue
                before = await _running(tx, known)
                known.state = WorkerState.LOST
                await self._tell(tx, known, before, now)
                lost += 1
            _log.warning("worker_lost", worker=worker_id, servers=len(before))
        return lost

    async def watch_leases(self) -> None:
        """Do that again and again."""
        while True:
            await asyncio.sleep(EXPIRY_SECONDS)
            try:
                await self.lose()
            except DatabaseUnavailable:
                _log.warning("workers_database_unavailable")

    async def registered(self) -> Registered:
        """Return what runs now, of all workers, in order of their ids and its own."""
        async with self._database.read() as tx:
            return await self.registered_in(tx)

    async def registered_in(self, tx: Transaction) -> Registered:
        """Return what runs now, as a transaction sees it."""
        now = self._now()
        known = await rows.known(tx, _KNOWN)
        found = await rows.servers_of_all(tx, _KNOWN)
        return Registered(
            servers=[_registered(worker, server) for worker, server in found if _is_live(worker, now)],
            lost=[_registered(worker, server) for worker, server in found if not _is_live(worker, now)],
            is_verified=all(_is_live(worker, now) for worker in known),
        )

    async def declared(self, worker_id: str) -> Sequence[DeclaredServer]:
        """Return what is to be installed on a worker."""
        async with self._database.read() as tx:
            return [server for declares in self.declares for server in await declares(tx, worker_id)]

    async def find(self, worker_id: str | None) -> tuple[str, str]:
        """Return (id, URL of its API) of a live worker: that one, or who has the fewest servers. Raises Refused."""
        now = self._now()
        async with self._database.read() as tx:
            if worker_id is None:
                live = await rows.live_by_load(tx, WorkerState.LIVE, now)
                if not live:
                    raise Refused(ControlCode.WORKER_UNAVAILABLE, "no worker is registered; start one")
                return live[0].worker_id, live[0].api_url
            known = await rows.worker(tx, worker_id)
        if known is None:
            raise Refused(ControlCode.WORKER_NOT_FOUND, "it never registered, or was away for long")
        if not _is_live(known, now):
            raise Refused(ControlCode.WORKER_UNAVAILABLE, f"{worker_id} is away")
        return known.worker_id, known.api_url

    async def page(self, after: str, limit: int) -> list[dict[str, object]]:
        """Return workers behind an id, with what they run."""
        now = self._now()
        async with self._database.read() as tx:
            found = await rows.page(tx, after, limit)
            return [_document(each, await rows.servers_of(tx, each.worker_id), now) for each in found]

    async def _tell(self, tx: Transaction, worker: Worker, before: Sequence[RegisteredServer], now: float) -> None:
        """Tell of a change, unless nothing has changed."""
        after = await _running(tx, worker)
        if list(before) == after:
            return
        change = WorkerChange(worker_id=worker.worker_id, before=before, after=after)
        for hears in self.on_change:
            await hears(tx, change, now)
        tx.emit(CHANGED, {"workerId": worker.worker_id}, now)


_KNOWN: Final = (WorkerState.LIVE, WorkerState.LOST)


def _is_live(worker: Worker, now: float) -> bool:
    return worker.state == WorkerState.LIVE and worker.expires_at > now


async def _running(tx: Transaction, worker: Worker) -> list[RegisteredServer]:
    """Return what a worker runs as its row says; that a lease has run out is not known before it is noted there."""
    if worker.state != WorkerState.LIVE:
        return []
    return [_registered(worker, server) for server in await rows.servers_of(tx, worker.worker_id)]


def _registered(worker: Worker, server: WorkerServer) -> RegisteredServer:
    return RegisteredServer(
        worker_id=worker.worker_id,
        server_id=server.server_id,
        tier=server.tier,
        status=server.status,
        tools=tuple(orjson.loads(server.tools)),
        front_url=worker.front_url,
        sandbox_id=server.sandbox_id,
    )


def _row(server: ReportedServer) -> ServerRow:
    return ServerRow(server.tier, server.status, orjson.dumps(list(server.tools)).decode(), server.sandbox_id)


def _document(worker: Worker, servers: Sequence[WorkerServer], now: float) -> dict[str, object]:
    # Between the end of a lease and its note in the row, the lease tells.
    state = WorkerState.LOST if worker.state == WorkerState.LIVE and not _is_live(worker, now) else worker.state
    shown: dict[str, object] = {
        "workerId": worker.worker_id,
        "state": str(state),
        "epoch": worker.epoch,
        "apiUrl": worker.api_url,
        "expiresAt": worker.expires_at,
        "servers": [_shown(server) for server in servers],
    }
    return shown | ({"frontUrl": worker.front_url} if worker.front_url is not None else {})


def _shown(server: WorkerServer) -> dict[str, object]:
    shown: dict[str, object] = {
        "serverId": server.server_id,
        "tier": server.tier,
        "status": server.status,
        "tools": orjson.loads(server.tools),
    }
    return shown | ({"sandboxId": server.sandbox_id} if server.sandbox_id is not None else {})
