"""Instances whose feed changes, subscribers of it, and an emitter by a test's own clock."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from ipaddress import ip_network
from typing import Any, Final

from sqlalchemy import select

from control_plane.feed.changes import Entry, record
from control_plane.feed.tiers import Tier
from control_plane.foundation import Foundation
from control_plane.outbound.checked_session import CheckedSession
from control_plane.push.emitter import Emitter
from control_plane.push.subscribers import PushSubscribers
from control_plane.store.models import Instance, PushSubscriber
from sallyport.address_policy import AddressPolicy
from sallyport.net.dial import Dialer
from sallyport.net.resolve import Resolver
from sallyport.net.tls import client_context
from tests.support.control_plane import NOW, ORGANIZATION
from tests.support.subscriber import Subscriber, Told
from tests.support.until import until

INSTANCE: Final = "inst_1"
COLLAPSE_AFTER: Final = 3


def entry(name: str, tier: Tier = Tier.STANDARD, user_id: str | None = None) -> Entry:
    """Return a server of the feed."""
    return Entry(name, {"type": "streamable", "url": f"http://127.0.0.1:1/mcp/{name}"}, tier, user_id)


async def make_instance(
    base: Foundation, instance_id: str = INSTANCE, organization_id: str = ORGANIZATION, revision: int = 0
) -> None:
    """Make an instance that is served nothing."""
    row = Instance(id=instance_id, organization_id=organization_id, display_name=None, revision=revision, created_at=1)
    async with base.database.write() as tx:
        await tx.add(row)


async def change(
    base: Foundation,
    event: str,
    *,
    added: Sequence[Entry] = (),
    removed: Sequence[Entry] = (),
    meta: Mapping[str, str] | None = None,
    instance_id: str = INSTANCE,
) -> int:
    """Record a change as the feed does, and return its revision."""
    async with base.database.write() as tx:
        return await record(tx, instance_id, event, added=added, removed=removed, meta=meta or {}, now=NOW)


class PushStage:
    """One replica, and a receiver of pushes."""

    def __init__(self, base: Foundation, subscriber: Subscriber, owner: str = "replica-1") -> None:
        self.base = base
        self.subscriber = subscriber
        self.now = NOW
        self.attempts: list[tuple[str, float | None]] = []
        dialer = Dialer(AddressPolicy(allow=(ip_network("127.0.0.0/8"),)), Resolver())
        trust = client_context(str(subscriber.ca_file))
        self.session = CheckedSession(dialer, trust, is_plain_on_loopback=True)
        self.desk = PushSubscribers(base.database, base.vault)
        self.emitter = Emitter(
            *(base.database, base.vault, self.session, lambda: self.now, owner, self._attempted),
            timeout_seconds=5.0,
            collapse_after=COLLAPSE_AFTER,
        )

    def _attempted(self, result: str, seconds: float | None) -> None:
        self.attempts.append((result, seconds))

    async def subscribe(
        self,
        path: str = "/push",
        *events: str,
        tier: Tier = Tier.STANDARD,
        instance_id: str = INSTANCE,
    ) -> tuple[str, str]:
        """Make a subscriber; return its id and its secret."""
        made = await self.desk.create(instance_id, self.subscriber.url(path), tier, events, self.now)
        return str(made["pushSubscriberId"]), str(made["secret"])

    async def started(self, *names: str, tier: Tier = Tier.STANDARD, instance_id: str = INSTANCE) -> None:
        """Let shared tools start, one change each."""
        for name in names:
            await change(
                self.base,
                "shared_tool_started",
                added=[entry(name, tier)],
                meta={"toolId": name},
                instance_id=instance_id,
            )

    async def work(self) -> None:
        """Tell everybody who is due as much as goes in a turn, and wait until it is done."""
        await self.emitter.work()
        await until(lambda: self.emitter.is_idle)

    def heard(self, path: str = "/push") -> list[Told]:
        """Return the pushes at one path."""
        return [each for each in self.subscriber.told if each.path == path]

    def chain(self, path: str = "/push") -> list[tuple[str, int, int]]:
        """Return the pushes at one path, in short: event, prevSeq, seq."""
        return [(each["event"], each["prevSeq"], each["seq"]) for each in self.documents(path)]

    def documents(self, path: str = "/push") -> list[Any]:
        """Return what the pushes at one path say."""
        return [each.document for each in self.heard(path)]

    async def row(self, subscriber_id: str) -> PushSubscriber:
        """Return what is written of a subscriber."""
        async with self.base.database.read() as tx:
            found = await tx.first(select(PushSubscriber).where(PushSubscriber.id == subscriber_id))
        assert found is not None
        return found


@contextlib.asynccontextmanager
async def push_stage(base: Foundation, subscriber: Subscriber, owner: str = "replica-1") -> AsyncIterator[PushStage]:
    """Open one."""
    stage = PushStage(base, subscriber, owner)
    try:
        yield stage
        await until(lambda: stage.emitter.is_idle)
    finally:
        await stage.session.close()
