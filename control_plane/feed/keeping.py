"""Keeps what instances are served in line with what they have and what runs.

What is served is what is kept in `feed_entries`, so a change of it and its record are one transaction. It is looked at
when a feed is asked for, whenever something was committed here that may matter, and every LOOK_SECONDS in any case:
a lease that has run out tells nobody. Whoever finds a difference writes it down; of two that find it, one does.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from control_plane.feed import changes
from control_plane.feed.merge import (
    SERVING,
    InSandbox,
    Kind,
    Listed,
    Merged,
    Owned,
    Reported,
    Runtime,
    differences,
    merge,
)
from control_plane.feed.tiers import Tier
from control_plane.leases import LEASE_SECONDS
from control_plane.rounds import work_in_rounds
from control_plane.store import feed as rows
from control_plane.store import workers as worker_rows
from control_plane.store.database import Database, Transaction
from control_plane.store.models import InstanceServer, Worker
from control_plane.workers import Registered, RegisteredServer, Workers, WorkerState

LOOK_SECONDS: Final = 1.0
RUNNING: Final = "running"
STOPPED: Final = "stopped"


class Served(NamedTuple):
    """What an instance is served, at a revision."""

    entries: Sequence[Listed]
    revision: int
    is_stale: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sighting:
    """What runs, of all organizations."""

    registered: Registered
    # (organization, sandbox, server): inside a sandbox that a gateway has a tunnel to, or run for one by a worker.
    in_sandboxes: Sequence[tuple[str, InSandbox]]
    is_settling: bool

    def of(self, organization_id: str) -> Runtime:
        """Return what concerns one organization."""
        own = [server for owner, server in self.in_sandboxes if owner == organization_id]
        reported = [_reported(each) for each in self.registered.servers]
        lost = {each.worker_id for each in self.registered.lost}
        by_place = {(each.worker_id, each.server_id): each for each in reported}
        return Runtime(reported=by_place, in_sandboxes=own, lost=lost, is_settling=self.is_settling)


class FeedKeeper:
    """One in each replica. built_in_url: where the control plane's own MCP server is, None until that is known."""

    def __init__(
        self,
        database: Database,
        workers: Workers,
        now: Callable[[], float],
        *,
        built_in_url: str | None = None,
        settle_seconds: float = LEASE_SECONDS,
    ) -> None:
        self._database = database
        self._workers = workers
        self._now = now
        self.built_in_url = built_in_url
        # Until then gateways that were there before this process may not have reported to it.
        self._settled_at = now() + settle_seconds
        self._woken = asyncio.Event()
        database.subscribe(self._woken.set)

    async def served(self, instance_id: str) -> Served:
        """Return what an instance is served, brought in line first. Raises DatabaseUnavailable."""
        async with self._database.read() as tx:
            revision = await rows.revision(tx, instance_id)
            known = await _known(tx, instance_id)
            instance = await rows.instance(tx, instance_id)
            if instance is None:
                return Served((), revision, is_stale=False)
            merged = await self._merged(tx, instance_id, instance.organization_id, known, await self._sight(tx))
        if merged.entries == known:
            return Served(list(known.values()), revision, merged.is_stale)
        async with self._database.write() as tx:
            is_stale = await self.bring_in_line(tx, instance_id)
            after = await _known(tx, instance_id)
            return Served(list(after.values()), await rows.revision(tx, instance_id), is_stale)

    async def bring_in_line(self, tx: Transaction, instance_id: str) -> bool:
        """Serve an instance what it is to be served now, and record what that changes; say whether it is stale.

        The instance's row is locked from here to the commit.
        """
        instance = await rows.instance(tx, instance_id, lock=True)
        if instance is None:
            return False
        known = await _known(tx, instance_id)
        merged = await self._merged(tx, instance_id, instance.organization_id, known, await self._sight(tx))
        await self._record(tx, instance_id, known, merged.entries)
        return merged.is_stale

    async def look(self) -> int:
        """Bring every instance in line; return how many were not. Raises DatabaseUnavailable."""
        async with self._database.read() as tx:
            sighting = await self._sight(tx)
            differing = []
            for instance_id, organization_id in await rows.all_instances(tx):
                known = await _known(tx, instance_id)
                merged = await self._merged(tx, instance_id, organization_id, known, sighting)
                if merged.entries != known:
                    differing.append(instance_id)
        for instance_id in differing:
            async with self._database.write() as tx:
                await self.bring_in_line(tx, instance_id)
        return len(differing)

    async def run(self) -> None:
        """Look for ever."""
        await work_in_rounds(self.look, self._woken, LOOK_SECONDS, "feed_database_unavailable")

    # ------------------------------------------------------------------------------------------------------------------

    async def _merged(
        self, tx: Transaction, instance_id: str, organization_id: str, known: Mapping[str, Listed], sighting: _Sighting
    ) -> Merged:
        owned = [_owned(row) for row in await rows.servers_of(tx, instance_id)]
        return merge(owned, sighting.of(organization_id), known, self.built_in_url)

    async def _sight(self, tx: Transaction) -> _Sighting:
        now = self._now()
        registered = await self._workers.registered_in(tx)
        live = await worker_rows.live_by_load(tx, WorkerState.LIVE, now)
        # Any front reaches every sandbox; always the same one, so that addresses stay.
        fronts = [each.front_url for each in sorted(live, key=_id) if each.front_url is not None]
        found: list[tuple[str, InSandbox]] = []
        if fronts:
            for each in await rows.sandbox_servers(tx, now):
                server = InSandbox(each.sandbox_id, each.server_id, fronts[0], is_held=each.is_held)
                found.append((each.organization_id, server))
        found += await _run_for_sandboxes(tx, registered.servers)
        return _Sighting(registered=registered, in_sandboxes=found, is_settling=now < self._settled_at)

    async def _record(
        self, tx: Transaction, instance_id: str, known: Mapping[str, Listed], entries: Mapping[str, Listed]
    ) -> None:
        gone = [name for name, entry in known.items() if entries.get(name) != entry]
        come = [rows.EntryRow(*entry) for name, entry in entries.items() if known.get(name) != entry]
        if not gone and not come:
            return
        await rows.replace_entries(tx, instance_id, gone, come)
        sandboxes = [entry.subject for entry in known.values() if entry.kind is Kind.SANDBOX]
        alive = await rows.organizations_of(tx, sandboxes)
        destroyed = {sandbox_id for sandbox_id in sandboxes if sandbox_id not in alive}
        for each in differences(known, entries, destroyed):
            await changes.record(
                tx,
                instance_id,
                each.event,
                added=[_told(entry) for entry in each.added],
                removed=[_told(entry) for entry in each.removed],
                meta=each.meta,
                now=self._now(),
            )

    def __repr__(self) -> str:
        return "<FeedKeeper>"


