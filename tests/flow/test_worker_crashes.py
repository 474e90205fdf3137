"""A worker is killed while it applies plans, and started again: each plan has its effects once, at every far side.

Everything is real: the worker is a process that gets SIGKILL, and asks a control plane and a gateway through relays
that strike at a chosen moment of a chosen request; the gateway has the tunnel of a sandboxd, which runs the programs of
the plan. What is counted is what those did, not what they were asked.
"""

import asyncio
import contextlib
import random
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from control_client import backoff
from control_plane.service_tokens import token_file
from sallyport.plan.codec import seal
from tests.support.control_plane import ORGANIZATION, SANDBOX, Replica, replica, settings
from tests.support.in_process import GatewayInProcess, in_process_gateway
from tests.support.plan_documents import plan_document
from tests.support.postgres import postgres_server
from tests.support.sandboxd_in_process import in_process_sandboxd
from tests.support.setup_documents import artifact_document, client_document, process_document, shell
from tests.support.until import until
from tests.support.worker_process import Striker, StrikingRelay, WorkerProcess, striking_relay, worker_process

pytestmark = pytest.mark.uvloop

APPLIED = 'sallyport_plan_apply_total{result="applied"}'
# What one application asks of its far sides, in this order where nobody has to wait; the last is asked until it is so.
ASKED = ("GET plan", "PUT plan", "GET placement", "GET placement", "PUT setup", "GET placement", "GET setup")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """The far sides, and the way to them."""

    plane: Replica
    gateway: GatewayInProcess
    striker: Striker
    relay: StrikingRelay
    effects: Path
    folder: Path

    async def publish(self, revision: int) -> None:
        """Store a plan whose artifact and process each leave a line when they are installed and started."""

        def leave(what: str) -> str:
            return f"echo {what} {revision} >> {self.effects}"

        step = {"op": "exec", "args": shell(leave("artifact")), "timeoutMs": 10_000}
        process = process_document("tool", shell(f"{leave('process')}; exec sleep 600"))
        plan = plan_document(
            sandboxId=SANDBOX,
            organizationId=ORGANIZATION,
            revision=revision,
            artifacts=[artifact_document("tool", [step])],
            runtimeClients=[client_document(processes=[process])],
        )
        path = f"/v1/sandboxes/{SANDBOX}/plans?inForce=false"
        await self.plane.ask("POST", path, content=seal(plan), status=201)

    def lines(self) -> list[str]:
        return self.effects.read_text().splitlines() if self.effects.exists() else []

    async def was_applied_once(self, revision: int, before: float) -> None:
        """Check what was done for a revision, and that nothing was done besides."""
        # A process is applied when it is started, and leaves its line after that.
        await until(lambda: f"process {revision}" in self.lines())
        assert sorted(line for line in self.lines() if line.endswith(f" {revision}")) == [
            f"artifact {revision}",
            f"process {revision}",
        ]
        assert self.gateway.metric(APPLIED) - before == 1

    def worker_settings(self, database_url: str | None = None, **further: str) -> dict[str, str]:
        given = {} if database_url is None else {"DATABASE_URL": database_url}
        named = {
            "CONTROL_URL": self.relay.url,
            "CONTROL_TOKEN_FILE": str(token_file(self.plane.config.data_dir, "worker")),
            **given,
            **further,
        }
        return {f"SALLYPORT_WORKER_{name}": value for name, value in named.items()}


@pytest.fixture(autouse=True)
def _quick_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_SECONDS", 0.1)


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    async with contextlib.AsyncExitStack() as opened:
        plane = await opened.enter_async_context(replica(settings(tmp_path / "plane", None)))
        await plane.ask("POST", "/v1/sandboxes", {"organizationId": ORGANIZATION, "sandboxId": SANDBOX}, status=201)
        striker = Striker()
        relay = await opened.enter_async_context(striking_relay(striker, plane.plane.port))
        inward = await opened.enter_async_context(striking_relay(striker))
        control = {
            "url": f"http://127.0.0.1:{plane.plane.port}",
            "token_file": str(token_file(plane.config.data_dir, "gateway")),
            "gateway_id": "gw_1",
            "state_dir": str(tmp_path / "state"),
            "admin_url": inward.url,
        }
        gateway = await opened.enter_async_context(in_process_gateway(tmp_path, control=control))
        inward.lead_to(gateway.gateway.admin_port)
        stand = Stand(
            plane=plane,
            gateway=gateway,
            striker=striker,
            relay=relay,
            effects=tmp_path / "effects",
            folder=tmp_path / "worker",
        )
        await stand.publish(1)
        await plane.ask("PUT", f"/internal/sandboxes/{SANDBOX}/plan", {"revision": 1})
        await until(lambda: gateway.metric("sallyport_control_watch_connected") == 1)
        issued = await plane.ask("POST", f"/v1/sandboxes/{SANDBOX}/tokens", {"kind": "tunnel"}, status=201)
        (tmp_path / "sandbox").mkdir()
        assert gateway.gateway.tunnel is not None
        sandboxd = await opened.enter_async_context(
            in_process_sandboxd(
                tmp_path / "sandbox", f"ws://127.0.0.1:{gateway.gateway.tunnel.port}", token=str(issued["token"])
            )
        )
        await sandboxd.managed(1)
        yield stand


