"""Which tokens, lineages and sandboxes are out of service, and until when: one object for all verifiers."""

import math
from collections.abc import Iterator
from typing import Final, NamedTuple

from sallyport.claims import Claims

# A revocation lives until its token would have expired; 100,000 at once is an incident, not a load.
MAX_REVOCATIONS: Final = 100_000
PURGE_AFTER_SECONDS: Final = 60.0


class RevocationLimitError(Exception):
    """Too many revocations are in force: the new one was NOT recorded. Revoke the sandbox instead of single tokens."""


class Revocation(NamedTuple):
    """What is out of service until an instant in unix seconds; kind is a word of the watch stream.

    organization_id narrows a connection or binding to one organization's; None means all that bear the id.
    """

    kind: str
    revoked_id: str
    until: float
    organization_id: str | None = None


class Revocations:
    """Refuse every token of a `jti`, `sid` or `sandbox` until an instant. Looked at on every use of a token."""

    __slots__ = ("_most", "_purge_at", "_revoked", "_seen_at", "any")

    def __init__(self, most: int = MAX_REVOCATIONS) -> None:
        self._most = most
        self._revoked: dict[str, dict[str, float]] = {"jti": {}, "sid": {}, "sandbox": {}}
        # Whether any revocation is known. Nearly always not, and then nobody need ask per request.
        self.any = False
        self._purge_at = -math.inf
        self._seen_at = -math.inf  # the latest `now` of a caller, for purging when there is none at hand

    def revoke(self, kind: str, revoked_id: str, until: float) -> None:
        """Refuse every token of a `jti`, `sid` or `sandbox` until that instant (Unix seconds).

        Raises ValueError for another kind or no finite instant, RevocationLimitError when full.
        """
        if kind not in self._revoked:
            raise ValueError(f"a token cannot be revoked by {kind!r}, only by {sorted(self._revoked)}")
        if not math.isfinite(until):
            raise ValueError("until is not a finite instant")
        if revoked_id not in self._revoked[kind] and len(self) >= self._most:
            self._forget(self._seen_at)
            if len(self) >= self._most:
                raise RevocationLimitError(f"{self._most} revocations are in force")
        entries = self._revoked[kind]
        entries[revoked_id] = max(until, entries.get(revoked_id, until))
        self.any = True

    def cover(self, claims: Claims, now: float) -> bool:
        """Say whether claims are revoked at `now`: three dict lookups, for every request of an open stream."""
        revoked = self._revoked
        return (
            now < revoked["jti"].get(claims.token_id, now)
            or now < revoked["sid"].get(claims.lineage, now)
            or now < revoked["sandbox"].get(claims.sandbox_id, now)
        )

    def purge(self, now: float) -> None:
        """Forget, once a minute, what has run out."""
        self._seen_at = now
        if now >= self._purge_at:
            self._purge_at = now + PURGE_AFTER_SECONDS
            self._forget(now)

    def _forget(self, now: float) -> None:
        for kind, entries in self._revoked.items():
            self._revoked[kind] = {name: until for name, until in entries.items() if until > now}
        self.any = any(self._revoked.values())

    def __iter__(self) -> Iterator[Revocation]:
        for kind, entries in self._revoked.items():
            for name, until in entries.items():
                yield Revocation(kind, name, until)

    def __len__(self) -> int:
        return sum(map(len, self._revoked.values()))

    def __repr__(self) -> str:
        return f"<Revocations {len(self)} of {self._most}>"
