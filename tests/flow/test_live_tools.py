"""A whole client under load: 200 calls at once on real servers that are added, removed, moved and killed meanwhile."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from control_client.config import load_config
from control_client.feed_state import Tier
from control_client.push_receiver import DEFAULT_PATH, serve_pushes
from control_client.tool_client import ToolClient
from sallyport.net.clock import read_clock
from sallyport.net.setting_kinds import HostPort
from tests.support.client_feed import (
    ADMIN_KEY,
    ADMIN_SECRET,
    INSTANCE,
    STANDARD_KEY,
    STANDARD_SECRET,
    ClientFeed,
    client_feed,
)
from tests.support.figures import waited_for_a_core
from tests.support.tool_load import CALLERS, Load
from tests.support.tool_server_process import ToolServerProcess, tool_server_processes

CONVERGED_SECONDS = 2.0
# A start of the server's process is seconds of imports on a busy machine.
PATIENCE_SECONDS = 60
SHARED = [f"shared{number}" for number in range(6)]
FRAGILE = "fragile"
OPERATOR = [f"operator-only-{number}" for number in range(2)]
BOTH_KEYS = f"{STANDARD_KEY},{ADMIN_KEY}"


class World:
    """The feed and its servers, in two places that serve everything and one that crashes, and a client under load."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        keys = dict.fromkeys(SHARED, BOTH_KEYS) | dict.fromkeys(OPERATOR, ADMIN_KEY)
        self.here, self.there = ToolServerProcess("here", keys), ToolServerProcess("there", keys)
        self.fragile = ToolServerProcess("fragile", {FRAGILE: BOTH_KEYS})
        self.slowest = 0.0
        self.feed: ClientFeed
        self.client: ToolClient
        self.load: Load

    async def add(self, name: str, place: ToolServerProcess) -> None:
        """Have a server served from a place, a new one or one that was elsewhere."""
        tier = Tier.ADMIN if name in OPERATOR else Tier.STANDARD
        await self.feed.change("shared_tool_started", added={name: (tier, place.url(name))})

    async def remove(self, name: str) -> None:
        """Take a server away."""
        await self.feed.change("shared_tool_stopped", removed=(name,))

    async def converged(self, within: float) -> None:
        """Wait until each key sees what the feed serves it; it has so long, and what it waits for a core."""
        began, waited = read_clock(), waited_for_a_core()
        async with asyncio.timeout(within + 20):
            while not all(self._sees(tier) for tier in Tier):  # noqa: ASYNC110  nothing announces it
                await asyncio.sleep(0.005)
        took = read_clock() - began
        waited = waited_for_a_core() - waited
        self.slowest = max(self.slowest, took)
        assert took - waited <= within, f"{took:.2f} s, {waited:.2f} s of them without a core"

    async def come_and_go(self, within: float, *, one_by_one: bool) -> None:
        """Change the servers in every way, with the load on: one by one, or as many at once as make sense."""
        joined = [*((name, self.here) for name in SHARED[3:]), (OPERATOR[1], self.there)]
        moved = [(name, self.there) for name in (*SHARED[:3], OPERATOR[0])]
        for changed in (joined, moved):
            for name, place in changed:
                await self.add(name, place)
                if one_by_one:
                    await self.converged(within)
            await self.converged(within)
        # Changes may be quicker than calls: nothing is taken away before all that are there now have been called.
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not {*SHARED, *OPERATOR} <= set(self.load.answered):  # noqa: ASYNC110  nothing announces it
                await asyncio.sleep(0.05)
        for name in (SHARED[3], OPERATOR[0], SHARED[0]):
            await self.remove(name)
            if one_by_one:
                await self.converged(within)
        await self.converged(within)
        # In one go: one that leaves and comes back elsewhere, one that comes, one that moves.
        await self.remove(SHARED[4])
        await self.add(SHARED[0], self.here)
        await self.add(SHARED[1], self.here)
        await self.add(SHARED[4], self.there)
        await self.converged(within)

    async def crash(self) -> None:
        """Kill a server in the middle of its calls, and start it again."""
        self.fragile.kill()
        self.fragile.begin()
        await asyncio.to_thread(self.fragile.listening)

    def _sees(self, tier: Tier) -> bool:
        view = self.client.view(tier)
        return {name: each.url for name, each in view.toolsets.items()} == self.feed.seen(tier)