async def killed_at(stand: Stand, worker: WorkerProcess, revision: int, number: int, moment: str) -> None:
    """Apply a plan, kill the worker at one moment, start it again, and look at what came of it."""
    await stand.publish(revision)
    before = stand.gateway.metric(APPLIED)
    stand.striker.arm(number, moment, worker.kill)
    application_id = await worker.begin(SANDBOX, revision)
    async with asyncio.timeout(30):
        await stand.striker.struck.wait()
    await asyncio.to_thread(worker.start)
    ended = await worker.ended(application_id)
    assert ended["state"] == "applied", ended
    await stand.was_applied_once(revision, before)


async def test_a_worker_that_is_killed_goes_on_where_it_was(stand: Stand) -> None:
    with worker_process(stand.folder, stand.worker_settings()) as worker:
        await killed_at(stand, worker, 2, ASKED.index("PUT setup") + 1, "carried out")


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_a_kill_at_every_border_and_inside_every_step_leaves_one_effect(stand: Stand, database: str) -> None:
    """At every moment of every request, and twice each at random ones."""
    chance = random.Random(20)
    with contextlib.ExitStack() as opened:
        url = None
        if database == "postgresql":
            server = opened.enter_context(postgres_server())
            url = server.url(server.create())
        worker = opened.enter_context(worker_process(stand.folder, stand.worker_settings(url)))
        revision = 1
        for number in range(1, len(ASKED) + 1):
            for moment in Striker.MOMENTS:
                revision += 1
                await killed_at(stand, worker, revision, number, moment)
        for _ in range(5):
            revision += 1
            await stand.publish(revision)
            before = stand.gateway.metric(APPLIED)
            application_id = await worker.begin(SANDBOX, revision)
            for _ in range(2):
                await asyncio.sleep(chance.uniform(0.0, 0.5))
                worker.kill()
                await asyncio.to_thread(worker.start)
            assert (await worker.ended(application_id))["state"] == "applied"
            await stand.was_applied_once(revision, before)
    assert len(stand.lines()) == 2 * (revision - 1)


@pytest.mark.full
@pytest.mark.timeout(300)
async def test_a_worker_that_lost_its_lease_acts_no_more(stand: Stand, tmp_path: Path) -> None:
    """It is stopped in the middle of a step for longer than its lease; another one goes on, and then it wakes up."""
    async with striking_relay(Striker(), stand.plane.plane.port) as other_relay:
        with contextlib.ExitStack() as opened:
            server = opened.enter_context(postgres_server())
            url = server.url(server.create())
            first = opened.enter_context(
                worker_process(stand.folder, stand.worker_settings(url, ID="wrk_1", TIMEOUTS_LEASE="1s"))
            )
            await stand.publish(2)
            before = stand.gateway.metric(APPLIED)
            stand.striker.arm(2, "carried out", lambda: first.process.send_signal(signal.SIGSTOP))
            application_id = await first.begin(SANDBOX, 2)
            async with asyncio.timeout(30):
                await stand.striker.struck.wait()
            asked = list(stand.striker.lines)
            settings_of_second = stand.worker_settings(
                url, ID="wrk_2", TIMEOUTS_LEASE="1s", CONTROL_URL=other_relay.url
            )
            second = opened.enter_context(worker_process(tmp_path / "second", settings_of_second))
            assert (await second.ended(application_id))["state"] == "applied"
            await stand.was_applied_once(2, before)
            await stand.publish(3)
            assert (await second.ended(await second.begin(SANDBOX, 3)))["state"] == "applied"
            # The gateway's relay is both workers': what the second asked there is no act of the first.
            asked_since = [line for line in stand.striker.lines[len(asked) :] if "/setup" not in line]
            first.process.send_signal(signal.SIGCONT)
            await asyncio.to_thread(first.process.wait, 30)
            assert first.process.returncode == 3
            assert asked_since == []
            assert [line for line in stand.striker.lines[len(asked) :] if "/setup" not in line] == []
    assert len(stand.lines()) == 4
