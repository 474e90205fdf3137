"""So many in a second and so many at once: the one arithmetic of every rate that is limited."""


class TokenBucket:
    """Always: 0 <= left <= burst. It is full at first, and fills by the time that its caller tells."""

    __slots__ = ("_as_of", "_burst", "_per_second", "left")

    def __init__(self, *, per_second: float, burst: int) -> None:
        self._per_second = per_second
        self._burst = float(burst)
        self._as_of: float | None = None
        self.left = float(burst)

    def take(self, now: float) -> float:
        """Take one at `now` (seconds; a clock that goes back gives nothing). Returns 0, or how long to wait for one."""
        if self._as_of is not None and now > self._as_of:
            self.left = min(self._burst, self.left + (now - self._as_of) * self._per_second)
        self._as_of = now
        if self.left < 1.0:
            return (1.0 - self.left) / self._per_second
        self.left -= 1.0
        return 0.0

    def __repr__(self) -> str:
        return f"<TokenBucket {self.left:.1f} of {self._burst:.0f}>"
