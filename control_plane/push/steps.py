"""What a subscriber is told next: a change, cut to what it may see, or that it has to read the feed. Pure.

`seq` of a push is the revision of its change, and `prevSeq` the seq of the push before it to the same subscriber about
the same instance. Changes that are nothing to a subscriber are passed over and do not count; so whoever has the push
`prevSeq`, or has read the feed since, has missed nothing.
"""

from collections.abc import Sequence
from typing import NamedTuple

import orjson

from control_plane.feed.changes import Change
from control_plane.feed.tiers import Tier
from control_plane.push.events import CONFIG_CHANGED


class Cursor(NamedTuple):
    """How far a subscriber is with an instance: the revision it was told last, and the one that was looked at last."""

    told: int
    seen: int


class Terms(NamedTuple):
    """What a subscriber wants to hear. No events: all of them."""

    tier: Tier
    events: frozenset[str]


class Step(NamedTuple):
    """What comes next: a push, or nothing to tell up to `seen`."""

    seen: int
    push: "Push | None"


class Push(NamedTuple):
    """One push. change None: it says only that something has changed."""

    seq: int
    prev_seq: int
    change: Change | None

    @property
    def event(self) -> str:
        """What has happened, in the contract's words."""
        return CONFIG_CHANGED if self.change is None else self.change.event

    def message_id(self, instance_id: str) -> str:
        """Return what tells this push from any other; the same in every attempt."""
        return f"psh_{instance_id}_{self.seq}" + ("" if self.change is not None else "_all")

    def body(self, instance_id: str) -> bytes:
        """Return what is sent."""
        document: dict[str, object] = {"event": self.event, "instanceId": instance_id}
        change = self.change
        if change is not None and self.event != CONFIG_CHANGED:
            added = {entry.name: entry.config for entry in change.added}
            document["delta"] = {"added": added, "removed": [entry.name for entry in change.removed]}
        document["meta"] = {} if change is None else change.meta
        return orjson.dumps({**document, "seq": self.seq, "prevSeq": self.prev_seq})


def next_step(cursor: Cursor, changes: Sequence[Change], newest: int, terms: Terms, *, collapses: bool) -> Step:
    """Decide what a subscriber is told that is behind.

    `changes` follow `cursor.seen` in order, `newest` is the instance's revision as it was before they were read. Those
    that are kept no more, and with `collapses` all there are, become one push without a delta.
    """
    if not changes or changes[0].revision != cursor.seen + 1:
        return _collapsed(cursor, newest)
    for change in changes:
        cut = _cut(change, terms)
        if cut is not None:
            newest = max(newest, changes[-1].revision)
            return _collapsed(cursor, newest) if collapses else Step(change.revision, _push(cursor, cut))
    return Step(changes[-1].revision, None)


def _push(cursor: Cursor, change: Change) -> Push:
    return Push(change.revision, cursor.told, change)


def _collapsed(cursor: Cursor, newest: int) -> Step:
    return Step(newest, Push(newest, cursor.told, None))


def _cut(change: Change, terms: Terms) -> Change | None:
    """Return a change as a subscriber may see it; None where it is nothing to it."""
    seen = change.seen_by(terms.tier)
    has_any = bool(seen.added or seen.removed)
    if change.event == CONFIG_CHANGED:
        # Where it does not say what has changed nobody can be spared it.
        is_of_others = not has_any and (change.added or change.removed)
        return None if is_of_others else change._replace(added=(), removed=(), meta={})
    is_wanted = not terms.events or change.event in terms.events
    return seen if has_any and is_wanted else None
