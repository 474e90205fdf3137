"""What a plan allows on one route: requests a minute and at once (contracts section 1, `limits`)."""

from math import ceil
from typing import Final

SECONDS_PER_MINUTE: Final = 60.0


class RouteLimit:
    """A token bucket and a count. Always: 0 <= _tokens <= _per_minute; open <= _max_concurrent.

    The bucket holds a minute's worth, so a sandbox may spend its minute at once and then waits. Counts belong to one
    revision of the plan in one process.
    """

    __slots__ = ("_as_of", "_max_concurrent", "_per_minute", "_tokens", "open")

    def __init__(self, *, per_minute: int | None, max_concurrent: int | None) -> None:
        self._per_minute = per_minute
        self._max_concurrent = max_concurrent
        self._tokens = float(per_minute or 0)
        self._as_of: float | None = None
        self.open = 0

    def admit(self, now: float) -> int | None:
        """Take the place of one request at `now` (seconds, never going back); else return in how many seconds to retry.

        What was admitted is given back by release().
        """
        if self._max_concurrent is not None and self.open >= self._max_concurrent:
            return 1
        if self._per_minute is not None:
            rate = self._per_minute / SECONDS_PER_MINUTE
            passed = 0.0 if self._as_of is None else max(0.0, now - self._as_of)
            self._tokens = min(float(self._per_minute), self._tokens + passed * rate)
            self._as_of = now
            if self._tokens < 1.0:
                return max(1, ceil((1.0 - self._tokens) / rate))
            self._tokens -= 1.0
        self.open += 1
        return None

    def release(self) -> None:
        """One request has ended."""
        self.open -= 1

    def __repr__(self) -> str:
        return f"<RouteLimit {self.open} open, {self._tokens:.1f} left this minute>"
