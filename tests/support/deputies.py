"""A door for deputies at a real socket of this process, and deputies that a test plays."""

import asyncio
import contextlib
import itertools
import os
import socket
from collections.abc import AsyncIterator, Mapping
from io import StringIO
from typing import Any, Self, cast

from sallyport.net.buffer_budget import BufferBudget
from sallyport.net.clock import Clock
from sallyport.net.memory import memory_pair
from sallyport.net.tunnel import Tunnel
from sallyport.net.unix_stream import connect_name
from sandboxd.deputy.door import BETWEEN_LINKS_SECONDS, DeputyDoor
from sandboxd.log import Log
from tests.support.passing_time import let_time_pass
from tests.support.transports import End
from tests.support.tunnels import Owner
from tests.support.until import until

_numbers = itertools.count()


class DoorOfTest:
    """A door, where it is, and what it has told."""

    def __init__(self, door: DeputyDoor, name: str, log: StringIO) -> None:
        self.door = door
        self.name = name
        self.said = log
        self.statuses: list[Mapping[str, object]] = []
        door.on_status = self.statuses.append

    @property
    def log(self) -> str:
        """What sandboxd's log has of it."""
        return self.said.getvalue()

    async def deputy(self, *, is_ready: bool = True) -> "PlayedDeputy":
        """Come, in a deputy's place."""
        let_time_pass(self.door.clock, BETWEEN_LINKS_SECONDS)
        deputy = PlayedDeputy(self.door.clock)
        await connect_name(lambda: deputy, self.name)
        if is_ready:
            deputy.say({"type": "ready"})
            await until(lambda: self.door.tunnel is not None)
        return deputy

    def gateway_stream(self, connect: Any, target: str, early: bytes = b"") -> End:  # noqa: ANN401  one of two classes
        """Open a stream as the gateway does, and return its end of it."""
        end = End()
        _, stream = memory_pair(asyncio.get_running_loop(), end, asyncio.Protocol())
        protocol = connect(stream, target)
        stream.set_protocol(protocol)
        if early:
            protocol.data_received(early)
        return end


class PlayedDeputy(asyncio.Protocol):
    """One link to a door, of which a test says every word. What sandboxd opens is in `owner.accepted`."""

    def __init__(self, clock: Clock) -> None:
        self.owner = Owner(lambda: End(keeps_half_open=True))
        self.tunnel = Tunnel(self.owner, is_client=True, clock=clock, budget=BufferBudget())
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.tunnel.start(self.transport)

    def say(self, message: Mapping[str, object]) -> None:
        """Send a control message."""
        self.tunnel.send_control(message)

    async def lost(self) -> tuple[int | None, str]:
        """Wait for the link's end."""
        await until(lambda: bool(self.owner.losses))
        return self.owner.losses[0]

    async def opened(self, number: int = 0) -> End:
        """Wait for a stream that sandboxd opens."""
        await until(lambda: len(self.owner.accepted) > number)
        return cast(End, self.owner.accepted[number])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.tunnel.abort()


@contextlib.asynccontextmanager
async def open_door() -> AsyncIterator[DoorOfTest]:
    """Open a door under a name of its own until the block ends."""
    clock = Clock(asyncio.get_running_loop())
    log = StringIO()
    door = DeputyDoor(clock=clock, log=Log("debug", log), budget=BufferBudget())
    name = f"\0sallyport-test-{os.getpid()}-{next(_numbers)}"
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(name)
    listening.listen()
    await door.open(listening.detach())
    try:
        yield DoorOfTest(door, name, log)
    finally:
        await door.close()
        await asyncio.sleep(0)
        clock.close()
