"""Where redirected connections were going, as the kernel tells it."""

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from sallyport.net.original_destination import OriginalDestination, original_destination
from sallyport.net.sandbox_network import SandboxNetwork
from sallyport.net.transports import Listener, adopt
from tests.support.raw_end import RawEnd
from tests.support.sandbox_network import Inside, sandbox_network
from tests.support.until import until

pytestmark = pytest.mark.uvloop


class Telling(asyncio.Protocol):
    """Notes where each connection was going."""

    def __init__(self, found: list[OriginalDestination | None]) -> None:
        self._found = found

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._found.append(original_destination(transport))  # type: ignore[arg-type]  # uvloop's inherits from nothing
        transport.close()


@pytest.fixture
async def inside() -> AsyncIterator[Inside]:
    with sandbox_network() as network:
        inside = Inside(network)
        yield inside
        inside.close()


@pytest.mark.parametrize(("address", "port"), [("192.0.2.34", 443), ("2001:db8::17", 8443)])
async def test_an_address_and_a_port(inside: Inside, address: str, port: int) -> None:
    found: list[OriginalDestination | None] = []
    listener = await _listening(inside.network, found)
    await inside.reach(address, port)
    await until(lambda: bool(found))
    assert found[0] is not None
    assert (str(found[0].address), found[0].port) == (address, port)
    await listener.close()


async def test_what_came_to_our_own_port_was_going_nowhere(inside: Inside) -> None:
    found: list[OriginalDestination | None] = []
    listener = await _listening(inside.network, found)
    await inside.reach("127.0.0.1", listener.port)
    await until(lambda: bool(found))
    assert found == [None]
    await listener.close()


async def test_a_connection_of_this_machine_was_not_redirected() -> None:
    found: list[OriginalDestination | None] = []
    server = await asyncio.get_running_loop().create_server(lambda: Telling(found), "127.0.0.1", 0)
    end = await RawEnd.dial(server.sockets[0].getsockname()[1])
    await until(lambda: bool(found))
    assert found == [None]
    end.close()
    server.close()


async def _listening(network: SandboxNetwork, found: list[OriginalDestination | None]) -> Listener:

    listener = await adopt([os.dup(each) for each in network.connections], lambda: Telling(found))
    await listener.start()
    return listener
