"""A client under load on the real feed: control plane, workers, fronts as processes, changed by the operator's API."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from control_client.config import load_config
from control_client.feed_state import Tier
from control_client.tool_client import ToolClient
from sallyport.net.clock import read_clock
from tests.support.feed_world import INSTANCE, FeedWorld, feed_world
from tests.support.tool_load import CALLERS, Load

POLL_SECONDS = 3
# A start of a server and its handshake, on a machine with other work.
CONVERGED_SECONDS = 2.0
PATIENCE_SECONDS = 60
SHARED = [f"shared{number}" for number in range(5)]
FRAGILE = "fragile"
OPERATOR = [f"operator-only-{number}" for number in range(2)]


class Changes:
    """What is done to the servers while the load is on."""

    def __init__(self, world: FeedWorld, client: ToolClient) -> None:
        self.slowest = 0.0
        self._world = world
        self._client = client

    async def come_and_go(self) -> None:
        """Add, move, remove and bring back."""
        world = self._world
        for name in SHARED[3:]:
            await world.share(name, "here")
        await world.share(OPERATOR[1], "there", Tier.ADMIN)
        await self.converged()
        for name in (SHARED[0], SHARED[3]):
            await self._move(name, "there")
        await self.converged()
        for name in (SHARED[1], OPERATOR[0]):
            await world.unshare(name)
        await self.converged()
        await self._move(SHARED[0], "here")
        await world.share(SHARED[1], "there")
        await world.share(OPERATOR[0], "here", Tier.ADMIN)
        await self.converged()

    async def _move(self, name: str, worker: str) -> None:
        await self._world.unshare(name)
        await self._world.share(name, worker)

    async def converged(self) -> None:
        """Wait until each key's view is what its feed serves, within a poll."""
        began = read_clock()
        served = {tier: await self._world.served(tier) for tier in Tier}
        async with asyncio.timeout(POLL_SECONDS + CONVERGED_SECONDS + PATIENCE_SECONDS):
            while not all(self._sees(tier, served[tier]) for tier in Tier):  # noqa: ASYNC110  nothing announces it
                await asyncio.sleep(0.005)
        self.slowest = max(self.slowest, read_clock() - began)

    def _sees(self, tier: Tier, served: dict[str, str]) -> bool:
        return {name: each.url for name, each in self._client.view(tier).toolsets.items()} == served


@contextlib.asynccontextmanager
async def under_load(world: FeedWorld) -> AsyncIterator[tuple[Changes, Load]]:
    """Have the callers call until the block ends; then every call has had its end."""
    environment = {
        "SALLYPORT_API_KEY_STANDARD": world.keys[Tier.STANDARD],
        "SALLYPORT_API_KEY_ADMIN": world.keys[Tier.ADMIN],
        "SALLYPORT_CLIENT_URL": world.url,
        "SALLYPORT_CLIENT_INSTANCE_ID": INSTANCE,
        "SALLYPORT_CLIENT_STATE_DIR": str(world.folder / "client"),
        "SALLYPORT_CLIENT_POLL": f"{POLL_SECONDS}s",
        "SALLYPORT_CLIENT_PATIENCE": f"{PATIENCE_SECONDS}s",
        # Calls of five seconds take longer than the ten of the default where a machine has other work.
        "SALLYPORT_CLIENT_GRACE": f"{PATIENCE_SECONDS}s",
    }
    async with ToolClient(load_config(environment, world.folder)) as client:
        for tier in Tier:
            await client.settled(tier)
        load = Load(client, hidden=OPERATOR, fragile=(FRAGILE,))
        async with asyncio.TaskGroup() as callers:
            for number in range(CALLERS):
                callers.create_task(load.call_on(number))
            try:
                await load.is_steady.wait()
                yield Changes(world, client), load
            finally:
                load.is_over = True


@pytest.mark.full
@pytest.mark.timeout(300)
async def test_nothing_is_lost_while_servers_come_go_move_and_crash(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    asyncio.get_running_loop().set_debug(False)
    async with feed_world(tmp_path) as world:
        for name in SHARED[:3]:
            await world.share(name, "here")
        await world.share(OPERATOR[0], "here", Tier.ADMIN)
        await world.share(FRAGILE, "there")
        async with under_load(world) as (changes, load):
            await changes.come_and_go()
            await world.crash(FRAGILE)
            await changes.converged()
        told = f"{load.answered.total()} calls, {load.most_open} at once, slowest {changes.slowest:.2f} s"
        print(f"{told}: {load.answered}")
        record_property("tried", ["tool calls", load.answered.total()])
        assert load.wrong == []
        assert load.most_open == CALLERS
        assert {*SHARED, *OPERATOR, FRAGILE} <= set(load.answered)
        assert changes.slowest <= POLL_SECONDS + CONVERGED_SECONDS
        kept = b"".join(path.read_bytes() for path in (world.folder / "client").glob("feed-standard-*"))
        at_standard = world.heard_by(Tier.STANDARD) + kept
        assert b"shared0" in at_standard
        assert b"operator-only" not in at_standard
        assert b"operator-only" in world.heard_by(Tier.ADMIN)
