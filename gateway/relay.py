"""Opaque bytes both ways, as the gateway relays them: passthrough CONNECT and what follows a 101."""

import asyncio
from collections.abc import Callable

from gateway.backlog import Backlog
from gateway.core.frame_scrub import FrameScrubber
from gateway.parts import GatewayParts
from sallyport.net.bulk_turns import BULK
from sallyport.net.relay import Relay, Side


class OpaqueRelay(Relay):
    """A relay under the gateway's idle timeout, scrubbed on the way down where a credential was injected (C3).

    What either side does not take counts in its sandbox's backlog.
    """

    __slots__ = ("_backlog",)

    def __init__(
        self,
        parts: GatewayParts,
        downstream: asyncio.Transport,
        upstream: asyncio.Transport,
        *,
        backlog: Backlog,
        scrubber: FrameScrubber | None,
        on_end: Callable[[int, int], None],
    ) -> None:
        super().__init__(
            parts.clock,
            downstream,
            upstream,
            idle_seconds=parts.timeouts.opaque_idle,
            on_end=on_end,
            filter_down=scrubber,
            bulk=parts.upstreams.turns,
            splices=parts.splices,
        )
        self._backlog = backlog

    def start(self, *, up: bytes, down: bytes) -> None:
        """Take the transports over; while the sandbox has more than it may, both sides wait."""
        super().start(up=up, down=down)
        if self._backlog.is_over:
            for side in self.sides:
                self._backlog.wait(side)

    @property
    def turn_owner(self) -> object:
        """The sandbox's, whichever of its streams it is."""
        return self._backlog

    def readers(self, everyone: bool) -> list[Side]:
        """Return the sides that read: both, or those whose bytes the other has not all taken yet."""
        return [side for side in self.sides if not side.is_lost and (everyone or not side.is_taken)]

    def slow(self, side: Side, size: int) -> None:
        """Count what waits for an end."""
        self._backlog.hold(side, size)

    def late(self, side: Side, size: int) -> None:
        """Count what waits for a turn."""
        if size:
            self._backlog.hold((side, BULK), size)
        else:
            self._backlog.release((side, BULK))

    def taken(self, side: Side) -> None:
        """Count it no longer."""
        self._backlog.release(side)
        if side.is_lost:
            self._backlog.release((side, BULK))
            self._backlog.leave(side)
        self._backlog.read_on(side.other)
