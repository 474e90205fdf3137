"""The tunnels of a gateway: whose they are, who hears of them, and that nothing of them is forgotten or kept."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sallyport.net.websocket_upgrade import upgrade_request
from sallyport.wire.websocket import DRAINING, REPLACED, REVOKED
from tests.support.gateway_plans import plan
from tests.support.in_process import GatewayInProcess, in_process_gateway, signed_token
from tests.support.passing_time import let_time_pass
from tests.support.raw_end import RawEnd
from tests.support.until import until

pytestmark = pytest.mark.uvloop


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[GatewayInProcess]:
    async with in_process_gateway(tmp_path, plan=plan([])) as gateway:
        yield gateway


async def test_a_sandbox_has_one_current_tunnel(gateway: GatewayInProcess) -> None:
    tunnels = gateway.parts.tunnels
    assert (len(tunnels), tunnels.current("sbx_one"), list(tunnels.sandboxes())) == (0, None, [])
    one, two = await gateway.tunnel(), await gateway.tunnel("sbx_two")
    first = tunnels.current("sbx_one")
    assert first is not None
    assert [sandbox_id for sandbox_id, _ in tunnels.sandboxes()] == ["sbx_one", "sbx_two"]
    newer = await gateway.tunnel()
    second = tunnels.current("sbx_one")
    assert second is not None
    assert second is not first
    assert second.epoch >= first.epoch
    assert await one.ended() == REPLACED
    await until(lambda: len(tunnels) == 2)
    assert tunnels.current("sbx_one") is second
    assert (two.lost, newer.lost) == (None, None)
    assert repr(second).startswith("<TunnelHost of sbx_one: <Tunnel open")


async def test_s10_tunnels_that_were_replaced_take_no_place_while_they_linger(gateway: GatewayInProcess) -> None:
    streams = gateway.parts.streams
    lingering = [await opened(gateway) for _ in range(5)]
    newest = await gateway.tunnel()
    assert (streams.open, streams.admitted, len(gateway.parts.tunnels)) == (6, 1, 6)
    assert gateway.metric("sallyport_active_streams") == 0
    # A token that is taken away finds the one that is open; the others are ending, and say so still.
    gateway.gateway.revoke("sandbox", "sbx_one", gateway.parts.clock.wall + 60)
    assert await newest.ended() == REVOKED
    for end in lingering:
        assert REPLACED.to_bytes(2) in await end.until(b"a newer tunnel of this sandbox has come")
        end.close()
    await until(lambda: streams.open == 0)
    assert (streams.admitted, streams.of_sandboxes, len(gateway.parts.tunnels)) == (0, 0, 0)


async def test_s10_of_replaced_tunnels_the_oldest_makes_room(tmp_path: Path) -> None:
    async with in_process_gateway(tmp_path, plan=plan([]), further={"limits": {"anonymous_streams": 2}}) as gateway:
        streams = gateway.parts.streams
        lingering = [await opened(gateway) for _ in range(4)]
        assert (streams.admitted, streams.dropped) == (1, 1)
        await lingering[0].gone()
        await until(lambda: streams.open == 3)
        assert await gateway.tunnel() is not None
        for end in lingering:
            end.close()


async def test_a_replaced_tunnel_that_lingers_does_not_hold_up_a_drain(gateway: GatewayInProcess) -> None:
    replaced = await opened(gateway)
    newer = await gateway.tunnel()
    gateway.parts.tunnels.close_all()
    assert await newer.ended() == DRAINING
    await replaced.until(b"a newer tunnel of this sandbox has come")
    let_time_pass(gateway.parts.clock, 3)
    await until(lambda: gateway.parts.streams.open == 0)
    replaced.close()


async def opened(gateway: GatewayInProcess) -> RawEnd:
    """Open a tunnel whose sandboxd answers nothing, not even a close frame."""
    assert gateway.gateway.tunnel is not None
    end = await RawEnd.dial(gateway.gateway.tunnel.port)
    end.send(upgrade_request("gateway.test", token=signed_token("sallyport-tunnel"))[0])
    assert (await end.head()).startswith(b"HTTP/1.1 101 ")
    return end


async def test_subscribers_hear_of_each_new_tunnel_and_of_the_last_one_s_end(gateway: GatewayInProcess) -> None:
    heard: list[str] = []
    gateway.parts.tunnels.subscribe(heard.append)
    await gateway.tunnel()
    newer = await gateway.tunnel()
    await until(lambda: len(gateway.parts.tunnels) == 1)
    assert heard == ["sbx_one", "sbx_one"]  # the newer one has an epoch of its own
    newer.abort()
    await until(lambda: len(gateway.parts.tunnels) == 0)
    assert heard == ["sbx_one"] * 3
    assert gateway.parts.tunnels.current("sbx_one") is None


async def test_closing_all_tells_every_sandboxd_to_come_back(gateway: GatewayInProcess) -> None:
    clients = [await gateway.tunnel(f"sbx_{number}") for number in range(3)]
    gateway.parts.tunnels.close_all()
    assert [await client.ended() for client in clients] == [DRAINING] * 3
    await until(lambda: gateway.parts.streams.open == 0)


async def test_a_plan_of_another_sandbox_is_not_told(gateway: GatewayInProcess) -> None:
    two = await gateway.tunnel("sbx_two")
    gateway.parts.plans.apply(plan([], revision=2))
    gateway.parts.tunnels.plan_changed("sbx_three")
    assert await two.ended_within_a_moment() is None
    assert two.control == []
