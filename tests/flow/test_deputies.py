"""Plans with everything a set-up has, applied by a worker to a sandbox that it runs: inside, by the sandbox's deputy.

Everything is real: a worker process, its sandbox, a control plane, a gateway, a git server, MCP's own client. Sandboxes
are local ones, and then containers of Podman.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp import web

from demo.git_server import HOST, git_application, make_repository
from demo.ledger import Ledger, Presence
from sallyport.net.proc import pids
from tests.support.client_world import program
from tests.support.container_image import UID
from tests.support.control_plane import SANDBOX, SECRET
from tests.support.deputy_stand import (
    ASKER,
    ENDPOINT,
    HOME,
    ROUTES,
    Stand,
    children,
    command_line,
    states,
    whole,
)
from tests.support.docker_daemon import podman_service
from tests.support.gateway_process import ROOT
from tests.support.in_process import origin_context
from tests.support.plan_documents import plan_document
from tests.support.sandbox_stage import open_folder
from tests.support.sandbox_worker import SECONDS, sandbox_worker
from tests.support.setup_documents import (
    artifact_document,
    client_document,
    exec_step,
    is_alive,
    process_document,
    shell,
)

pytestmark = [pytest.mark.uvloop, pytest.mark.full, pytest.mark.timeout(180)]

HOSTILE = (ROOT / "tests/support/hostile_deputy.py").read_text()


@pytest.fixture(scope="module")
def podman() -> Iterator[Path]:
    with open_folder() as folder, podman_service(folder, has_sallyport=True) as socket:
        yield socket


@pytest.fixture(params=["local", "podman"])
async def stand(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stand]:
    program("git")
    docker = request.getfixturevalue("podman") if request.param == "podman" else None
    ledger, search_path, root = Ledger(), os.environ["PATH"], tmp_path / "repositories"
    await make_repository(root, search_path)
    runner = web.AppRunner(git_application(ledger, SECRET, root, search_path), auto_decompress=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=origin_context(HOST)).start()
    reached = {f"{HOST}:443": runner.addresses[0][1]}
    try:
        async with sandbox_worker(tmp_path, reached=reached, docker=docker) as parts:
            yield Stand(parts=parts, git=ledger)
            # A container outlives its worker.
            await parts.ask("DELETE", f"/{SANDBOX}")
    finally:
        await runner.cleanup()


async def test_a_plan_is_applied_updated_and_removed_inside(stand: Stand) -> None:
    parts = stand.parts
    await parts.create("/bin/sh", "-c", ASKER)
    home = await parts.home()

    applied = await parts.apply(whole(2, "one"))
    assert applied["state"] == "applied", applied
    assert (states(applied)["push_setup"], states(applied)["confirm_setup"]) == ("done", "done")
    told = await stand.told()
    assert (told["asked"], told["word"]) == ("hello", "one")
    assert told["uid"] >= 200_000 if parts.provider == "local" else told["uid"] == UID
    assert told["rights"] == ["0" * 16, "0" * 16, "1", "2"]
    variables = told["variables"]
    assert (variables["TOOL"], variables["OF"], variables["HOME"]) == ("one", "agent", str(HOME))
    assert "GIT_SSL_CAINFO" in variables
    assert not any("proxy" in name.lower() or SECRET in value for name, value in variables.items())
    assert await stand.said_by_tool() == "one"
    assert (home / "widgets/README").read_text() == "widgets\n"
    assert {entry.presence for entry in stand.git.received} == {Presence.EXACT}
    assert (home / "config/agent.json").read_text() == "one"
    assert (home / "config/agent.json").stat().st_mode & 0o777 == 0o600
    assert (home / "tool").read_text() == "install one one\n"
    assert (home / "bin/tool").read_text() == "one"
    assert "export TOOL=one\n" in (home / ".sallyport/setup/environment.sh").read_text()
    await stand.traffic_goes_on()

    updated = await parts.apply(whole(3, "two"))
    assert updated["state"] == "applied", updated
    again = await stand.told()
    assert (again["word"], again["variables"]["TOOL"]) == ("two", "two")
    assert again["pid"] != told["pid"]
    assert await stand.said_by_tool() == "two"
    assert (home / "config/agent.json").read_text() == "two"
    assert (home / "tool").read_text() == "install one one\nupdate two\n"

    # A sandbox that is stopped and started has what it had, and nothing is installed twice.
    await parts.ask("POST", f"/{SANDBOX}/stop")
    await parts.ask("POST", f"/{SANDBOX}/start")
    home = await parts.home()
    async with asyncio.timeout(SECONDS):
        while "word" not in (await stand.told_or_refused()):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert (home / "tool").read_text() == "install one one\nupdate two\n"

    failed = await parts.apply(
        whole(4, "two", artifact_document("bad", [exec_step(shell("echo no such thing; exit 3"))]))
    )
    assert failed["state"] == "failed"
    assert "artifact/bad: sh exited with code 3: no such thing" in failed["steps"][-1]["issue"]
    # What ran goes on as it was.
    assert (await stand.told())["word"] == "two"

    removed = await parts.apply(plan_document(ROUTES, revision=5))
    assert removed["state"] == "applied", removed
    assert (home / "tool").read_text() == "install one one\nupdate two\nremove two\n"
    assert (await stand.refusal(ENDPOINT))["code"] == "not_found"
    assert "export TOOL=" not in (home / ".sallyport/setup/environment.sh").read_text()
    deputy = await stand.deputy()
    assert children(deputy) == []
    await stand.traffic_goes_on()


async def test_a_deputy_that_is_killed_in_the_midst_is_started_again_and_goes_on(stand: Stand) -> None:
    parts = stand.parts
    await parts.create("/bin/sh", "-c", ASKER)
    home = await parts.home()
    waits = "echo begun >> ~/slow; until [ -e ~/go ]; do sleep 0.05; done; echo done >> ~/slow"
    slow = artifact_document("slow", [exec_step(shell(waits), timeoutMs=60_000)])
    application = await parts.begin(whole(2, "one", slow))
    async with asyncio.timeout(SECONDS):
        while not (home / "slow").exists():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    first = await stand.deputy()
    os.kill(first, signal.SIGKILL)
    await stand.traffic_goes_on()
    # What it had started is ended before the step runs again.
    async with asyncio.timeout(SECONDS):
        while (home / "slow").read_text().count("begun") < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    (home / "go").touch()
    ended = await parts.worker.ended(application)
    assert ended["state"] == "applied", ended
    # The step that was cut ran again, and what it had started is not there any more.
    assert (home / "slow").read_text() == "begun\nbegun\ndone\n"
    before = await stand.told()

    # Killed when all is applied: whatever ran is replaced, and the way to it is there again.
    second = await stand.deputy()
    assert second != first
    os.kill(second, signal.SIGKILL)
    async with asyncio.timeout(SECONDS):
        while (await stand.told_or_refused()).get("pid") in (None, before["pid"]):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert not is_alive(second)
    assert (home / "slow").read_text() == "begun\nbegun\ndone\n"
    await stand.traffic_goes_on()

    # sandboxd too: nothing inside is touched, and its deputy comes to the next one.
    now = await stand.told()
    os.kill(await stand.sandboxd(), signal.SIGKILL)
    async with asyncio.timeout(SECONDS):
        while (await stand.told_or_refused()).get("pid") != now["pid"]:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_what_a_set_up_has_started_is_told_when_its_sandbox_is_stopped(stand: Stand) -> None:
    parts = stand.parts
    # Or all would end with the sandbox's command.
    waits = 'trap "until [ -e ~/told ]; do sleep 0.05; done; exit" TERM; while :; do sleep 0.05; done'
    await parts.create("/bin/sh", "-c", waits)
    hears = process_document("main", shell('trap "touch ~/told; exit" TERM; while :; do sleep 0.05; done'))
    hears["stop"]["timeoutMs"] = 20_000
    plan = plan_document(ROUTES, revision=2, runtimeClients=[client_document(processes=[hears])])
    applied = await parts.apply(plan)
    assert applied["state"] == "applied", applied
    await parts.ask("POST", f"/{SANDBOX}/stop")
    await parts.ask("POST", f"/{SANDBOX}/start")
    assert (await parts.home() / "told").exists()


async def test_what_was_set_up_is_there_again_after_its_worker_was_killed(stand: Stand) -> None:
    parts = stand.parts
    made = await parts.create("/bin/sh", "-c", ASKER)
    applied = await parts.apply(whole(2, "one"))
    assert applied["state"] == "applied", applied
    await asyncio.to_thread(parts.worker.kill)
    await asyncio.to_thread(parts.worker.start)
    # What the killed one left running is replaced.
    assert (await parts.until(SANDBOX, status="running"))["pid"] != made["pid"]
    assert not is_alive(made["pid"])
    async with asyncio.timeout(SECONDS):
        while (await stand.told_or_refused()).get("word") != "one":  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert await stand.said_by_tool() == "one"
    assert (await parts.home() / "tool").read_text() == "install one one\n"
    await stand.traffic_goes_on()


async def test_whoever_comes_in_the_deputy_s_place_gains_nothing_and_stops_nothing(stand: Stand) -> None:
    parts = stand.parts
    kinds = [
        *("garbage", "unmasked", "endless head", "half a frame", "not ready", "twice ready", "streams", "statuses"),
        *("deep json", "odd status", "a descriptor", "hang"),
    ]
    hostile = f"{sys.executable} -c {_quoted(HOSTILE)} {' '.join(map(_quoted, kinds))}"
    await parts.create("/bin/sh", "-c", f"{ASKER.replace('while', 'ask() { while', 1)}}}\nask & {hostile}; wait")
    await parts.heard("played hang")
    log = await parts.log()
    assert [line for line in log.splitlines() if line.startswith("played")] == [f"played {kind}" for kind in kinds]
    assert log.count('"event": "deputy_refused"') >= 4
    assert not [event for event in parts.worker.events if event["event"] == "sandboxd_ended"]
    await stand.traffic_goes_on()

    # It says `ready` and nothing else: what asks for something inside is answered with words, in time.
    application = await parts.begin(whole(2, "one"))
    async with asyncio.timeout(SECONDS):
        while states(await parts.worker.find(application))["push_setup"] != "done":  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    refusal = await stand.refusal(ENDPOINT)
    assert refusal["sandboxStatus"] in (502, 504)
    assert "deputy" in json.dumps(refusal)
    # Whoever has the place and does not answer loses it, and the deputy does what was waiting for it.
    os.kill(await _hostile(stand), signal.SIGKILL)
    ended = await parts.worker.ended(application)
    assert ended["state"] == "applied", ended
    assert (await stand.told())["word"] == "one"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


async def _hostile(stand: Stand) -> int:
    wanted = b"ends its deputy, comes to sandboxd"
    (found,) = [
        pid for pid in pids() if wanted in command_line(pid) and not command_line(pid).startswith((b"/bin/sh", b"sh"))
    ]
    return found
