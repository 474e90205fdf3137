"""A client under load on the real feed: control plane, workers, fronts as processes, changed by the operator's API."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import TextContent

from control_client.config import load_config
from control_client.feed_state import Tier
from control_client.push_receiver import DEFAULT_PATH, PushReceiver, serve_pushes
from control_client.tool_client import ToolClient
from sallyport.net.clock import read_clock
from sallyport.net.setting_kinds import HostPort
from sallyport.plan.codec import seal
from tests.support.background import in_background
from tests.support.feed_world import INSTANCE, FeedWorld, RecordingRelay, feed_world, order, recording_relay
from tests.support.figures import waited_for_a_core
from tests.support.front_stage import session
from tests.support.gateway_plans import ORGANIZATION, SANDBOX
from tests.support.gateway_process import Setting
from tests.support.mcp_program import PROGRAM as BAD_PROGRAM
from tests.support.mcp_servers import NODE_FOLDER, server
from tests.support.operator import Operator
from tests.support.plan_documents import plan_document
from tests.support.tool_load import BUILT_IN, CALLERS, Load
from tests.support.tool_server_process import ToolServerProcess, tool_server_processes
from tests.support.up_process import UpProcess, up_process
from tests.support.work_program import PROGRAM

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}
ACCEPT = {"Accept": "application/json, text/event-stream"}
POLL_SECONDS = 3
# What is new is linked to then: a handshake with a worker, which has other work and waits for its core too.
CONVERGED_SECONDS = 5.0
# Contracts section 7.
PUSHED_SECONDS = 2.0
PATIENCE_SECONDS = 60
SHARED = [f"shared{number}" for number in range(5)]
FRAGILE = "fragile"
OPERATOR = [f"operator-only-{number}" for number in range(2)]


class Changes:
    """What is done to the servers while the load is on."""

    def __init__(self, world: FeedWorld, client: ToolClient, within: float) -> None:
        self.slowest = 0.0
        self._within = within
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
        """Wait until each key's feed serves what there is, and its view is that."""
        began, waited = read_clock(), waited_for_a_core()
        async with asyncio.timeout(self._within + PATIENCE_SECONDS):
            while not all([await self._sees_all(tier) for tier in Tier]):  # noqa: ASYNC110  nothing announces it
                await asyncio.sleep(0.05)
        self.slowest = max(self.slowest, read_clock() - began - (waited_for_a_core() - waited))

    async def _sees_all(self, tier: Tier) -> bool:
        served = await self._world.served(tier)
        there = {name for name, tool in self._world.tools.items() if tier is Tier.ADMIN or tool["tier"] == "standard"}
        seen = {name: each.url for name, each in self._client.view(tier).toolsets.items()}
        return seen == served and set(served) - {BUILT_IN} == there

    def held(self) -> bool:
        """Say whether each change was there in time."""
        return self.slowest <= self._within


class Pushed:
    """The subscribers of a client, one of each tier, with relays before it that keep what they are told."""

    def __init__(self, relays: dict[Tier, RecordingRelay]) -> None:
        self.secrets: dict[Tier, str] = {}
        self._relays = relays

    async def subscribe(self, world: FeedWorld) -> None:
        """Be told of the instance."""
        for tier, relay in self._relays.items():
            url = f"http://127.0.0.1:{relay.port}{DEFAULT_PATH}"
            body = {"instanceId": INSTANCE, "url": url, "tier": tier.value}
            self.secrets[tier] = (await world.ask("POST", "/api/push-subscribers", body, status=201))["secret"]

    @contextlib.asynccontextmanager
    async def received(self, receiver: PushReceiver) -> AsyncIterator[None]:
        """Have a receiver told, which listens."""
        stop, listens = asyncio.Event(), asyncio.get_running_loop().create_future()
        async with asyncio.TaskGroup() as group:
            address = HostPort("127.0.0.1", 0)
            group.create_task(serve_pushes(receiver, address, lambda host, port: listens.set_result(port), stop))
            for relay in self._relays.values():
                relay.lead_to(f"http://127.0.0.1:{await listens}")
            yield
            stop.set()

    def heard(self, tier: Tier) -> bytes:
        """Return every byte that was told to a tier's subscriber."""
        return self._relays[tier].heard_by(self.secrets[tier])


