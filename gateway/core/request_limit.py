"""How many requests are let through, in a minute and at once: of a route by its plan, of a sandbox by its operator."""

from math import ceil
from typing import Final, NamedTuple

from sallyport.token_bucket import TokenBucket

SECONDS_PER_MINUTE: Final = 60.0
# Nobody knows when one of those under way will end.
BUSY_RETRY_SECONDS: Final = 1


class Excess(NamedTuple):
    """Why a request is one too many: at_once, or of those in a minute."""

    retry_after_seconds: int
    at_once: bool


class RequestLimit:
    """A token bucket and a count, of one process. Always: open <= max_concurrent.

    The bucket holds a minute's worth unless told otherwise, so a minute may be spent at once and then there is a wait.
    """

    __slots__ = ("_bucket", "_max_concurrent", "open", "terms")

    def __init__(self, *, per_minute: int | None, max_concurrent: int | None, burst: int | None = None) -> None:
        # What is allowed: a limit on the same terms may go on in the place of this one.
        self.terms = (per_minute, max_concurrent, burst)
        self._max_concurrent = max_concurrent
        self._bucket: TokenBucket | None = None
        if per_minute is not None:
            self._bucket = TokenBucket(per_second=per_minute / SECONDS_PER_MINUTE, burst=burst or per_minute)
        self.open = 0

    def admit(self, now: float) -> Excess | None:
        """Take the place of one request at `now` (seconds, never going back); else say why not, and nothing is taken.

        What was admitted is given back by release().
        """
        if self._max_concurrent is not None and self.open >= self._max_concurrent:
            return Excess(BUSY_RETRY_SECONDS, True)
        excess = self.spend(now)
        if excess is None:
            self.open += 1
        return excess

    def spend(self, now: float) -> Excess | None:
        """Count one against the minute alone: what it opens has a limit of its own."""
        wait = 0.0 if self._bucket is None else self._bucket.take(now)
        return Excess(max(1, ceil(wait)), False) if wait else None

    def release(self) -> None:
        """One request has ended."""
        self.open -= 1

    def __repr__(self) -> str:
        return f"<RequestLimit {self.open} open, {self._bucket!r}>"
