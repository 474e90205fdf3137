"""What is known about credentials, when it must be asked again, and when it may no longer be used.

Pure: every call takes `now`, unix seconds. The rules are those of contracts section 4, "Gateway cache":
a value is served until it expires, asked for again ahead of that, forgotten when its connection, binding or
organization is invalidated; a refusal is remembered for a short time; an expired value is never served. An order
about a connection or binding is about that of one organization where it names one: two may give the same id.

Invariants: every key in `entries` holds a value that was resolved after the last invalidation of that key;
no table grows beyond `max_entries`.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final, NamedTuple, assert_never

from gateway.core.aws_keys import AwsKeys
from sallyport.secret import Secret

# Ask again when this much of a value's life has passed, but not later than REFRESH_AHEAD_SECONDS before its
# end: an hour-long token is renewed with twelve minutes in hand, a five-minute one with a whole minute.
REFRESH_FRACTION: Final = 0.8
REFRESH_AHEAD_SECONDS: Final = 60.0
# A value without an expiry lives until it is invalidated. It is still read again this often while it is used,
# so that a file or variable changed by hand reaches a running gateway without a restart.
REREAD_SECONDS: Final = 60.0
# How long a refusal is remembered: long enough that a looping sandbox cannot hammer the vault, short enough
# that an operator who repairs a connection is not kept waiting.
PERMANENT_REFUSAL_SECONDS: Final = 30.0
TEMPORARY_REFUSAL_MIN_SECONDS: Final = 1.0
TEMPORARY_REFUSAL_MAX_SECONDS: Final = 5.0
# An upstream 401 makes us ask again at most this often per key (C9).
REJECTION_INTERVAL_SECONDS: Final = 30.0

# The refresh token is dead, yet the value in hand is good until it ends. Every other permanent refusal takes
# the right to use the value away.
_VALUE_SURVIVES: Final = frozenset({"refresh_failed_permanent"})
_NEVER: Final = float("inf")


class CredentialKey(NamedTuple):
    """What a cached credential belongs to. A tuple, never a joined string: ("a:b", "c") is not ("a", "b:c") (C8)."""

    organization_id: str
    sandbox_id: str
    binding_id: str
    connection_id: str
    secret_type: str
    slot_key: str | None
    resolver_key: str | None


class ResolveRequest(NamedTuple):
    """What a source is asked: the key, and where in which plan it is needed (contracts section 4)."""

    key: CredentialKey
    plan_revision: int
    egress_rule_id: str


class Credential:
    """What is presented, its end in unix seconds (None: no end is known) and the word that names this version of it.

    version is not derived from the secret: it may be printed.
    """

    __slots__ = ("expires_at", "value", "version")

    def __init__(self, value: Secret | AwsKeys, expires_at: float | None, version: str) -> None:
        self.value = value
        self.expires_at = expires_at
        self.version = version

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """Everything of it that nobody else may see."""
        if isinstance(self.value, Secret):
            return (self.value,)
        keys = self.value
        return (keys.secret_access_key,) if keys.session_token is None else (keys.secret_access_key, keys.session_token)

    def __repr__(self) -> str:
        return f"<Credential version {self.version}>"


class Refusal(NamedTuple):
    """Why there is no credential: contracts section 4 word, whether asking again may help, and from when."""

    code: str
    temporary: bool
    until: float


class Invalidated(Enum):
    """What an invalidation names; the value is its word in the watch stream (contracts section 5)."""

    CONNECTION = "connection"
    BINDING = "binding"
    ORGANIZATION = "organization"
    ALL = "all"


# What a request hears of when its connection or binding was revoked (contracts section 4).
_REVOKED_CODES: Final = {
    Invalidated.CONNECTION: "connection_not_active",
    Invalidated.BINDING: "binding_not_in_plan",
}


class RevocationsFull(Exception):
    """Too many revocations are in force: the new one was NOT noted. Revoke the sandbox instead."""


class Entry:
    """A value in hand. refresh_at <= usable_until always, so one compare on the hot path covers both."""

    __slots__ = ("credential", "refresh_at", "request", "usable_until")

    def __init__(self, credential: Credential, request: ResolveRequest, refresh_at: float, usable_until: float) -> None:
        self.credential = credential
        self.request = request
        self.refresh_at = refresh_at
        self.usable_until = usable_until

    def __repr__(self) -> str:
        return f"<Entry {self.credential!r} usable until {self.usable_until}, refresh at {self.refresh_at}>"


class Ticket:
    """One resolution under way. An invalidation meanwhile makes it outdated: what it brings may be the old value."""

    __slots__ = ("key", "outdated")

    def __init__(self, key: CredentialKey) -> None:
        self.key = key
        self.outdated = False


class CredentialCache:
    """The tables. `entries` is read directly by the hot path; nothing but this class writes it."""

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        # In order of the last resolution. A value in use is resolved again before it ends and so moves to the
        # back; what stands at the front is what nobody asked for. That is the order of eviction, at no cost
        # per request.
        self.entries: dict[CredentialKey, Entry] = {}
        self._refusals: dict[CredentialKey, Refusal] = {}
        self._tickets: dict[CredentialKey, Ticket] = {}
        self._rejected_at: dict[CredentialKey, float] = {}
        # Until when a connection or binding of an organization (None: of any) gets no credential. Nothing in `entries`
        # belongs to one of these.
        self._revoked: dict[tuple[Invalidated, str, str | None], float] = {}

    def usable(self, key: CredentialKey, now: float) -> Credential | None:
        """Return the value in hand if it has not expired; forget it if it has."""
        entry = self.entries.get(key)
        if entry is None:
            return None
        if now < entry.usable_until:
            return entry.credential
        del self.entries[key]
        return None

    def refusal(self, key: CredentialKey, now: float) -> Refusal | None:
        """Return the refusal that still holds for key; a revocation is one."""
        if self._revoked and (revoked := self._revocation(key, now)) is not None:
            return revoked
        refusal = self._refusals.get(key)
        if refusal is None or now < refusal.until:
            return refusal
        del self._refusals[key]
        return None

    def begin(self, key: CredentialKey) -> Ticket:
        """Note that key is being resolved. There is at most one ticket per key; see finish and fail."""
        if key in self._tickets:
            raise RuntimeError("a second resolution of the same key was begun")
        ticket = self._tickets[key] = Ticket(key)
        return ticket

    def abandon(self, ticket: Ticket) -> None:
        """The resolution ended without an answer."""
        self._tickets.pop(ticket.key, None)

    def finish(self, ticket: Ticket, request: ResolveRequest, credential: Credential, now: float) -> bool:
        """Keep what was resolved. False: it was invalidated meanwhile, revoked or is dead already, and is not kept."""
        key = ticket.key
        self.abandon(ticket)
        usable_until = _NEVER if credential.expires_at is None else credential.expires_at
        if ticket.outdated or usable_until <= now or self._revocation(key, now) is not None:
            return False
        known = self.entries.pop(key, None)
        if known is not None and _same(known.credential, credential):
            # The same object again, so that what was prepared from it stays valid by identity.
            credential = known.credential
        self._make_room(now)
        self.entries[key] = Entry(credential, request, refresh_at(credential, now), usable_until)
        self._refusals.pop(key, None)
        return True

    def fail(self, ticket: Ticket, *, code: str, temporary: bool, retry_after_seconds: float, now: float) -> Refusal:
        """Remember a refusal. A value in hand survives a temporary one, and is asked for again when it ends."""
        self.abandon(ticket)
        if temporary:
            wait = min(max(retry_after_seconds, TEMPORARY_REFUSAL_MIN_SECONDS), TEMPORARY_REFUSAL_MAX_SECONDS)
        else:
            wait = PERMANENT_REFUSAL_SECONDS
        refusal = Refusal(code, temporary, now + wait)
        if not temporary and code not in _VALUE_SURVIVES:
            self.entries.pop(ticket.key, None)
        entry = self.entries.get(ticket.key)
        if entry is not None:
            entry.refresh_at = min(refusal.until, entry.usable_until)
        if not ticket.outdated:
            self._refusals.pop(ticket.key, None)
            _drop_oldest(self._refusals, self._max_entries)
            self._refusals[ticket.key] = refusal
        return refusal

    def rejected(self, key: CredentialKey, version: str, now: float) -> bool:
        """An upstream answered 401 to this version. True: forgotten, or replaced already; ask and compare.

        At most once per key in REJECTION_INTERVAL_SECONDS, so that an upstream which always answers 401 costs
        one resolution in that time and not one per request.
        """
        last = self._rejected_at.get(key)
        # A clock set back must not lock the key out: only a rejection from the recent past counts.
        if last is not None and 0 <= now - last < REJECTION_INTERVAL_SECONDS:
            return False
        self._rejected_at.pop(key, None)
        _drop_oldest(self._rejected_at, self._max_entries)
        self._rejected_at[key] = now
        entry = self.entries.get(key)
        if entry is not None and entry.credential.version == version:
            del self.entries[key]
            if (ticket := self._tickets.get(key)) is not None:
                ticket.outdated = True
        return True

    def invalidate(self, kind: Invalidated, identifier: str | None, organization_id: str | None = None) -> int:
        """Forget what is named, refusals too, of one organization or (None) of all; return how many values went."""
        gone = _chosen(self.entries, kind, identifier, organization_id)
        for key in gone:
            del self.entries[key]
        for key in _chosen(self._refusals, kind, identifier, organization_id):
            del self._refusals[key]
        for key in _chosen(self._tickets, kind, identifier, organization_id):
            self._tickets[key].outdated = True
        return len(gone)

    def revoke(
        self, kind: Invalidated, identifier: str, until: float, now: float, organization_id: str | None = None
    ) -> int:
        """Forget the values of a connection or binding and refuse it new ones until then; return how many values went.

        Without an organization all that bear the id are meant. Raises ValueError for another kind, RevocationsFull.
        """
        if kind not in _REVOKED_CODES:
            raise ValueError(f"{kind.value} is not revoked, only a connection or a binding")
        revoked = {named: end for named, end in self._revoked.items() if end > now}
        named = (kind, identifier, organization_id)
        if named not in revoked and len(revoked) >= self._max_entries:
            raise RevocationsFull(f"{self._max_entries} connections and bindings are revoked")
        revoked[named] = max(until, revoked.get(named, until))
        self._revoked = revoked
        return self.invalidate(kind, identifier, organization_id)

    def _revocation(self, key: CredentialKey, now: float) -> Refusal | None:
        revoked = self._revoked
        for kind, name in ((Invalidated.CONNECTION, key.connection_id), (Invalidated.BINDING, key.binding_id)):
            until = max(revoked.get((kind, name, key.organization_id), 0), revoked.get((kind, name, None), 0))
            if now < until:
                return Refusal(_REVOKED_CODES[kind], False, until)
        return None

    def _make_room(self, now: float) -> None:
        # The front holds what was resolved longest ago: dead values leave memory there even when there is room.
        while self.entries:
            key = next(iter(self.entries))
            if len(self.entries) < self._max_entries and now < self.entries[key].usable_until:
                return
            del self.entries[key]

    def __repr__(self) -> str:
        return (
            f"<CredentialCache {len(self.entries)} values, {len(self._refusals)} refusals, "
            f"{len(self._tickets)} under way>"
        )


def refresh_at(credential: Credential, now: float) -> float:
    """Return when a value resolved at `now` is to be asked for again; never after its end."""
    if credential.expires_at is None:
        return now + REREAD_SECONDS
    life = credential.expires_at - now
    # A life shorter than the margin would be refreshed on every request; half of it is the earliest.
    ahead = min(max(life * (1 - REFRESH_FRACTION), REFRESH_AHEAD_SECONDS), life / 2)
    return credential.expires_at - ahead


def _same(known: Credential, credential: Credential) -> bool:
    return (
        known.version == credential.version
        and known.expires_at == credential.expires_at
        and known.value == credential.value
    )


def _chosen(
    table: Mapping[CredentialKey, object], kind: Invalidated, identifier: str | None, organization_id: str | None
) -> list[CredentialKey]:
    theirs = [key for key in table if organization_id in (None, key.organization_id)]
    match kind:
        case Invalidated.CONNECTION:
            return [key for key in theirs if key.connection_id == identifier]
        case Invalidated.BINDING:
            return [key for key in theirs if key.binding_id == identifier]
        case Invalidated.ORGANIZATION:
            return [key for key in theirs if key.organization_id == identifier]
        case Invalidated.ALL:
            return theirs
        case _:
            assert_never(kind)


def _drop_oldest(table: dict[CredentialKey, Refusal] | dict[CredentialKey, float], max_entries: int) -> None:
    while len(table) >= max_entries:
        del table[next(iter(table))]