@contextlib.asynccontextmanager
async def under_load(world: FeedWorld, *, by_push: Pushed | None = None) -> AsyncIterator[tuple[Changes, Load]]:
    """Have the callers call until the block ends; then every call has had its end.

    With pushes there are no polls.
    """
    environment = {
        "SALLYPORT_API_KEY_STANDARD": world.keys[Tier.STANDARD],
        "SALLYPORT_API_KEY_ADMIN": world.keys[Tier.ADMIN],
        "SALLYPORT_CLIENT_URL": world.url,
        "SALLYPORT_CLIENT_INSTANCE_ID": INSTANCE,
        "SALLYPORT_CLIENT_STATE_DIR": str(world.folder / "client"),
        "SALLYPORT_CLIENT_POLL": f"{POLL_SECONDS}s" if by_push is None else "15m",
        "SALLYPORT_CLIENT_PATIENCE": f"{PATIENCE_SECONDS}s",
        # Calls of five seconds take longer than the ten of the default where a machine has other work.
        "SALLYPORT_CLIENT_GRACE": f"{PATIENCE_SECONDS}s",
    }
    if by_push is not None:
        environment |= {f"SALLYPORT_PUSH_SECRET_{tier.upper()}": secret for tier, secret in by_push.secrets.items()}
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(ToolClient(load_config(environment, world.folder)))
        if by_push is not None:
            await stack.enter_async_context(by_push.received(client.receiver))
        for tier in Tier:
            await client.settled(tier)
        load = Load(client, hidden=OPERATOR, fragile=(FRAGILE,))
        async with asyncio.TaskGroup() as callers:
            for number in range(CALLERS):
                callers.create_task(load.call_on(number))
            try:
                await load.is_steady.wait()
                within = POLL_SECONDS + CONVERGED_SECONDS if by_push is None else PUSHED_SECONDS
                yield Changes(world, client, within), load
            finally:
                load.is_over = True


