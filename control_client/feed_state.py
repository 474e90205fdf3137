"""What a client knows of its feed, and what a push or an answer does to it. Pure (contracts sections 6 and 7).

A push is applied only where nothing can have been missed: it names the one before it, and that one is known. Whatever
else happens, a gap, a push without a delta, one whose order is unknown, ends in asking the feed.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

# The server's name, and where it is spoken to.
type Servers = Mapping[str, str]

NO_SERVERS: Final[Servers] = MappingProxyType({})
# The one event that never has a delta.
CONFIG_CHANGED: Final = "config_changed"


class Tier(StrEnum):
    """Whose key is shown, which alone decides what is seen."""

    STANDARD = "standard"
    ADMIN = "admin"


class Delta(NamedTuple):
    """What a push changes; removed is applied before added."""

    removed: tuple[str, ...]
    added: Servers


class Push(NamedTuple):
    """One event of the feed. seq and prev_seq are None where the sender does not count."""

    event: str
    instance_id: str
    delta: Delta | None
    user_id: str | None
    seq: int | None
    prev_seq: int | None


class FeedAnswer(NamedTuple):
    """What the feed answered. revision is the last push that is in it, None where it does not say."""

    servers: Servers
    revision: int | None
    etag: str | None
    is_stale: bool


class Known(NamedTuple):
    """The servers as they are known. at: the last push that is in them, None where that is not known."""

    servers: Servers = NO_SERVERS
    at: int | None = None
    etag: str | None = None
    is_stale: bool = False


class Ignored(NamedTuple):
    """A push that changes nothing here."""

    why: str


class Owed(NamedTuple):
    """A push after which the feed has to be asked."""

    why: str


class Changes(NamedTuple):
    """What differs between two sets: names that are gone, and servers that are new or have moved."""

    removed: tuple[str, ...]
    changed: Servers


def take_push(known: Known, push: Push, *, instance_id: str, user_id: str | None) -> Known | Ignored | Owed:
    """Decide what a push does."""
    if push.instance_id != instance_id:
        return Ignored("another instance's")
    if push.seq is not None and known.at is not None and push.seq <= known.at:
        return Ignored("old")
    if push.delta is None or push.event == CONFIG_CHANGED:
        return Owed("no delta")
    if push.seq is None or push.prev_seq is None:
        return Owed("not counted")
    if known.at is None or push.prev_seq > known.at:
        return Owed("a gap")
    if push.event.startswith("installation_"):
        if push.user_id is None:
            return Owed("an installation of nobody")
        if push.user_id != user_id:
            return known._replace(at=push.seq)
    servers = {name: url for name, url in known.servers.items() if name not in push.delta.removed}
    # The ETag named what was there before. Kept, it would say `unchanged` of a feed that has gone back to that.
    return Known(MappingProxyType(servers | dict(push.delta.added)), push.seq, None, known.is_stale)


def take_answer(known: Known, answer: FeedAnswer) -> Known:
    """Decide what an answer of the feed does: it is the truth, save a stale one that is older than what is known."""
    is_older = known.at is not None and (answer.revision is None or answer.revision < known.at)
    if answer.is_stale and is_older:
        return known._replace(is_stale=True)
    return Known(answer.servers, answer.revision, answer.etag, answer.is_stale)


def changes(before: Servers, after: Servers) -> Changes:
    """Tell two sets apart."""
    removed = tuple(name for name in before if name not in after)
    changed = {name: url for name, url in after.items() if before.get(name) != url}
    return Changes(removed, MappingProxyType(changed))
