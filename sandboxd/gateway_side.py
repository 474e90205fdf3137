"""What the listener knows of the gateway: its managed set, and the tunnel that takes new streams."""

import asyncio
from typing import Protocol

from sallyport.net.tunnel import TunnelUnavailable
from sandboxd.core.intake import ManagedSet


class Opener(Protocol):
    """A tunnel that takes streams."""

    @property
    def can_open(self) -> bool:
        """Whether open_stream would be obeyed."""

    @property
    def is_open(self) -> bool:
        """Whether it lives."""

    def open_stream(self, protocol: asyncio.Protocol) -> asyncio.Transport:
        """Open a stream; connection_made comes before this returns. Raises TunnelUnavailable."""


class Waiter(Protocol):
    """Who waits for a set or a tunnel."""

    def gateway_changed(self) -> None:
        """Look again: there is a new managed set or a new tunnel."""


class GatewaySide:
    """The managed set and the tunnel of now. Always: the set is the last that came; it outlives its tunnel.

    A set that has grown old harms nothing: the gateway says so where it matters, and sends the new one.
    """

    def __init__(self) -> None:
        self.managed: ManagedSet | None = None
        self.tunnel: Opener | None = None
        # In the order in which they came; as many as there may be connections.
        self._waiting: dict[Waiter, None] = {}
        self._is_waited_for = asyncio.Event()

    def open_stream(self, protocol: asyncio.Protocol) -> asyncio.Transport:
        """Open a stream in the tunnel of now; raises TunnelUnavailable."""
        if self.tunnel is None:
            raise TunnelUnavailable("there is no tunnel")
        return self.tunnel.open_stream(protocol)

    @property
    def is_full(self) -> bool:
        """Whether there is a tunnel and it takes no more streams."""
        return self.tunnel is not None and self.tunnel.is_open and not self.tunnel.can_open

    def set_managed(self, managed: ManagedSet) -> None:
        """Use another managed set from now on."""
        self.managed = managed
        self._tell()

    def set_tunnel(self, tunnel: Opener | None) -> None:
        """Open streams in another tunnel from now on; None: in none."""
        self.tunnel = tunnel
        if tunnel is not None:
            self._tell()

    def wait(self, waiter: Waiter) -> None:
        """Call the waiter at every change, until it leaves."""
        self._waiting[waiter] = None
        self._is_waited_for.set()

    def leave(self, waiter: Waiter) -> None:
        """Call it no more."""
        self._waiting.pop(waiter, None)
        if not self._waiting:
            self._is_waited_for.clear()

    async def until_waited_for(self) -> None:
        """Return when somebody waits: at once where somebody does."""
        await self._is_waited_for.wait()

    def _tell(self) -> None:
        for waiter in list(self._waiting):
            if waiter in self._waiting:
                waiter.gateway_changed()

    def __repr__(self) -> str:
        return f"<GatewaySide {self.managed!r} {self.tunnel!r}, {len(self._waiting)} waiting>"