@pytest.mark.full
@pytest.mark.timeout(240)
async def test_a_front_follows_what_the_control_plane_says(tmp_path: Path) -> None:
    async with feed_world(tmp_path, workers=("here",)) as world, httpx.AsyncClient(trust_env=False) as client:
        await world.share("search", "here")
        await world.share("ops", "here", Tier.ADMIN)
        body = order("notes") | {"userId": "u@x", "workerId": "wrk_here"}
        installed = await world.ask("POST", "/api/installations", body, status=201)
        url = (await world.served(Tier.STANDARD))["search"]
        front = url.removesuffix("search")
        async with asyncio.timeout(PATIENCE_SECONDS):  # an installation is served once its worker has said that it runs
            while set(await world.served(Tier.STANDARD, "u@x")) != {"search", installed["name"]}:  # noqa: ASYNC110  nothing announces it
                await asyncio.sleep(0.05)
        assert set(await world.served(Tier.ADMIN)) == {"search", "ops", BUILT_IN}

        async def asked(name: str, key: str) -> tuple[int, str]:
            answer = await client.post(front + name, json=INITIALIZE, headers=ACCEPT | {"X-API-Key": key}, timeout=30)
            return answer.status_code, answer.text if answer.status_code >= 400 else ""

        standard, admin = world.keys[Tier.STANDARD], world.keys[Tier.ADMIN]
        nothing = await asked("nothing", standard)
        assert nothing[0] == 404
        assert "nothing" not in nothing[1]
        assert [await asked(name, standard) for name in ("ops", installed["toolId"])] == [nothing, nothing]
        assert await asked(quote(f"notes__user_v__{installed['installationId']}"), standard) == nothing
        for name, key in (("search", standard), ("search", admin), ("ops", admin), (installed["name"], standard)):
            assert await asked(quote(name), key) == (200, ""), name

        # Another instance's key names nothing of this one.
        await world.ask("POST", "/api/instances", {"organizationId": "org_two", "instanceId": "two"}, status=201)
        made = await world.ask("POST", "/api/auth/keys", {"instanceId": "two", "tier": "admin"}, status=201)
        assert await asked("search", made["key"]) == nothing
        await world.ask("DELETE", f"/api/auth/keys/{made['clientKeyId']}", status=204)
        await _until(lambda: asked("search", made["key"]), 401)

        # One that was removed is served no more, and lingers for who had it.
        await world.unshare("search")
        assert set(await world.served(Tier.STANDARD)) == set()
        assert await asked("search", standard) == (200, "")

        # While the control plane is away, who was let in goes on, and nobody else.
        until = await _lease_end(world)
        world.plane.kill()
        assert await asked("ops", admin) == (200, "")
        assert (await asked("nothing-else", standard))[0] == 503
        await world.start_plane()
        await _until(lambda: asked("nothing-else", standard), 404)
        assert set(await world.served(Tier.ADMIN)) == {"ops", BUILT_IN}

        # What a worker is asked while it is away it does when it is back. It has reported to this control plane before:
        # else its lease may end, where a start takes long.
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await _lease_end(world) <= until:  # noqa: ASYNC110  nothing announces it
                await asyncio.sleep(0.05)
        world.workers["here"].kill()
        late = order("late") | {"tier": "standard", "workerId": "wrk_here"}
        assert (await world.ask("POST", "/api/shared-tools", late, status=202))["status"] == "pending"
        assert set(await world.served(Tier.ADMIN)) == {"ops", BUILT_IN}
        await world.start_worker("here")
        async with asyncio.timeout(PATIENCE_SECONDS):
            while "late" not in await world.served(Tier.STANDARD):  # noqa: ASYNC110  nothing announces it
                await asyncio.sleep(0.05)
        await _until(lambda: asked("late", standard), 200)


async def _lease_end(world: FeedWorld) -> int:
    [worker] = (await world.ask("GET", "/api/workers"))["items"]
    return int(worker["expiresAt"])


