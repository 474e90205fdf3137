"""A worker runs sandboxes: their tokens come from the control plane, their requests go through the gateway.

Everything is real: a worker process, its sandboxes, a control plane, a gateway and an origin behind TLS.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from control_plane.service_tokens import token_file
from sallyport.net.proc import environment_has, pids
from tests.support.client_world import program
from tests.support.control_plane import SANDBOX, SECRET, Replica, replica, settings
from tests.support.in_process import in_process_gateway, origin_context
from tests.support.raw_end import RawOrigin, raw_origin
from tests.support.sandbox_network import needs_isolation
from tests.support.sandbox_stage import open_folder
from tests.support.setup_documents import is_alive
from tests.support.worker_process import WorkerProcess, worker_process
from worker.sandboxes.assembly import MARK

pytestmark = [pytest.mark.uvloop, pytest.mark.full]

URL = "https://api.example.com/v1/x"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """The parts. `state` is the worker's folder of sandboxes."""

    worker: WorkerProcess
    plane: Replica
    origin: RawOrigin
    state: Path

    async def ask(self, method: str, path: str, body: object = None, *, status: int = 200) -> Any:  # noqa: ANN401  JSON
        async with httpx.AsyncClient(base_url=self.worker.api, trust_env=False, timeout=SECONDS) as client:
            answer = await client.request(method, f"/v1/sandboxes{path}", json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def create(self, *command: str, sandbox_id: str = SANDBOX, status: int = 201) -> Any:  # noqa: ANN401  JSON
        return await self.ask("POST", "", {"sandboxId": sandbox_id, "command": list(command)}, status=status)

    async def until(self, sandbox_id: str, **wanted: object) -> Any:  # noqa: ANN401  JSON
        async with asyncio.timeout(SECONDS):
            while not wanted.items() <= (document := await self.ask("GET", f"/{sandbox_id}")).items():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        return document


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    needs_isolation()
    async with contextlib.AsyncExitStack() as opened:
        origin = await opened.enter_async_context(raw_origin(origin_context("api.example.com")))
        plane = await opened.enter_async_context(replica(settings(tmp_path / "plane", None)))
        await plane.prepare()
        control = {
            "url": f"http://127.0.0.1:{plane.plane.port}",
            "token_file": str(token_file(plane.config.data_dir, "gateway")),
            "gateway_id": "gw_1",
            "state_dir": str(tmp_path / "state"),
        }
        reached = {"api.example.com:443": origin.port}
        gateway = await opened.enter_async_context(in_process_gateway(tmp_path, control=control, connect_to=reached))
        assert gateway.gateway.tunnel is not None
        folder = opened.enter_context(open_folder())
        given = {
            "CONTROL_URL": f"http://127.0.0.1:{plane.plane.port}",
            "CONTROL_TOKEN_FILE": str(token_file(plane.config.data_dir, "worker")),
            "SANDBOXES_GATEWAY_URL": f"ws://127.0.0.1:{gateway.gateway.tunnel.port}",
            "SANDBOXES_STATE_DIR": str(folder / "state"),
        }
        given = {f"SALLYPORT_WORKER_{name}": value for name, value in given.items()}
        worker = await asyncio.to_thread(opened.enter_context, worker_process(tmp_path / "worker", given))
        yield Stand(worker=worker, plane=plane, origin=origin, state=folder / "state")
        await asyncio.to_thread(worker.end)


async def test_a_request_of_a_sandbox_has_its_credential(stand: Stand) -> None:
    async with asyncio.TaskGroup() as group:
        made = group.create_task(stand.create(program("curl"), "-sS", URL))
        link = await stand.origin.link()
        assert f"Authorization: Bearer {SECRET}\r\n".encode() in await link.head()
        link.send(OK)
    assert made.result()["sandboxId"] == SANDBOX
    await stand.until(SANDBOX, status="stopped")
    lines = (await stand.ask("GET", f"/{SANDBOX}/logs"))["lines"]
    assert lines[-1] == "ok"
    assert SECRET not in "".join(lines)


async def test_a_sandbox_that_the_control_plane_does_not_know_is_not_made(stand: Stand) -> None:
    answer = await stand.create("/bin/true", sandbox_id="sbx_unknown", status=502)
    assert "no token for sbx_unknown" in answer["error"]["message"]
    assert await stand.ask("GET", "") == {"sandboxes": []}
    assert list((stand.state / "local").iterdir()) == []


async def test_a_worker_that_ends_leaves_nothing_running(stand: Stand) -> None:
    made = await stand.create("/bin/sleep", "600")
    assert await asyncio.to_thread(stand.worker.end) == 0
    assert not is_alive(made["pid"])
    assert [pid for pid in pids() if environment_has(pid, _mark(stand.state))] == []
    await asyncio.to_thread(stand.worker.start)
    await stand.until(SANDBOX, status="running", desired="running")


def _mark(state: Path) -> bytes:
    return f"{MARK}={(state / 'mark').read_text()}".encode()


async def test_what_is_meant_to_run_runs_again_after_a_crash(stand: Stand) -> None:
    made = await stand.create("/bin/sh", "-c", "echo begun >> ~/begun; exec sleep 600")
    await asyncio.to_thread(stand.worker.kill)
    await asyncio.to_thread(stand.worker.start)
    again = await stand.until(SANDBOX, status="running")
    assert again["pid"] != made["pid"]
    assert not is_alive(made["pid"])
    begun = stand.state / "local" / SANDBOX / "home" / "begun"
    async with asyncio.timeout(SECONDS):
        while begun.read_text() != "begun\nbegun\n":  # noqa: ASYNC110  nothing announces it
            await asyncio.sleep(0.05)
    await stand.ask("POST", f"/{SANDBOX}/stop")
    assert not is_alive(again["pid"])
    await stand.ask("DELETE", f"/{SANDBOX}")
    assert list((stand.state / "local").iterdir()) == []
