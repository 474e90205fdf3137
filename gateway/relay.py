"""Opaque bytes both ways, as the gateway relays them: passthrough CONNECT and what follows a 101."""

import asyncio
from collections.abc import Callable

from gateway.core.frame_scrub import FrameScrubber
from gateway.parts import GatewayParts
from sallyport.net.relay import Relay


class OpaqueRelay(Relay):
    """A relay under the gateway's idle timeout, scrubbed on the way down where a credential was injected (C3)."""

    __slots__ = ()

    def __init__(
        self,
        parts: GatewayParts,
        downstream: asyncio.Transport,
        upstream: asyncio.Transport,
        *,
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
        )