async def _until(ask: Callable[[], Awaitable[tuple[int, str]]], status: int) -> None:
    """Ask until it is answered like this: what a front was told is believed for a second."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await ask())[0] != status:  # noqa: ASYNC110  nothing announces it
            await asyncio.sleep(0.05)


async def begin(world: FeedWorld) -> None:
    """Have what is there from the beginning."""
    for name in SHARED[:3]:
        await world.share(name, "here")
    await world.share(OPERATOR[0], "here", Tier.ADMIN)
    await world.share(FRAGILE, "there")


def held(world: FeedWorld, changes: Changes, load: Load, record_property: Callable[[str, object], None]) -> None:
    """Say what was seen, and that nothing was lost or seen that must not be."""
    told = f"{load.answered.total()} calls, {load.most_open} at once, slowest {changes.slowest:.2f} s"
    print(f"{told}: {load.answered}")
    record_property("tried", ["tool calls", load.answered.total()])
    assert load.wrong == []
    assert load.most_open == CALLERS
    assert {*SHARED, *OPERATOR, FRAGILE} <= set(load.answered)
    assert changes.held()
    kept = b"".join(path.read_bytes() for path in (world.folder / "client").glob("feed-standard-*"))
    at_standard = world.heard_by(Tier.STANDARD) + kept
    assert b"shared0" in at_standard
    assert b"operator-only" not in at_standard
    assert b"operator-only" in world.heard_by(Tier.ADMIN)


@pytest.mark.full
@pytest.mark.timeout(300)
async def test_nothing_is_lost_while_servers_come_go_move_and_crash(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    asyncio.get_running_loop().set_debug(False)
    async with feed_world(tmp_path) as world:
        await begin(world)
        async with under_load(world) as (changes, load):
            await changes.come_and_go()
            await world.crash(FRAGILE)
            await changes.converged()
        held(world, changes, load, record_property)


@pytest.mark.full
@pytest.mark.timeout(300)
async def test_by_push_every_change_is_there_without_a_poll(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    asyncio.get_running_loop().set_debug(False)
    with contextlib.ExitStack() as stack:
        relays = {tier: stack.enter_context(in_background(recording_relay())) for tier in Tier}
        pushed = Pushed(relays)
        async with feed_world(tmp_path) as world:
            await begin(world)
            # Told of what comes; before that nobody would be there to hear it, and it would be tried less and less.
            await pushed.subscribe(world)
            async with under_load(world, by_push=pushed) as (changes, load):
                await changes.come_and_go()
                await world.crash(FRAGILE)
                await changes.converged()
            held(world, changes, load, record_property)
        assert b"shared0" in pushed.heard(Tier.STANDARD)
        assert b"operator-only" not in pushed.heard(Tier.STANDARD)
        assert b"operator-only" in pushed.heard(Tier.ADMIN)


@pytest.mark.full
@pytest.mark.timeout(240)
def test_servers_inside_a_sandbox_are_called_by_the_feed(tmp_path: Path) -> None:
    inside = ToolServerProcess("inside", {"files": "of-the-plan"})
    with tool_server_processes(inside):
        headers = {"Authorization": "Bearer of-the-plan"}
        by_http = {"type": "streamable-http", "url": inside.url("files"), "headers": headers}
        places = {"files": by_http, "own": _stdio(sys.executable, "-IS", str(PROGRAM), "own")}
        with _sandbox_of(tmp_path, places) as (url, key, up):
            asyncio.run(_call_inside(url, key))
            Operator(up).session.ask("DELETE", f"/v1/sandboxes/{SANDBOX}")
            assert asyncio.run(_served(url, key)) == {}


@pytest.mark.full
@pytest.mark.timeout(240)
def test_stdio_servers_of_others_inside_a_sandbox(tmp_path: Path) -> None:
    """By the SDK's client and by ours, through front, gateway, tunnel and sandboxd; bad ones say what is wrong."""
    everything = _stdio(server("mcp-server-everything"), PATH=f"{NODE_FOLDER}:/usr/bin:/bin")
    bad = {name: _stdio(sys.executable, "-IS", str(BAD_PROGRAM), name) for name in ("crash-now", "garbage")}
    places = {"everything": everything, "time": _stdio(server("mcp-server-time")), **bad}
    with _sandbox_of(tmp_path, places) as (url, key, _):
        asyncio.run(_call_stdio(url, key, tmp_path))


async def _call_stdio(url: str, key: str, folder: Path) -> None:
    served = await _serving(url, key, {_inside(name) for name in ("everything", "time", "crash-now", "garbage")})
    await _set_up(served[_inside("everything")], key)
    async with session(served[_inside("everything")], key) as one, session(served[_inside("everything")], key) as two:
        for number, link in enumerate((one, two)):
            echoed = await link.call_tool("echo", {"message": f"hello {number}"})
            assert f"hello {number}" in str(echoed.content)
        seen: list[float] = []

        async def note(progress: float, total: float | None, message: str | None) -> None:
            seen.append(progress)

        # Longer than an answer waits to be one document.
        long = {"duration": 2.0, "steps": 4}
        await one.call_tool("trigger-long-running-operation", long, progress_callback=note)
        assert len(seen) == 4
        assert (await two.list_prompts()).prompts
    for name, words in (("crash-now", "exited with code 3: cannot open the database"), ("garbage", "no messages")):
        with pytest.RaisesGroup(pytest.RaisesExc(MCPError, match=words), flatten_subgroups=True):
            async with session(served[_inside(name)], key):
                pass
    environment = {
        "SALLYPORT_API_KEY_STANDARD": key,
        "SALLYPORT_CLIENT_URL": url,
        "SALLYPORT_CLIENT_INSTANCE_ID": INSTANCE,
        "SALLYPORT_CLIENT_STATE_DIR": str(folder / "client"),
    }
    async with ToolClient(load_config(environment, folder)) as client, asyncio.timeout(PATIENCE_SECONDS):
        name = _inside("time")
        while name not in client.view(Tier.STANDARD).toolsets:  # noqa: ASYNC110  nothing announces it
            await asyncio.sleep(0.05)
        answer = await client.call(Tier.STANDARD, name, "get_current_time", {"timezone": "UTC"})
        assert "UTC" in str(answer.content)


