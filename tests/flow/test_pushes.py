"""From a worker's report to what clients know: a real control plane pushes, and our own client hears it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from control_client.feed_key import FeedKey
from control_client.feed_state import Tier
from control_client.follow import Follower
from control_client.push_receiver import DEFAULT_PATH, PushReceiver
from control_client.session import ControlSession
from sallyport.net.clock import read_clock, read_wall
from sallyport.secret import Secret
from tests.support.client_keys import INSTANCE, make_client_key, make_instance
from tests.support.control_plane import Replica, replica, settings
from tests.support.figures import waited_for_a_core
from tests.support.until import until

WORKER = "wrk_1"
# Contracts section 7, for what a change takes to be known by push.
CONVERGED_SECONDS = 2.0


@dataclass
class Stage:
    """A control plane, a worker that only reports, and a follower of each tier that never polls."""

    api: Replica
    followers: dict[Tier, Follower]
    reported: dict[str, str]
    slowest: float = 0.0

    async def share(self, tool_id: str, tier: Tier) -> str:
        """Have a tool shared, which the worker is to install by itself; return its id there."""
        body = {"instanceId": INSTANCE, "toolId": tool_id, "tier": tier, "source": "everything", "workerId": WORKER}
        made = await self.api.ask("POST", "/api/shared-tools", body, status=202)
        return str(made["sharedToolId"])

    async def report(self, **changed: str) -> None:
        """Report what runs: the status of a server by its id, or `gone`."""
        self.reported |= changed
        running = {name: status for name, status in self.reported.items() if status != "gone"}
        servers = [{"serverId": name, "tier": tier, "status": "running", "tools": []} for name, tier in running.items()]
        urls = {"apiUrl": "http://127.0.0.1:1", "frontUrl": "http://127.0.0.1:2"}
        await self.api.ask("PUT", f"/internal/v1/workers/{WORKER}", {"epoch": 1, **urls, "servers": servers})

    async def converged(self, standard: set[str], admin: set[str]) -> None:
        """Wait until each tier's follower knows these names."""
        began, waited = read_clock(), waited_for_a_core()
        seen = {Tier.STANDARD: standard, Tier.ADMIN: admin | {"sallyport"}}
        await until(lambda: all(set(self.followers[tier].known.servers) == names for tier, names in seen.items()))
        self.slowest = max(self.slowest, read_clock() - began - (waited_for_a_core() - waited))


@contextlib.asynccontextmanager
async def staged(folder: Path) -> AsyncIterator[Stage]:
    """Run one."""
    config = settings(folder / "data", None, SALLYPORT_OUTBOUND_ALLOW="127.0.0.0/8")
    async with replica(config) as api, asyncio.TaskGroup() as group:
        await make_instance(api)
        url = f"http://127.0.0.1:{api.plane.port}"
        followers: dict[Tier, Follower] = {}
        sessions: list[ControlSession] = []
        for tier in Tier:
            key = FeedKey(tier, Secret((await make_client_key(api, tier)).encode()), url)
            sessions.append(ControlSession(url, key))
            followers[tier] = Follower(sessions[-1], lambda servers: None, instance_id=INSTANCE)
        receivers: list[PushReceiver] = []  # one, once its secrets are known

        async def receive(request: web.Request) -> web.StreamResponse:
            return await receivers[0].handle(request)

        app = web.Application()
        app.router.add_post(DEFAULT_PATH, receive)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        secrets: dict[Tier, Secret] = {}
        for tier in Tier:
            where = f"http://127.0.0.1:{runner.addresses[0][1]}{DEFAULT_PATH}"
            body = {"instanceId": INSTANCE, "url": where, "tier": tier}
            made = await api.ask("POST", "/api/push-subscribers", body, status=201)
            secrets[tier] = Secret(made["secret"].encode())
        receivers.append(PushReceiver(secrets, lambda tier, push: followers[tier].take(push), wall=read_wall))
        running = [group.create_task(each.run()) for each in followers.values()]
        for each in followers.values():
            await each.has_asked()
        yield Stage(api, followers, {})
        for task in running:
            task.cancel()
        await runner.cleanup()
        for session in sessions:
            await session.close()


async def changes(stage: Stage) -> None:
    """Let tools start and stop, and say after each what is to be known."""
    await stage.report()
    everyone = await stage.share("everyone", Tier.STANDARD)
    operators = await stage.share("operators", Tier.ADMIN)
    await stage.report(**{everyone: Tier.STANDARD})
    await stage.converged({"everyone"}, {"everyone"})
    await stage.report(**{operators: Tier.ADMIN})
    await stage.converged({"everyone"}, {"everyone", "operators"})
    await stage.report(**{everyone: "gone"})
    await stage.converged(set(), {"operators"})
    await stage.report(**{everyone: Tier.STANDARD, operators: "gone"})
    await stage.converged({"everyone"}, {"everyone"})


async def test_what_changes_is_known_by_push(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        asked = {tier: each.known.etag for tier, each in stage.followers.items()}
        assert all(asked.values())
        await changes(stage)
        listed: Any = await stage.api.ask("GET", "/api/push-subscribers")
    assert {each["lastStatus"] for each in listed["items"]} == {200}
    # A push takes the tag of an answer away; so nobody asked again.
    assert {each.known.etag for each in stage.followers.values()} == {None}


@pytest.mark.full
async def test_within_two_seconds(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await changes(stage)
    print(f"slowest {stage.slowest:.3f} s")
    assert stage.slowest <= CONVERGED_SECONDS
