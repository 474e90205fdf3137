"""The documents of the feed, read strictly: its answer, and a push (contracts sections 6 and 7)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from control_client.errors import ControlError, unexpected
from control_client.feed_state import Delta, Push, Servers
from control_client.members import Members, read_object

# Each is a link of its own, held open.
MAX_SERVERS: Final = 1_000
MAX_URL: Final = 2_048
# So many servers with the longest names and addresses stay below it.
MAX_FEED_BYTES: Final = 4 * 1024 * 1024
# What a push says beside its delta is for people and for filters.
_FREE: Final = "meta"


def read_feed(document: bytes) -> Servers:
    """Return the servers of a feed; raises ControlError."""
    members = read_object(document)
    servers = _servers(members, "mcpServers")
    members.end()
    return servers


def feed_document(servers: Servers) -> dict[str, object]:
    """Return the document that read_feed reads."""
    return {"mcpServers": {name: {"type": "streamable", "url": url} for name, url in servers.items()}}


def read_push(document: bytes) -> Push:
    """Return a push; raises ControlError."""
    members = read_object(document)
    delta = members.optional_object("delta")
    meta = members.free_object(_FREE)
    push = Push(
        members.text("event"),
        members.text("instanceId"),
        None if delta is None else _delta(delta),
        _user(meta),
        members.optional_integer("seq"),
        members.optional_integer("prevSeq"),
    )
    members.end()
    return push


def _delta(members: Members) -> Delta:
    delta = Delta(tuple(members.texts("removed", most=MAX_SERVERS)), _servers(members, "added"))
    members.end()
    return delta


def _servers(members: Members, name: str) -> Servers:
    return MappingProxyType({key: _url(key, entry) for key, entry in members.named(name, most=MAX_SERVERS).items()})


def _url(name: str, entry: Members) -> str:
    entry.word("type", frozenset({"streamable"}))
    url = entry.text("url", most=MAX_URL)
    entry.end()
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  it raises for what is no port
    except ValueError:
        raise _no_url(name) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.fragment:
        raise _no_url(name)
    return url


def _no_url(name: str) -> ControlError:
    return unexpected(f"the url of {name!a} is not http or https with a host alone")


def _user(meta: Mapping[str, object]) -> str | None:
    found = meta.get("userId")
    return found if isinstance(found, str) else None