async def _known(tx: Transaction, instance_id: str) -> dict[str, Listed]:
    return {row.name: _listed(row) for row in await rows.entries_of(tx, instance_id)}


async def _run_for_sandboxes(tx: Transaction, servers: Sequence[RegisteredServer]) -> list[tuple[str, InSandbox]]:
    """Return what workers run for sandboxes: it is listed while it runs, whether or not a gateway holds the sandbox."""
    found = [
        InSandbox(each.sandbox_id, each.server_id, each.front_url, Tier(each.tier))
        for each in servers
        if each.sandbox_id is not None and each.front_url is not None and each.status in SERVING
    ]
    owners = await rows.organizations_of(tx, sorted({each.sandbox_id for each in found}))
    return [(owners[each.sandbox_id], each) for each in found if each.sandbox_id in owners]


def _id(worker: Worker) -> str:
    return worker.worker_id


def _reported(server: RegisteredServer) -> Reported:
    return Reported(server.worker_id, server.server_id, Tier(server.tier), server.status, server.front_url)


def _owned(row: InstanceServer) -> Owned:
    kind, subject = (Kind.SHARED, row.tool_id) if row.user_id is None else (Kind.INSTALLATION, row.id)
    return Owned(
        name=row.name,
        tier=Tier(row.tier),
        user_id=row.user_id,
        kind=kind,
        subject=subject,
        worker_id=row.worker_id,
        server_id=row.id,
        is_wanted=row.desired == RUNNING and not row.removal,
    )


def _listed(row: rows.EntryRow) -> Listed:
    return Listed(row.name, row.url, Tier(row.tier), row.user_id, Kind(row.kind), row.subject)


def _told(entry: Listed) -> changes.Entry:
    return changes.Entry(entry.name, config_of(entry.url), entry.tier, entry.user_id)


def config_of(url: str) -> dict[str, str]:
    """Return a server as a client reads it."""
    return {"type": "streamable", "url": url}
