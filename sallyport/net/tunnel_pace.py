"""How often a sandboxd may do what costs it nothing and the gateway something; beyond it the tunnel ends with 1008.

Each of these is a few bytes that make the gateway look up, answer, cancel or parse. What a sandbox needs of them is
known, so their rates are constants and no settings: docs/tunnel-protocol.md tells them to the other side. They are
counted over all tunnels of a sandbox, or a new one would be all it took to begin anew.
"""

from collections import Counter
from collections.abc import Hashable
from typing import Final

from sallyport.token_bucket import TokenBucket
from sallyport.wire.errors import RemoteProtocolError

# Every stream of a tunnel may be reset at once, twice: a program was killed, its successor too. nghttp2 takes 1,000
# and then 33 a second from one client; here a whole sandbox comes through one tunnel.
RESETS_BURST: Final = 2048
RESETS_PER_SECOND: Final = 256
# Ours go every 10 s.
PINGS_BURST: Final = 64
PINGS_PER_SECOND: Final = 8
# A set-up tells of each of its steps, and may have hundreds of files.
CONTROLS_BURST: Final = 1024
CONTROLS_PER_SECOND: Final = 64
# Frames that carry nothing: an honest side sends none.
EMPTY_BURST: Final = 64
EMPTY_PER_SECOND: Final = 8
# After so long without any, all of these are whole again, so a pace says no more than a new one would.
WHOLE_AFTER_SECONDS: Final = 16.0


class TunnelPace:
    """What a peer has left of each, over all its tunnels; every method raises RemoteProtocolError where nothing is."""

    __slots__ = ("_controls", "_empty", "_pings", "_resets")

    def __init__(self) -> None:
        self._resets = TokenBucket(per_second=RESETS_PER_SECOND, burst=RESETS_BURST)
        self._pings = TokenBucket(per_second=PINGS_PER_SECOND, burst=PINGS_BURST)
        self._controls = TokenBucket(per_second=CONTROLS_PER_SECOND, burst=CONTROLS_BURST)
        self._empty = TokenBucket(per_second=EMPTY_PER_SECOND, burst=EMPTY_BURST)

    def reset(self, now: float) -> None:
        """A stream of its was reset by it, or refused for being one too many."""
        _take(self._resets, now, "more resets than a sandbox needs")

    def ping(self, now: float) -> None:
        """It has pinged, by either layer."""
        _take(self._pings, now, "more pings than a sandbox needs")

    def control(self, now: float) -> None:
        """It has sent a control message."""
        _take(self._controls, now, "more control messages than a sandbox needs")

    def empty_frame(self, now: float) -> None:
        """It has sent a frame that says nothing."""
        _take(self._empty, now, "frames without a meaning")

    def __repr__(self) -> str:
        return f"<TunnelPace {self._resets.left:.0f} resets, {self._pings.left:.0f} pings left>"


def _take(bucket: TokenBucket, now: float, told: str) -> None:
    if bucket.take(now):
        raise RemoteProtocolError(told)


class TunnelPaces[K: Hashable]:
    """Each owner's pace, from its first tunnel until it is whole again after its last.

    Always: an owner stands either in `_open`, with how many tunnels it has, or in `_left_at`, oldest first.
    """

    __slots__ = ("_left_at", "_open", "_paces")

    def __init__(self) -> None:
        self._paces: dict[K, TunnelPace] = {}
        self._open: Counter[K] = Counter()
        self._left_at: dict[K, float] = {}

    def enter(self, owner: K, now: float) -> TunnelPace:
        """Return the pace of an owner, for one tunnel more."""
        while self._left_at:
            left = next(iter(self._left_at))
            if now - self._left_at[left] < WHOLE_AFTER_SECONDS:
                break
            del self._left_at[left], self._paces[left]
        self._left_at.pop(owner, None)
        self._open[owner] += 1
        return self._paces.setdefault(owner, TunnelPace())

    def leave(self, owner: K, now: float) -> None:
        """Note that a tunnel is gone."""
        self._open[owner] -= 1
        if not self._open[owner]:
            del self._open[owner]
            self._left_at[owner] = now

    def __repr__(self) -> str:
        return f"<TunnelPaces of {len(self._paces)}, {len(self._left_at)} without a tunnel>"
