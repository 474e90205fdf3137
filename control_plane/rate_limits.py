"""How often a caller may ask, and an address may fail to say who it is: in memory, of this replica."""

from collections import OrderedDict
from math import ceil
from typing import Final

from control_plane.callers import Caller
from control_plane.refusals import ControlCode, Refused
from sallyport.token_bucket import TokenBucket

SECONDS_PER_MINUTE: Final = 60.0
# Whoever asked longest ago is forgotten first; most of these buckets are full again by then.
MAX_REMEMBERED: Final = 10_000


class _Buckets:
    """A bucket for each name, full at first. None lets everything through."""

    def __init__(self, per_minute: int | None) -> None:
        self._per_minute = per_minute
        self._by_name: OrderedDict[str, TokenBucket] = OrderedDict()

    def take(self, name: str, now: float) -> float:
        """Take one; return 0, or how long to wait."""
        if self._per_minute is None:
            return 0.0
        bucket = self._by_name.get(name)
        if bucket is None:
            per_second = self._per_minute / SECONDS_PER_MINUTE
            bucket = self._by_name[name] = TokenBucket(per_second=per_second, burst=self._per_minute)
            if len(self._by_name) > MAX_REMEMBERED:
                self._by_name.popitem(last=False)
        self._by_name.move_to_end(name)
        return bucket.take(now)


class RateLimits:
    """Counts. A part of the environment is not limited: it asks because sandboxes do, which have their own limits."""

    def __init__(self, *, requests_per_minute: int | None, failed_logins_per_minute: int | None) -> None:
        self._callers = _Buckets(requests_per_minute)
        self._addresses = _Buckets(failed_logins_per_minute)

    def count_request(self, caller: Caller, now: float) -> None:
        """Count a caller's request; raise Refused where it is one too many."""
        if not caller.is_service:
            _refuse(self._callers.take(caller.id, now), "this caller asks more often than it may")

    def count_failure(self, address: str, now: float) -> None:
        """Count a failed login; raise Refused where an address fails too often. A good credential is always heard."""
        _refuse(self._addresses.take(address, now), "too many failed logins from this address")


def _refuse(wait: float, detail: str) -> None:
    if wait:
        raise Refused(ControlCode.RATE_LIMITED, detail, retry_after_seconds=max(1, ceil(wait)))
