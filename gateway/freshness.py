"""How long ago the control plane was last heard, and what that means for what it told us.

Heard from: everything is as it should be. Silent: what is known serves on, marked stale. Silent for too long: it is
withheld, until the control plane is heard again.
"""

from collections.abc import Callable
from enum import Enum
from typing import Final

import structlog

from sallyport.net.clock import NEVER, Clock

_log = structlog.get_logger(__name__)

# What readiness calls each state; the last is no obstacle, only worth knowing.
NO_SNAPSHOT: Final = "no_snapshot"
TOO_OLD: Final = "plans_too_old"
STALE: Final = "stale"


class State(Enum):
    """What may be done with what is known."""

    UNKNOWN = "unknown"  # nothing is known yet
    FRESH = "fresh"
    STALE = "stale"
    EXPIRED = "expired"


class Freshness:
    """The age of what is known. on_expired and on_usable are called when it crosses max_stale, one way or the other."""

    def __init__(
        self, clock: Clock, max_stale_seconds: float, *, on_expired: Callable[[], None], on_usable: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._max_stale_seconds = max_stale_seconds
        self._on_expired = on_expired
        self._on_usable = on_usable
        self._heard_at = -NEVER
        self.state = State.UNKNOWN
        self.deadline_at = self.filed_at = NEVER

    def heard(self) -> None:
        """The control plane is there, and has told everything up to now."""
        before, self.state = self.state, State.FRESH
        if before is not State.FRESH:
            _log.info("control_plane_heard", was=before.value, stale_seconds=self._age(before))
        self._heard_at = self._clock.now
        self.deadline_at = NEVER
        if before in (State.UNKNOWN, State.EXPIRED):
            self._on_usable()

    def lost(self) -> None:
        """The control plane is away; age counts from when it was last heard."""
        if self.state is State.FRESH:
            self.state = State.STALE
            _log.warning("plans_stale", detail="the control plane is away; what it told last serves on")
            self._clock.watch(self, self._heard_at + self._max_stale_seconds)

    def restored(self, age_seconds: float) -> bool:
        """Start from what was known age_seconds ago; False, and nothing changes, where that is too long."""
        if age_seconds >= self._max_stale_seconds:
            return False
        self.state = State.FRESH
        self._heard_at = self._clock.now - age_seconds
        self._on_usable()
        self.lost()
        return True

    def expire(self) -> None:
        """Too much time has passed without a word."""
        if self.state is State.STALE:
            self.state = State.EXPIRED
            _log.error("plans_too_old", stale_seconds=round(self._age(State.STALE)))
            self._on_expired()

    @property
    def stale_seconds(self) -> float:
        """How old what is known is; 0 while the control plane is heard, or nothing is known."""
        return self._age(self.state)

    def _age(self, state: State) -> float:
        return self._clock.now - self._heard_at if state in (State.STALE, State.EXPIRED) else 0.0

    def obstacles(self) -> list[str]:
        """Say why the gateway should get no traffic, in words of readiness."""
        return {State.UNKNOWN: [NO_SNAPSHOT], State.EXPIRED: [TOO_OLD]}.get(self.state, [])

    def notes(self) -> list[str]:
        """Say what is worth knowing though traffic is served."""
        return [STALE] if self.state is State.STALE else []

    def __repr__(self) -> str:
        return f"<Freshness {self.state.value}, {self.stale_seconds:.0f} s old>"
