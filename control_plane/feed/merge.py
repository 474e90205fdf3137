"""What an instance is served: of what it has, what runs. Pure (contracts section 6).

A set that was served is kept, so that what cannot be verified just now stays as it was last seen, and so that the next
set can be told from it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple
from urllib.parse import quote

from control_plane.feed.tiers import Tier

BUILT_IN_NAME: Final = "sallyport"
# Of the sandboxes of one instance, the first by name. With what an instance may have itself
# (control_plane/feed/servers.py) that is below what a client takes (control_client/feed_documents.py).
MAX_IN_SANDBOXES: Final = 500
PATH: Final = "/mcp/"
# A server of these is there for calls: while it restarts they wait for it at the front.
SERVING: Final = frozenset({"running", "restarting"})
# What was served goes on being served while it is in this state; a server that never ran is not served yet.
RETURNING: Final = "starting"


class Kind(StrEnum):
    """Where an entry comes from."""

    SHARED = "shared"
    INSTALLATION = "installation"
    SANDBOX = "sandbox"
    BUILT_IN = "built-in"


class Listed(NamedTuple):
    """One entry of a feed. subject is the id that the API has for what it comes from."""

    name: str
    url: str
    tier: Tier
    user_id: str | None
    kind: Kind
    subject: str

    def is_seen_by(self, tier: Tier, user_id: str | None) -> bool:
        """Say whether a key of a tier is served it, asking for a user."""
        return tier.sees(self.tier) and self.user_id in (None, user_id)


class Owned(NamedTuple):
    """A server that an instance has, and the worker that is to run it."""

    name: str
    tier: Tier
    user_id: str | None
    kind: Kind
    subject: str
    worker_id: str
    server_id: str
    is_wanted: bool


class Reported(NamedTuple):
    """A server as its worker reported it last; front_url is None where clients cannot call it."""

    worker_id: str
    server_id: str
    tier: Tier
    status: str
    front_url: str | None


class InSandbox(NamedTuple):
    """An MCP server of a sandbox, inside it or run for it by a worker; front_url is where it is called.

    is_held: whether it can be called, as far as is known.
    """

    sandbox_id: str
    server_id: str
    front_url: str
    tier: Tier = Tier.STANDARD
    is_held: bool = True


class Runtime(NamedTuple):
    """What is known of what runs. lost: workers whose last report has run out.

    settling: gateways have not had the time to report since this control plane is up, so that what they do not say
    means nothing yet.
    """

    reported: Mapping[tuple[str, str], Reported]
    in_sandboxes: Sequence[InSandbox]
    lost: Collection[str]
    is_settling: bool


class Merged(NamedTuple):
    """What is to be served; is_stale where a part of it could not be verified."""

    entries: Mapping[str, Listed]
    is_stale: bool


class Difference(NamedTuple):
    """What is told of one subject, as one change."""

    event: str
    added: tuple[Listed, ...]
    removed: tuple[Listed, ...]
    meta: Mapping[str, str]


def installation_name(tool_id: str, user_id: str, installation_id: str) -> str:
    """Return the name of what a user has installed."""
    return f"{tool_id}__user_{user_id}__{installation_id}"


def sandbox_name(sandbox_id: str, server_id: str) -> str:
    """Return the name of a sandbox's server."""
    return f"sandbox__{sandbox_id}__{server_id}"


def merge(owned: Iterable[Owned], runtime: Runtime, known: Mapping[str, Listed], built_in_url: str | None) -> Merged:
    """Put together what is served now; `known` is what was served last.

    Without `built_in_url` it is not known yet where the built-in server is: that it is there is no question.
    """
    entries: dict[str, Listed] = {}
    is_stale = False
    if built_in_url is not None:
        entries[BUILT_IN_NAME] = Listed(BUILT_IN_NAME, built_in_url, Tier.ADMIN, None, Kind.BUILT_IN, BUILT_IN_NAME)
    elif BUILT_IN_NAME in known:
        entries[BUILT_IN_NAME], is_stale = known[BUILT_IN_NAME], True
    for server in owned:
        before = known.get(server.name)
        if not server.is_wanted:
            continue
        if server.worker_id in runtime.lost:
            is_stale = True
            if before is not None:
                entries[server.name] = before
            continue
        report = runtime.reported.get((server.worker_id, server.server_id))
        if report is not None and report.front_url is not None and _is_served(report, server.tier, before):
            url = _url(report.front_url, server.name)
            entries[server.name] = Listed(server.name, url, server.tier, server.user_id, server.kind, server.subject)
    is_stale |= _add_sandboxes(entries, runtime, known)
    return Merged(entries, is_stale)


def _is_served(report: Reported, tier: Tier, before: Listed | None) -> bool:
    if report.tier != tier:
        return False  # its worker would let others call it than we list it for
    return report.status in SERVING or (report.status == RETURNING and before is not None)


def _add_sandboxes(entries: dict[str, Listed], runtime: Runtime, known: Mapping[str, Listed]) -> bool:
    """Add the servers of sandboxes; say whether some are there only because nothing is known of them yet."""
    is_stale, count = False, 0
    for server in sorted(runtime.in_sandboxes):
        name = sandbox_name(server.sandbox_id, server.server_id)
        is_unknown = not server.is_held and runtime.is_settling and name in known
        if count < MAX_IN_SANDBOXES and (server.is_held or is_unknown):
            url = _url(server.front_url, name)
            entries[name] = Listed(name, url, server.tier, None, Kind.SANDBOX, server.sandbox_id)
            is_stale |= is_unknown
            count += 1
    return is_stale


def _url(front_url: str, name: str) -> str:
    return f"{front_url.rstrip('/')}{PATH}{quote(name, safe='')}"


def differences(
    before: Mapping[str, Listed], after: Mapping[str, Listed], destroyed: Collection[str]
) -> list[Difference]:
    """Tell two sets apart, by what their entries come from. destroyed: sandboxes that are no more."""
    added = [entry for name, entry in after.items() if before.get(name) != entry]
    removed = [entry for name, entry in before.items() if name not in after]
    subjects = dict.fromkeys((entry.kind, entry.subject) for entry in (*removed, *added))
    found = []
    for kind, subject in subjects:
        gone = tuple(entry for entry in removed if (entry.kind, entry.subject) == (kind, subject))
        come = tuple(entry for entry in added if (entry.kind, entry.subject) == (kind, subject))
        is_new = any(entry.name not in before for entry in come)
        event = _event(kind, is_come=bool(come), is_new=is_new, is_destroyed=subject in destroyed)
        found.append(Difference(event, come, gone, _meta(kind, subject, (*gone, *come)[0])))
    return found


def _event(kind: Kind, *, is_come: bool, is_new: bool, is_destroyed: bool) -> str:
    match kind:
        case Kind.SHARED:
            return "shared_tool_started" if is_come else "shared_tool_stopped"
        case Kind.INSTALLATION:
            return ("installation_created" if is_new else "installation_updated") if is_come else "installation_deleted"
        case Kind.SANDBOX:
            return "sandbox_started" if is_come else ("sandbox_destroyed" if is_destroyed else "sandbox_stopped")
        case Kind.BUILT_IN:
            return "config_changed"


def _meta(kind: Kind, subject: str, entry: Listed) -> Mapping[str, str]:
    match kind:
        case Kind.SHARED:
            return {"toolId": subject}
        case Kind.INSTALLATION:
            return {"installationId": subject, "userId": entry.user_id or ""}
        case Kind.SANDBOX:
            return {"sandboxId": subject}
        case Kind.BUILT_IN:
            return {}