@contextlib.asynccontextmanager
async def under_load(folder: Path, **settings: str) -> AsyncIterator[World]:
    """Run a world, with its callers until the block ends; then every call has had its end."""
    # It is timed, and what asyncio notes of every future in its debug mode costs more than the calls.
    asyncio.get_running_loop().set_debug(False)
    world = World(folder)
    with tool_server_processes(world.here, world.there, world.fragile):
        async with client_feed() as feed, asyncio.TaskGroup() as group:
            world.feed = feed
            for name in (*SHARED[:3], OPERATOR[0]):
                await world.add(name, world.here)
            await world.add(FRAGILE, world.fragile)
            environment = {
                "SALLYPORT_API_KEY_STANDARD": STANDARD_KEY,
                "SALLYPORT_API_KEY_ADMIN": ADMIN_KEY,
                "SALLYPORT_PUSH_SECRET_STANDARD": STANDARD_SECRET,
                "SALLYPORT_PUSH_SECRET_ADMIN": ADMIN_SECRET,
                "SALLYPORT_CLIENT_URL": feed.url,
                "SALLYPORT_CLIENT_INSTANCE_ID": INSTANCE,
                "SALLYPORT_CLIENT_STATE_DIR": str(folder),
                "SALLYPORT_CLIENT_PATIENCE": f"{PATIENCE_SECONDS}s",
                # Calls of five seconds take longer than the ten of the default where a machine has other work.
                "SALLYPORT_CLIENT_GRACE": f"{PATIENCE_SECONDS}s",
            }
            client = ToolClient(load_config(environment | settings, folder))
            listens: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            stop = asyncio.Event()
            address = HostPort("127.0.0.1", 0)
            serving = serve_pushes(client.receiver, address, lambda host, port: listens.set_result(port), stop)
            group.create_task(serving)
            feed.subscribers = dict.fromkeys(Tier, f"http://127.0.0.1:{await listens}{DEFAULT_PATH}")
            async with client:
                for tier in Tier:
                    await client.settled(tier)
                world.client, world.load = client, Load(client, hidden=OPERATOR, fragile=(FRAGILE,))
                async with asyncio.TaskGroup() as callers:
                    for number in range(CALLERS):
                        callers.create_task(world.load.call_on(number))
                    try:
                        # So many first calls at one moment are a load of their own.
                        await world.load.is_steady.wait()
                        yield world
                    finally:
                        world.load.is_over = True
            stop.set()


def held(world: World, record_property: Callable[[str, object], None]) -> None:
    """Say what was seen, and that nothing was lost or seen that must not be."""
    load = world.load
    record_property("tried", ["tool calls", load.answered.total()])
    print(f"{load.answered.total()} calls, {load.most_open} at once, slowest {world.slowest:.2f} s: {load.answered}")
    assert load.wrong == []
    assert load.most_open == CALLERS
    assert {*SHARED, *OPERATOR, FRAGILE} <= set(load.answered)
    kept = b"".join(path.read_bytes() for path in world.folder.glob("feed-standard-*"))
    at_standard = b"".join(world.feed.sent[Tier.STANDARD]) + kept
    assert b"shared0" in at_standard
    assert not any(name.encode() in at_standard for name in OPERATOR)
    assert b"operator-only" in b"".join(world.feed.sent[Tier.ADMIN])


@pytest.mark.full
@pytest.mark.timeout(180)
async def test_by_push_nothing_is_lost_and_every_change_is_there_within_two_seconds(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    async with under_load(tmp_path) as world:
        await world.come_and_go(CONVERGED_SECONDS, one_by_one=True)
        await world.crash()
        await world.come_and_go(CONVERGED_SECONDS, one_by_one=True)
        assert set(world.feed.statuses) == {200}
        assert len(world.feed.asked) == len(Tier)  # pushes were enough
    held(world, record_property)


@pytest.mark.full
@pytest.mark.timeout(180)
async def test_with_every_push_lost_each_change_is_there_within_a_poll(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    poll_seconds = 3
    async with under_load(tmp_path, SALLYPORT_CLIENT_POLL=f"{poll_seconds}s") as world:
        world.feed.loses_pushes = True
        await world.come_and_go(poll_seconds + CONVERGED_SECONDS, one_by_one=False)
        await world.crash()
        assert world.feed.statuses == []
    held(world, record_property)
