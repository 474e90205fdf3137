"""The head of a stream that the gateway opens; over a real tunnel it is in test_tunnel_client.py."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from sallyport.net.clock import Clock
from sallyport.net.memory import memory_pair
from sandboxd.offered_stream import OfferedStream
from tests.support.passing_time import let_time_pass
from tests.support.transports import End


class Local:
    """Takes every stream."""

    def __init__(self) -> None:
        self.targets: list[str] = []
        self.end = End()

    def connect(self, stream: asyncio.Transport, target: str) -> asyncio.Protocol:
        self.targets.append(target)
        self.end.connection_made(stream)
        return self.end


@pytest.fixture
async def clock() -> AsyncIterator[Clock]:
    clock = Clock(asyncio.get_running_loop())
    yield clock
    clock.close()


def offered(clock: Clock) -> tuple[End, Local]:
    gateway, local = End(), Local()
    memory_pair(asyncio.get_running_loop(), gateway, OfferedStream(clock, local))
    return gateway, local


@pytest.mark.parametrize("cut", [1, 20, 60, 200])
async def test_a_head_in_pieces_and_what_comes_behind_it(clock: Clock, cut: int) -> None:
    gateway, local = offered(clock)
    head = b"CONNECT mcp/con_1 HTTP/1.1\r\nHost: sandbox\r\n\r\nbehind"
    for start in range(0, len(head), cut):
        gateway.transport.write(head[start : start + cut])
        await asyncio.sleep(0)
    await local.end.until_received(b"behind")
    assert local.targets == ["mcp/con_1"]
    let_time_pass(clock, 60)
    gateway.transport.write(b" and more")
    await local.end.until(lambda end: end.received == b"behind and more")


async def test_a_head_that_does_not_come_is_not_waited_for(clock: Clock) -> None:
    gateway, local = offered(clock)
    gateway.transport.write(b"CONNECT ")
    await asyncio.sleep(0)
    let_time_pass(clock, 11)
    await gateway.until_event("lost")
    assert local.targets == []
