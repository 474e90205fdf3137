"""A control plane and workers with their fronts, as processes, and relays that keep every byte a client hears."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import httpx

from control_client.feed_state import Tier
from sallyport.net.orphans import find_marked
from tests.support.background import in_background
from tests.support.relay import Relay, Way
from tests.support.work_program import PROGRAM
from tests.support.worker_process import PartProcess, WorkerProcess
from worker.integrations.launch import MARK, server_mark

INSTANCE: Final = "default"
ORGANIZATION: Final = "org_one"
ASK_SECONDS: Final = 60.0
# Longer than a poll of the client and a call together, on a machine with other work.
LINGER_SECONDS: Final = 60


class RecordingRelay(Relay):
    """Passes on what comes and keeps both directions of every connection, which is one key's."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0))
        self._heard: list[tuple[bytearray, bytearray]] = []

    def lead_to(self, url: str) -> None:
        """Say where connections go."""
        self._target = ("127.0.0.1", httpx.URL(url).port or 0)

    def ways(self, back: asyncio.StreamWriter) -> tuple[Way, Way]:
        """Keep both."""
        there, here = _Kept(), _Kept()
        self._heard.append((there.bytes, here.bytes))
        return there, here

    def heard_by(self, key: str) -> bytes:
        """Return every byte of the connections on which this key was shown."""
        return b"".join(bytes(there + here) for there, here in self._heard if key.encode() in there)


class _Kept:
    """One direction."""

    def __init__(self) -> None:
        self.bytes = bytearray()

    def take(self, data: bytes) -> bytes:
        self.bytes += data
        return data


@contextlib.asynccontextmanager
async def recording_relay() -> AsyncIterator[RecordingRelay]:
    """Run one until the block ends."""
    relay = RecordingRelay()
    await relay.start()
    try:
        yield relay
    finally:
        await relay._stop()


