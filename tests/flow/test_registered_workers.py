"""Workers and what they run, as the control plane knows of it: real processes that start, change, die and come back."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from control_plane import workers
from control_plane.service_tokens import token_file
from sallyport.plan.codec import seal
from tests.support.control_plane import ORGANIZATION, SANDBOX, Replica, replica, settings
from tests.support.front_stage import ADMIN_KEY
from tests.support.integration_stage import order
from tests.support.plan_documents import plan_document
from tests.support.setup_documents import is_alive
from tests.support.worker_process import WorkerProcess, worker_process

pytestmark = [pytest.mark.uvloop, pytest.mark.timeout(120)]

WAIT_SECONDS = 30.0


@contextlib.contextmanager
def registered(plane: Replica, folder: Path, worker_id: str, **further: str) -> Iterator[WorkerProcess]:
    """Run a worker under a control plane until the block ends."""
    given = {
        "ID": worker_id,
        "CONTROL_URL": f"http://127.0.0.1:{plane.plane.port}",
        "CONTROL_TOKEN_FILE": str(token_file(plane.config.data_dir, "worker")),
        "INTEGRATIONS_STATE_DIR": str(folder / worker_id / "servers"),
        "TIMEOUTS_RECONCILE": "200ms",
        **further,
    }
    named = {f"SALLYPORT_WORKER_{name}": value for name, value in given.items()}
    with worker_process(folder / worker_id, named) as worker:
        yield worker


async def asked(worker: WorkerProcess, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401  JSON
    async with httpx.AsyncClient(base_url=worker.api, trust_env=False, timeout=WAIT_SECONDS) as client:
        answer = await client.request(method, path, json=body)
        assert answer.is_success, answer.text
        return answer.json()


async def install(worker: WorkerProcess, server_id: str) -> int:
    """Install a server and start it; return its process."""
    source = order(name=server_id).model_dump(exclude_none=True)
    await asked(worker, "POST", "/integrations/install", source)
    return int((await asked(worker, "POST", f"/integrations/{server_id}/start"))["pid"])


async def known(plane: Replica) -> dict[str, tuple[str, dict[str, str]]]:
    """Return the state of each worker and of its servers."""
    items = (await plane.ask("GET", "/api/workers"))["items"]
    return {
        each["workerId"]: (each["state"], {server["serverId"]: server["status"] for server in each["servers"]})
        for each in items
    }


async def until_known(plane: Replica, expected: dict[str, tuple[str, dict[str, str]]]) -> None:
    found: object = None
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while (found := await known(plane)) != expected:  # noqa: ASYNC110  over HTTP
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{found} instead of {expected}") from None


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Replica]:
    async with replica(settings(tmp_path / "plane", None)) as plane:
        yield plane


@pytest.mark.full
async def test_what_a_worker_runs_is_known_until_it_ends(plane: Replica, tmp_path: Path) -> None:
    with registered(plane, tmp_path, "wrk_1") as one, registered(plane, tmp_path, "wrk_2") as two:
        pid = await install(one, "tester")
        await install(two, "other")
        await until_known(plane, {"wrk_1": ("live", {"tester": "running"}), "wrk_2": ("live", {"other": "running"})})
        await asked(one, "POST", "/integrations/tester/stop")
        await until_known(plane, {"wrk_1": ("live", {"tester": "stopped"}), "wrk_2": ("live", {"other": "running"})})
        assert await asyncio.to_thread(one.end) == 0
        assert await known(plane) == {"wrk_1": ("withdrawn", {}), "wrk_2": ("live", {"other": "running"})}
        assert not is_alive(pid)


async def test_one_that_is_killed_is_lost_and_comes_back_under_a_newer_epoch(
    plane: Replica, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "LEASE_SECONDS", 2)
    monkeypatch.setattr(workers, "EXPIRY_SECONDS", 0.1)
    with registered(plane, tmp_path, "wrk_1") as worker:
        left = await install(worker, "tester")
        await until_known(plane, {"wrk_1": ("live", {"tester": "running"})})
        [before] = (await plane.ask("GET", "/api/workers"))["items"]
        worker.kill()
        await until_known(plane, {"wrk_1": ("lost", {"tester": "running"})})
        await asyncio.to_thread(worker.start)
        await until_known(plane, {"wrk_1": ("live", {"tester": "running"})})
        [after] = (await plane.ask("GET", "/api/workers"))["items"]
        assert before["epoch"] < after["epoch"]
        # What it left running was ended before it ran again.
        status = await asked(worker, "GET", "/integrations/tester/status")
        assert status["pid"] != left
        assert not is_alive(left)
        stale = {"epoch": before["epoch"], "apiUrl": before["apiUrl"], "servers": []}
        assert await plane.refused("PUT", "/internal/v1/workers/wrk_1", stale) == "409 lease_conflict"


@pytest.mark.full
async def test_a_control_plane_that_was_away_hears_of_all_again(tmp_path: Path) -> None:
    async with replica(settings(tmp_path / "plane", None)) as plane:
        port = plane.plane.port
        opened = contextlib.ExitStack()
        worker = opened.enter_context(registered(plane, tmp_path, "wrk_1"))
        await install(worker, "tester")
        await until_known(plane, {"wrk_1": ("live", {"tester": "running"})})
    with opened:
        await install(worker, "meanwhile")
        again = settings(tmp_path / "plane", None, SALLYPORT_API_LISTEN=f"127.0.0.1:{port}")
        async with replica(again) as plane:
            await until_known(plane, {"wrk_1": ("live", {"meanwhile": "running", "tester": "running"})})


@pytest.mark.full
async def test_a_plan_s_server_runs_before_the_plan_is_in_force(plane: Replica, tmp_path: Path) -> None:
    await plane.ask("POST", "/v1/sandboxes", {"organizationId": ORGANIZATION, "sandboxId": SANDBOX}, status=201)
    keys = tmp_path / "keys"
    keys.write_text(f"me admin {hashlib.sha256(ADMIN_KEY.encode()).hexdigest()}\n")
    front = {"FRONT_LISTEN": "127.0.0.1:0", "FRONT_URL": "https://front.test", "FRONT_KEYS_FILE": str(keys)}
    with registered(plane, tmp_path, "wrk_1", **front) as worker:
        body = order(name="tester").model_dump(exclude_none=True)
        await asked(worker, "POST", "/integrations/install", body)
        transport = {"type": "streamable-http", "url": "https://front.test/mcp/tester"}
        server = {"serverId": "srv", "bindingId": "bnd_one", "name": "tester", "transport": transport}
        for revision, servers in ((1, [server]), (2, [])):
            plan = plan_document(sandboxId=SANDBOX, organizationId=ORGANIZATION, revision=revision, mcpServers=servers)
            await plane.ask("POST", f"/v1/sandboxes/{SANDBOX}/plans?inForce=false", content=seal(plan), status=201)
        # Its set-up waits for a tunnel that never comes; all before that is done.
        application = await worker.begin(SANDBOX, 1)
        step: dict[str, str] = {}
        async with asyncio.timeout(WAIT_SECONDS):
            while step.get("wait_for_gateways") != "done":
                step = {each["name"]: each["state"] for each in (await worker.find(application))["steps"]}
                await asyncio.sleep(0.02)
        assert step["start_integrations"] == "done"
        await until_known(plane, {"wrk_1": ("live", {"tester": "running"})})
        ended = await worker.ended(await worker.begin(SANDBOX, 2))
        assert ended["state"] == "applied"
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                parts = (await asked(worker, "GET", "/v1/reconciliation"))["parts"]
                [found] = [each for each in parts if each["name"] == "plan_servers"]
                if found["repaired"] == 1:
                    break
                await asyncio.sleep(0.02)
        assert {each["name"]: each["issue"] for each in parts} == dict.fromkeys([each["name"] for each in parts])
        async with httpx.AsyncClient(base_url=worker.api, trust_env=False) as client:
            exposed = (await client.get("/metrics")).text
        assert 'sallyport_worker_applications_total{state="applied"} 1.0' in exposed.splitlines()
