"""Where the deputy of a sandbox comes to its sandboxd, which stands outside: one link at a time.

The socket is in the sandbox's network, so whatever runs there may come in the deputy's place. It is believed nothing:
what it sends is bounded, paced and read strictly, and whoever breaks the protocol has its link closed. The link is a
tunnel without the upgrade (docs/sandboxd.md), with sandboxd in the gateway's place.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, Protocol, cast

from sallyport.json_object import json_object
from sallyport.net.buffer_budget import BufferBudget
from sallyport.net.clock import NEVER, Clock
from sallyport.net.tunnel import Tunnel
from sallyport.net.tunnel_limits import TunnelLimits
from sallyport.net.tunnel_pace import TunnelPace
from sallyport.net.tunnel_stream import TunnelStream
from sallyport.net.unix_stream import adopt_unix
from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.websocket import PROTOCOL
from sandboxd.deputy.status import read_status
from sandboxd.log import Log
from sandboxd.stream_answers import MAX_LOCAL_STREAMS

# From coming to saying `ready`, on one machine.
READY_SECONDS: Final = 5.0
# Between the beginnings of two links: whoever comes and goes costs no more than this.
BETWEEN_LINKS_SECONDS: Final = 0.25
# What the gateway may open, and the documents that are handed over. A deputy that hangs is given up sooner than a
# gateway that is far away.
LIMITS: Final = TunnelLimits(
    max_streams=MAX_LOCAL_STREAMS + 8, max_window_bytes=1024 * 1024, ping_seconds=5.0, dead_seconds=15.0
)
# RFC 6455 section 7.4.1.
_NORMAL: Final = 1000


class Principal(Protocol):
    """Whom a deputy acts for, or who waits for one. Both are called for each link."""

    def deputy_came(self) -> None:
        """There is one, and it is ready."""

    def deputy_left(self) -> None:
        """There is none any more."""


class DeputyDoor:
    """Always: there is one link at most. `on_status` hears what its deputy tells of a set-up."""

    def __init__(self, *, clock: Clock, log: Log, budget: BufferBudget) -> None:
        self.clock = clock
        self.log = log
        self.budget = budget
        # Over all links, or a new one would be all it took to begin anew.
        self.pace = TunnelPace()
        self.on_status: Callable[[Mapping[str, object]], None] = lambda status: None
        self._link: _DeputyLink | None = None
        self._next_at = 0.0
        self._principals: dict[Principal, None] = {}
        self._server: asyncio.Server | None = None

    async def open(self, descriptor: int) -> None:
        """Take deputies from now on, at a bound socket in the sandbox's network; raises OSError."""
        self._server = await adopt_unix(descriptor, lambda: _Arrival(self))

    async def close(self) -> None:
        """Take none any more, and let the one that is here go."""
        if self._server is not None:
            self._server.close()
        if self._link is not None:
            self._link.tunnel.close(_NORMAL, "sandboxd ends")

    @property
    def tunnel(self) -> Tunnel | None:
        """The tunnel of a deputy that is ready; None where there is none."""
        link = self._link
        return link.tunnel if link is not None and link.is_ready and link.tunnel.is_open else None

    def join(self, principal: Principal) -> None:
        """Tell of each deputy that comes or leaves, until `part`."""
        self._principals[principal] = None

    def part(self, principal: Principal) -> None:
        """Tell no more."""
        self._principals.pop(principal, None)

    # What arrivals and their link call

    def admit(self, transport: asyncio.Transport) -> None:
        """Begin a link, unless there is one, or was one a moment ago."""
        if self._link is not None or self.clock.now < self._next_at:
            transport.abort()
            return
        self._next_at = self.clock.now + BETWEEN_LINKS_SECONDS
        self._link = _DeputyLink(self)
        self._link.tunnel.start(transport)

    def ready(self) -> None:
        """The deputy has begun to listen."""
        self.log.info("deputy_came")
        self._tell(lambda principal: principal.deputy_came())

    def lost(self, link: "_DeputyLink", reason: str) -> None:
        """The link has ended."""
        self._link = None
        self.log.warning("deputy_left", reason=reason)
        if link.is_ready:
            self._tell(lambda principal: principal.deputy_left())

    def _tell(self, say: Callable[[Principal], None]) -> None:
        for principal in list(self._principals):
            if principal in self._principals:
                say(principal)

    def __repr__(self) -> str:
        return f"<DeputyDoor {self._link.tunnel if self._link is not None else 'nobody'}>"


class _Arrival(asyncio.Protocol):
    """Whoever has connected."""

    def __init__(self, door: DeputyDoor) -> None:
        self._door = door

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._door.admit(cast(asyncio.Transport, transport))


class _DeputyLink:
    """One link, as the owner of its tunnel. A deputy opens no stream; it says `ready` once, and statuses after that."""

    def __init__(self, door: DeputyDoor) -> None:
        self._door = door
        self.is_ready = False
        self.tunnel = Tunnel(self, is_client=False, clock=door.clock, budget=door.budget, limits=LIMITS, pace=door.pace)
        self.deadline_at = self.filed_at = NEVER
        door.clock.watch(self, door.clock.now + READY_SECONDS)

    def stream_opened(self, stream: TunnelStream) -> asyncio.Protocol:
        self._refuse("it opens a stream")
        return asyncio.Protocol()

    def control_received(self, text: bytes) -> None:
        try:
            self._act_on(json_object(text))
        except (RemoteProtocolError, ValueError) as error:
            self._refuse(str(error))

    def _act_on(self, message: Mapping[str, object]) -> None:
        match message.get("type"):
            case "ready" if not self.is_ready:
                self.is_ready = True
                self._door.clock.watch(self, NEVER)
                self._door.ready()
            case "setup.status" if self.is_ready:
                self._door.on_status(read_status(message))
            case _:
                raise RemoteProtocolError("a message out of turn")

    def _refuse(self, detail: str) -> None:
        self._door.log.warning("deputy_refused", detail=detail)
        self.tunnel.close(PROTOCOL, "a deputy does not do this")

    def expire(self) -> None:
        """It has come and says nothing."""
        self.tunnel.abort()

    def tunnel_lost(self, code: int | None, reason: str) -> None:
        self._door.clock.watch(self, NEVER)
        self._door.lost(self, reason)