class FeedWorld:
    """The processes, and what is asked of them by the operator's API."""

    def __init__(self, folder: Path, relays: dict[str, RecordingRelay]) -> None:
        self.folder = folder
        self.relays = relays
        self.keys: dict[Tier, str] = {}
        self.plane = PartProcess(
            folder,
            ("control-plane", "serve", "--data-dir", str(folder / "plane"), "--listen", "127.0.0.1:0"),
            {
                "SALLYPORT_FEED_LINGER": f"{LINGER_SECONDS}s",
                "SALLYPORT_API_PUBLIC_URL": self.url,
                "SALLYPORT_OUTBOUND_ALLOW": "127.0.0.0/8",
            },
        )
        self.workers = {
            name: WorkerProcess(folder / name, self._settings(name, relay))
            for name, relay in relays.items()
            if name != "plane"
        }
        self.tools: dict[str, dict[str, Any]] = {}  # by toolId, as the API has it
        self._http: httpx.AsyncClient

    @property
    def url(self) -> str:
        """Where clients ask for their feed."""
        return f"http://127.0.0.1:{self.relays['plane'].port}"

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run everything, with an instance and a key of each tier."""
        processes = [self.plane, *self.workers.values()]
        try:
            await self.start_plane()
            for name in self.workers:
                await self.start_worker(name)
            token = (self.folder / "plane" / "service-token.cli").read_text().strip()
            async with httpx.AsyncClient(
                base_url=self.url,
                headers={"Authorization": f"Bearer {token}"},
                trust_env=False,
                timeout=ASK_SECONDS,
            ) as self._http:
                await self._prepare()
                yield
        finally:
            for each in reversed(processes):
                await asyncio.to_thread(each.end)

    async def start_plane(self) -> None:
        """Start the control plane, for the first time or again."""
        await asyncio.to_thread(self.plane.start)
        self.relays["plane"].lead_to(self.plane.api)

    async def start_worker(self, name: str) -> None:
        """Start a worker, for the first time or again."""
        worker = self.workers[name]
        heard = len(worker.events)
        await asyncio.to_thread(worker.start)
        # It logs that after the API is ready, or before.
        ready: list[str] = []
        async with asyncio.timeout(ASK_SECONDS):
            while not ready:
                await asyncio.sleep(0.01)
                ready = [each["front"] for each in worker.events[heard:] if each["event"] == "front_ready"]
        self.relays[name].lead_to(f"http://{ready[-1]}")

    async def ask(self, method: str, path: str, body: object = None, status: int = 200) -> Any:  # noqa: ANN401  JSON
        """Ask the API as an operator."""
        answer = await self._http.request(method, path, json=body)
        assert answer.status_code == status, (method, path, answer.status_code, answer.text)
        return answer.json() if answer.content else None

    async def share(self, tool_id: str, worker: str, tier: Tier = Tier.STANDARD) -> None:
        """Have a program of work shared, at one of the workers."""
        body = order(tool_id) | {"tier": tier.value, "workerId": f"wrk_{worker}"}
        made = await self.ask("POST", "/api/shared-tools", body, status=201)
        assert "issue" not in made, made
        self.tools[tool_id] = made

    async def unshare(self, tool_id: str) -> None:
        """Take one away."""
        await self.ask("DELETE", f"/api/shared-tools/{self.tools.pop(tool_id)['sharedToolId']}", status=204)

    async def crash(self, tool_id: str) -> None:
        """Kill every process of one, those of its callers' sessions too; its worker starts it again."""
        tool = self.tools[tool_id]
        status = await self._status(tool)
        found = await asyncio.to_thread(find_marked, MARK, "")
        ours = [mark for mark in found if server_mark(mark).endswith(f".{tool['sharedToolId']}")]
        pids = [pid for mark in ours for pid in found[mark]]
        assert status["pid"] in pids
        assert len(pids) > len(Tier), "each tier's client has a session"
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(ASK_SECONDS):
            while True:
                now = await self._status(tool)
                if now["status"] == "running" and now["pid"] not in (None, status["pid"]):
                    return
                await asyncio.sleep(0.02)

    async def served(self, tier: Tier, user_id: str = "nobody") -> dict[str, str]:
        """Return what the feed serves a tier, by name; not by way of the relay."""
        headers = {"X-API-Key": self.keys[tier]}
        async with httpx.AsyncClient(trust_env=False, timeout=ASK_SECONDS) as client:
            path = f"{self.plane.api}/api/integrations/client?instanceId={INSTANCE}&userId={user_id}"
            answer = await client.get(path, headers=headers)
        assert answer.status_code == 200, answer.text
        return {name: each["url"] for name, each in answer.json()["mcpServers"].items()}

    def heard_by(self, tier: Tier) -> bytes:
        """Return every byte that passed where this tier's key was shown."""
        return b"".join(relay.heard_by(self.keys[tier]) for relay in self.relays.values())

    async def _status(self, tool: dict[str, Any]) -> dict[str, Any]:
        worker = self.workers[tool["workerId"].removeprefix("wrk_")]
        async with httpx.AsyncClient(trust_env=False, timeout=ASK_SECONDS) as client:
            found: dict[str, Any] = (
                await client.get(f"{worker.api}/integrations/{tool['sharedToolId']}/status")
            ).json()
        return found

    async def _prepare(self) -> None:
        await self.ask("POST", "/api/instances", {"organizationId": ORGANIZATION, "instanceId": INSTANCE}, status=201)
        for tier in Tier:
            body = {"instanceId": INSTANCE, "tier": tier.value}
            self.keys[tier] = (await self.ask("POST", "/api/auth/keys", body, status=201))["key"]
        async with asyncio.timeout(ASK_SECONDS):
            # Nothing announces that they have registered.
            while len((await self.ask("GET", "/api/workers"))["items"]) < len(self.workers):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    def _settings(self, name: str, relay: RecordingRelay) -> dict[str, str]:
        own = {
            "ID": f"wrk_{name}",
            "CONTROL_URL": self.url,
            "CONTROL_TOKEN_FILE": str(self.folder / "plane" / "service-token.worker"),
            "FRONT_LISTEN": "127.0.0.1:0",
            "FRONT_URL": f"http://127.0.0.1:{relay.port}",
            "INTEGRATIONS_STATE_DIR": str(self.folder / name / "servers"),
            "INTEGRATIONS_TIMEOUTS_FIRST_RESTART": "50ms",
            "INTEGRATIONS_TIMEOUTS_EXIT": "1s",
        }
        return {f"SALLYPORT_WORKER_{setting}": value for setting, value in own.items()}


def order(tool_id: str) -> dict[str, object]:
    """Return what has a program of work installed."""
    transport = {"type": "stdio", "command": sys.executable, "args": ["-IS", str(PROGRAM), tool_id]}
    return {"instanceId": INSTANCE, "toolId": tool_id, "source": {"id": tool_id, "transport": transport}}


@contextlib.asynccontextmanager
async def feed_world(folder: Path, *, workers: Sequence[str] = ("here", "there")) -> AsyncIterator[FeedWorld]:
    """Run one until the block ends."""
    with contextlib.ExitStack() as stack:
        relays = {name: stack.enter_context(in_background(recording_relay())) for name in ("plane", *workers)}
        world = FeedWorld(folder, relays)
        async with world.running():
            yield world
