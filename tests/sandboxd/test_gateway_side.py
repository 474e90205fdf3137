"""Who waits for a managed set or a tunnel is told, in order, and may leave or come while others are told."""

import asyncio

import pytest

from sallyport.net.tunnel import TunnelUnavailable
from sandboxd.core.intake import ManagedSet
from sandboxd.gateway_side import GatewaySide

SET = ManagedSet(revision=1, hosts=())


class Opens:
    def __init__(self, *, can_open: bool = True, is_open: bool = True) -> None:
        self.can_open = can_open
        self.is_open = is_open

    def open_stream(self, protocol: asyncio.Protocol) -> asyncio.Transport:
        raise TunnelUnavailable("full")


class Waits:
    def __init__(self, side: GatewaySide, told: list[str], name: str, leaves: "Waits | None" = None) -> None:
        self._side = side
        self._told = told
        self._name = name
        self._leaves = leaves

    def gateway_changed(self) -> None:
        self._told.append(self._name)
        if self._leaves is not None:
            self._side.leave(self._leaves)


def test_waiters_are_told_in_order_and_not_after_they_left() -> None:
    side, told = GatewaySide(), list[str]()
    last = Waits(side, told, "last")
    for waiter in (Waits(side, told, "first"), Waits(side, told, "second", leaves=last), last):
        side.wait(waiter)
    side.set_managed(SET)
    assert told == ["first", "second"]
    side.set_tunnel(Opens())
    assert told == ["first", "second"] * 2
    side.set_tunnel(None)
    assert len(told) == 4, "the loss of a tunnel is nothing to go on with"
    assert side.managed is SET


async def test_who_waits_can_be_waited_for() -> None:
    side = GatewaySide()
    waiter = Waits(side, [], "only")
    async with asyncio.TaskGroup() as group:
        awaited = group.create_task(side.until_waited_for())
        await asyncio.sleep(0)
        assert not awaited.done()
        side.wait(waiter)
    side.leave(waiter)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await side.until_waited_for()


def test_there_is_no_stream_without_a_tunnel_or_in_a_full_one() -> None:
    side = GatewaySide()
    with pytest.raises(TunnelUnavailable):
        side.open_stream(asyncio.Protocol())
    assert not side.is_full
    for is_open in (True, False):
        side.set_tunnel(Opens(can_open=False, is_open=is_open))
        assert side.is_full == is_open
