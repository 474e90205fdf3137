"""A worker that runs sandboxes: their tokens come from the control plane, their requests go through the gateway.

Everything is real: a worker process, its sandboxes, a control plane, a gateway and an origin behind TLS.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sallyport.net.proc import environment_has, pids
from tests.support.client_world import program
from tests.support.control_plane import SANDBOX, SECRET
from tests.support.sandbox_worker import SECONDS, SandboxWorker, sandbox_worker
from tests.support.setup_documents import is_alive
from worker.sandboxes.assembly import MARK

pytestmark = [pytest.mark.uvloop, pytest.mark.full]

URL = "https://api.example.com/v1/x"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[SandboxWorker]:
    async with sandbox_worker(tmp_path) as stand:
        yield stand


async def test_a_request_of_a_sandbox_has_its_credential(stand: SandboxWorker) -> None:
    async with asyncio.TaskGroup() as group:
        made = group.create_task(stand.create(program("curl"), "-sS", URL))
        link = await stand.origin.link(SECONDS)  # the processes of a sandbox start before it asks
        assert f"Authorization: Bearer {SECRET}\r\n".encode() in await link.head()
        link.send(OK)
    assert made.result()["sandboxId"] == SANDBOX
    await stand.until(SANDBOX, status="stopped")
    lines = (await stand.ask("GET", f"/{SANDBOX}/logs"))["lines"]
    assert lines[-1] == "ok"
    assert SECRET not in "".join(lines)


async def test_a_sandbox_that_the_control_plane_does_not_know_is_not_made(stand: SandboxWorker) -> None:
    answer = await stand.create("/bin/true", sandbox_id="sbx_unknown", status=502)
    assert "no token for sbx_unknown" in answer["error"]["message"]
    assert await stand.ask("GET", "") == {"sandboxes": []}
    assert list((stand.state / "local").iterdir()) == []


async def test_a_worker_that_ends_leaves_nothing_running(stand: SandboxWorker) -> None:
    made = await stand.create("/bin/sleep", "600")
    assert await asyncio.to_thread(stand.worker.end) == 0, stand.worker.events[-20:]
    assert not is_alive(made["pid"])
    assert [pid for pid in pids() if environment_has(pid, _mark(stand.state))] == []
    await asyncio.to_thread(stand.worker.start)
    await stand.until(SANDBOX, status="running", desired="running")


def _mark(state: Path) -> bytes:
    return f"{MARK}={(state / 'mark').read_text()}".encode()


async def says(file: Path, text: str) -> None:
    """Wait until a program has written it."""

    def is_said() -> bool:
        return file.exists() and file.read_text() == text

    async with asyncio.timeout(SECONDS):
        while not is_said():  # noqa: ASYNC110  nothing announces it
            await asyncio.sleep(0.05)


async def test_what_is_meant_to_run_runs_again_after_a_crash(stand: SandboxWorker) -> None:
    begun = stand.state / "local" / SANDBOX / "home" / "begun"
    made = await stand.create("/bin/sh", "-c", "echo begun >> ~/begun; exec sleep 600")
    await says(begun, "begun\n")  # what is killed as it begins has not run
    await asyncio.to_thread(stand.worker.kill)
    await asyncio.to_thread(stand.worker.start)
    again = await stand.until(SANDBOX, status="running")
    assert again["pid"] != made["pid"]
    assert not is_alive(made["pid"])
    await says(begun, "begun\nbegun\n")
    await stand.ask("POST", f"/{SANDBOX}/stop")
    assert not is_alive(again["pid"])
    await stand.ask("DELETE", f"/{SANDBOX}")
    assert list((stand.state / "local").iterdir()) == []
