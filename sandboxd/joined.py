"""A captured connection and its stream, joined: bytes both ways until one of them ends."""

import asyncio
from collections.abc import Callable

from sallyport.net.relay import Relay
from sallyport.net.transports import reset
from sandboxd.parts import SandboxdParts


class JoinedStream(Relay):
    """A relay between a sandbox process and the tunnel. A stream that is cut resets the process's connection."""

    __slots__ = ("_captured",)

    def __init__(
        self,
        parts: SandboxdParts,
        captured: asyncio.Transport,
        stream: asyncio.Transport,
        on_end: Callable[[], None],
    ) -> None:
        super().__init__(
            parts.clock,
            captured,
            stream,
            idle_seconds=parts.timeouts.idle,
            on_end=lambda _up, _down: on_end(),
        )
        self._captured = captured

    def cut(self, transport: asyncio.Transport) -> None:
        """End one side because the other was lost; never in order where an answer may be half way."""
        if transport is self._captured:
            reset(transport)
        else:
            transport.abort()
