"""The changes of what an instance is served: counted, and kept for whoever tells subscribers of them.

This is an outbox. The transaction that changes what is served records the change, and never goes without it; the
instance's row is locked, so revisions have no holes and come in the order of commits. A revision is the `seq` of a
push.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import orjson

from control_plane.feed.tiers import Tier
from control_plane.store import feed_changes as rows
from control_plane.store.database import Transaction
from control_plane.store.models import FeedChange

# Of one instance. Who is further behind reads the feed instead.
KEPT: Final = 1_000
# The event that wakes whoever tails the changes (store/events.py); gateways, which see it too, do not know it.
EVENT: Final = "feed_changed"


class Entry(NamedTuple):
    """A server as a change tells it. user_id is None where every user of the instance has it."""

    name: str
    config: Mapping[str, str]
    tier: Tier
    user_id: str | None


class Change(NamedTuple):
    """One change: removed is applied before added. It holds what no key of the tier standard may see.

    at is when it was recorded, in unix seconds.
    """

    revision: int
    event: str
    added: tuple[Entry, ...]
    removed: tuple[Entry, ...]
    meta: Mapping[str, str]
    at: int

    def seen_by(self, tier: Tier) -> "Change":
        """Return what a key of a tier may see of it: without entries it is nothing to tell, and meta is empty then."""
        if tier is Tier.ADMIN:
            return self
        added = tuple(each for each in self.added if tier.sees(each.tier))
        removed = tuple(each for each in self.removed if tier.sees(each.tier))
        meta = self.meta if len(added) + len(removed) == len(self.added) + len(self.removed) else {}
        return self._replace(added=added, removed=removed, meta=meta)


async def record(
    tx: Transaction,
    instance_id: str,
    event: str,
    *,
    added: Sequence[Entry],
    removed: Sequence[Entry],
    meta: Mapping[str, str],
    now: float,
) -> int:
    """Record a change and return its revision: the instance's next one, whose row stays locked until the commit."""
    revision = await rows.next_revision(tx, instance_id)
    change = FeedChange(
        instance_id=instance_id,
        revision=revision,
        event=event,
        added=_written(added),
        removed=_written(removed),
        meta=orjson.dumps(dict(meta)).decode(),
        at=int(now),
    )
    await tx.add(change)
    await rows.forget_up_to(tx, instance_id, revision - KEPT)
    tx.emit(EVENT, {"instanceId": instance_id, "revision": revision}, now)
    return revision


async def changes_after(tx: Transaction, instance_id: str, revision: int, limit: int) -> list[Change]:
    """Return changes behind a revision, in order. The first is not the next one where that is kept no more."""
    return [_change(row) for row in await rows.changes_after(tx, instance_id, revision, limit)]


def _change(row: FeedChange) -> Change:
    return Change(row.revision, row.event, _read(row.added), _read(row.removed), orjson.loads(row.meta), row.at)


def _written(entries: Sequence[Entry]) -> str:
    return orjson.dumps([each._asdict() for each in entries]).decode()


def _read(text: str) -> tuple[Entry, ...]:
    return tuple(Entry(**each | {"tier": Tier(each["tier"])}) for each in orjson.loads(text))