def _stdio(command: str, *args: str, **env: str) -> dict[str, object]:
    return {"type": "stdio", "command": command, "args": list(args)} | ({"env": env} if env else {})


def _inside(server_id: str) -> str:
    return f"sandbox__{SANDBOX}__{server_id}"


@contextlib.contextmanager
def _sandbox_of(folder: Path, places: Mapping[str, object]) -> Iterator[tuple[str, str, UpProcess]]:
    """Yield a control plane's URL, a client's key, and all of it; its one sandbox has these MCP servers."""
    servers = [
        {"serverId": name, "bindingId": f"bnd_{name}", "name": name, "transport": transport}
        for name, transport in places.items()
    ]
    with up_process(folder, Setting(plan=seal(plan_document(mcpServers=servers)))) as up:
        operator = Operator(up).session
        operator.post("/api/instances", {"organizationId": ORGANIZATION, "instanceId": INSTANCE})
        key = str(operator.post("/api/auth/keys", {"instanceId": INSTANCE, "tier": "standard"})["key"])
        yield up.addresses["controlPlane"], key, up


async def _served(url: str, key: str) -> dict[str, str]:
    async with httpx.AsyncClient(trust_env=False, headers={"X-API-Key": key}, timeout=PATIENCE_SECONDS) as client:
        answer = await client.get(f"{url}/api/integrations/client?instanceId={INSTANCE}")
    assert answer.status_code == 200, answer.text
    return {name: each["url"] for name, each in answer.json()["mcpServers"].items()}


async def _serving(url: str, key: str, names: set[str]) -> dict[str, str]:
    """Wait until the feed serves these, and nothing else."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while set(served := await _served(url, key)) != names:  # noqa: ASYNC110  nothing announces it
            await asyncio.sleep(0.1)
    return served


async def _set_up(url: str, key: str) -> None:
    """Ask for what changes nothing, as long as the answer is to ask again: the sandbox's set-up is on its way."""
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        httpx.AsyncClient(trust_env=False, headers={"X-API-Key": key}, timeout=PATIENCE_SECONDS) as client,
    ):
        while (answer := await client.delete(url)).status_code == 503:  # noqa: ASYNC110  as it was told
            await asyncio.sleep(int(answer.headers["Retry-After"]))
    assert answer.status_code < 500, answer.text


async def _call_inside(url: str, key: str) -> None:
    served = await _serving(url, key, {_inside("files"), _inside("own")})
    for name in ("files", "own"):
        await _set_up(served[_inside(name)], key)
        async with session(served[_inside(name)], key) as link:
            assert f"{name}_work" in [tool.name for tool in (await link.list_tools()).tools]
            arguments = {"caller": "a", "number": 1, "steps": 1, "pause": 0.01}
            [content] = (await link.call_tool(f"{name}_work", arguments)).content
            assert isinstance(content, TextContent)
            assert json.loads(content.text)["number"] == 1
    async with httpx.AsyncClient(trust_env=False, headers=ACCEPT | {"X-API-Key": key}) as client:
        answer = await client.post(served[_inside("files")].replace("__files", "__other"), json=INITIALIZE)
    assert answer.status_code == 404
