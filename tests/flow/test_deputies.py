"""Plans with everything a set-up has, applied by a worker to a sandbox that it runs: inside, by the sandbox's deputy.

Everything is real: a worker process, its sandbox, a control plane, a gateway, a git server, MCP's own client.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import httpx2
import pytest
from aiohttp import web
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from demo.git_server import HOST, REPOSITORY, git_application, make_repository
from demo.ledger import Ledger, Presence
from sallyport.net.proc import pids, stat_of
from tests.support.client_world import program
from tests.support.control_plane import CONNECTION, SANDBOX, SECRET
from tests.support.gateway_plans import basic, route
from tests.support.gateway_process import ROOT
from tests.support.in_process import origin_context
from tests.support.plan_documents import Document, plan_document, route_document
from tests.support.sandbox_worker import SECONDS, SandboxWorker, sandbox_worker
from tests.support.setup_documents import (
    Json,
    artifact_document,
    client_document,
    exec_step,
    file_document,
    is_alive,
    process_document,
    shell,
)

pytestmark = [pytest.mark.uvloop, pytest.mark.full, pytest.mark.timeout(180)]

INSIDE = (ROOT / "tests/support/inside_program.py").read_text()
HOSTILE = (ROOT / "tests/support/hostile_deputy.py").read_text()
HOME = Path("/home/sandbox")
PORT = 4711
URL = "https://api.example.com/v1/x"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
# The sandbox's own command: asks when it is told to, so that a test sees whether traffic goes on.
ASKER = f"""
while :; do
  if [ -e ~/ask ]; then rm ~/ask; curl -sS {URL}; echo " heard"; fi
  sleep 0.05
done
"""
ROUTES = [route_document(), route("github-git", [HOST], CONNECTION, basic("x-access-token"))]
ENDPOINT = f"/v1/sandboxes/{SANDBOX}/endpoints/agent/tell"
MCP = f"/v1/sandboxes/{SANDBOX}/mcp/inside"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """The parts, and what the git server has received."""

    parts: SandboxWorker
    git: Ledger

    @property
    def admin(self) -> str:
        """The gateway's admin listener."""
        return f"http://127.0.0.1:{self.parts.gateway.gateway.admin_port}"

    async def told(self) -> Any:  # noqa: ANN401  JSON
        """Ask the endpoint, through the gateway."""
        async with aiohttp.ClientSession() as session, session.ws_connect(self.admin + ENDPOINT) as socket:
            await socket.send_str("hello")
            return await socket.receive_json(timeout=SECONDS)

    async def refusal(self, path: str) -> Any:  # noqa: ANN401  JSON
        """Return how a WebSocket is refused there."""
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        async with (
            aiohttp.ClientSession() as session,
            session.get(
                self.admin + path, headers=upgrade | {"Sec-WebSocket-Key": "a2V5a2V5a2V5a2V5a2V5IQ=="}
            ) as answer,
        ):
            return await answer.json(content_type=None)

    async def said_by_tool(self) -> str:
        """Call the tool of the MCP server inside, through the gateway."""
        async with (
            httpx2.AsyncClient(trust_env=False, verify=False, timeout=SECONDS) as http,
            streamable_http_client(self.admin + MCP, http_client=http) as (received, sent),
            ClientSession(received, sent) as session,
        ):
            await session.initialize()
            assert [tool.name for tool in (await session.list_tools()).tools] == ["say"]
            (content,) = (await session.call_tool("say", {})).content
            assert content.type == "text"
            return content.text

    async def traffic_goes_on(self, times: int) -> None:
        """Have the sandbox's command ask, and see its credential and its answer."""
        (self.parts.home() / "ask").touch()
        link = await self.parts.origin.link()
        assert f"Authorization: Bearer {SECRET}\r\n".encode() in await link.head()
        link.send(OK)
        await self.parts.heard("ok heard", times)

    async def deputy(self) -> int:
        """Find the sandbox's deputy: a copy of its first process."""
        document = await self.parts.ask("GET", f"/{SANDBOX}")
        (first,) = _children(document["pid"])
        async with asyncio.timeout(SECONDS):
            while True:
                for pid in _children(first):
                    if b"\0sallyport_cli.cell\0" in _command_line(pid):
                        return pid
                await asyncio.sleep(0.05)


def _children(pid: int) -> list[int]:
    return [each for each in pids() if (stat := stat_of(each)) is not None and stat.parent == pid]


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    program("git")
    ledger, search_path, root = Ledger(), os.environ["PATH"], tmp_path / "repositories"
    await make_repository(root, search_path)
    runner = web.AppRunner(git_application(ledger, SECRET, root, search_path), auto_decompress=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=origin_context(HOST)).start()
    try:
        async with sandbox_worker(tmp_path, reached={f"{HOST}:443": runner.addresses[0][1]}) as parts:
            yield Stand(parts=parts, git=ledger)
    finally:
        await runner.cleanup()


def tool(word: str) -> Json:
    """An artifact with all of its life, each step of which leaves a trace."""
    update, remove = ([exec_step(shell(f"echo {name} {word} >> ~/tool"))] for name in ("update", "remove"))
    install = [
        exec_step(shell(f"echo install {word} $TOOL >> ~/tool")),
        {"op": "file", "path": str(HOME / "bin/tool"), "mode": 0o755, "content": word, "writeMode": "overwrite"},
    ]
    return artifact_document("tool", install, update=update, remove=remove) | {"env": {"TOOL": word}}


def whole(revision: int, word: str, *artifacts: Json) -> Document:
    """A plan with each kind of thing."""
    main = process_document(
        "main",
        [sys.executable, "-c", INSIDE, str(PORT), word],
        readiness={"kind": "tcp", "host": "127.0.0.1", "port": PORT, "timeoutMs": 30_000},
        restart="always",
    )
    main["command"]["cwd"] = str(HOME / "widgets")
    endpoint = {
        "endpointKey": "tell",
        "processKey": "main",
        "transport": {"type": "ws", "url": f"ws://127.0.0.1:{PORT}/tell"},
        "connectionMode": "dedicated",
    }
    client = client_document(
        processes=[main],
        files=[file_document(HOME / "config/agent.json", word)],
        endpoints=[endpoint],
        env={"OF": "agent"},
    )
    server = {"type": "streamable-http", "url": f"http://127.0.0.1:{PORT}/mcp"}
    return plan_document(
        ROUTES,
        revision=revision,
        artifacts=list(artifacts or [tool(word)]),
        workspaceSources=[
            {"sourceKind": "git-clone", "path": str(HOME / "widgets"), "originUrl": f"https://{HOST}/{REPOSITORY}"}
        ],
        runtimeClients=[client],
        mcpServers=[{"serverId": "inside", "bindingId": "bnd_one", "name": "inside", "transport": server}],
    )


def states(application: Any) -> dict[str, str]:  # noqa: ANN401  JSON
    return {step["name"]: step["state"] for step in application["steps"]}


async def test_a_plan_is_applied_updated_and_removed_inside(stand: Stand) -> None:
    parts, home = stand.parts, stand.parts.home()
    await parts.create("/bin/sh", "-c", ASKER)

    applied = await parts.apply(whole(2, "one"))
    assert applied["state"] == "applied", applied
    assert (states(applied)["push_setup"], states(applied)["confirm_setup"]) == ("done", "done")
    told = await stand.told()
    assert (told["asked"], told["word"]) == ("hello", "one")
    assert told["uid"] >= 200_000
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
    await stand.traffic_goes_on(1)

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
    async with asyncio.timeout(SECONDS):
        while "word" not in (await _told_or_refused(stand)):  # noqa: ASYNC110
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
    assert _children(deputy) == []
    await stand.traffic_goes_on(1)  # the log is a new one since the start


async def _told_or_refused(stand: Stand) -> Any:  # noqa: ANN401  JSON
    try:
        return await stand.told()
    except aiohttp.ClientError:
        return {}


async def test_a_deputy_that_is_killed_in_the_midst_is_started_again_and_goes_on(stand: Stand) -> None:
    parts, home = stand.parts, stand.parts.home()
    await parts.create("/bin/sh", "-c", ASKER)
    slow = artifact_document("slow", [exec_step(shell("echo begun >> ~/slow; sleep 2; echo done >> ~/slow"))])
    application = await parts.begin(whole(2, "one", slow))
    async with asyncio.timeout(SECONDS):
        while not (home / "slow").exists():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    first = await stand.deputy()
    os.kill(first, signal.SIGKILL)
    await stand.traffic_goes_on(1)
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
        while (await _told_or_refused(stand)).get("pid") in (None, before["pid"]):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert not is_alive(second)
    assert (home / "slow").read_text() == "begun\nbegun\ndone\n"
    await stand.traffic_goes_on(2)

    # sandboxd too: nothing inside is touched, and its deputy comes to the next one.
    now = await stand.told()
    (sandboxd,) = [pid for pid in pids() if _is_in(pid, parts.state / "local" / SANDBOX / "sandboxd")]
    os.kill(sandboxd, signal.SIGKILL)
    async with asyncio.timeout(SECONDS):
        while (await _told_or_refused(stand)).get("pid") != now["pid"]:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


def _is_in(pid: int, folder: Path) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/cwd") == str(folder)
    except OSError:
        return False


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
    await stand.traffic_goes_on(1)

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
        pid for pid in pids() if wanted in _command_line(pid) and not _command_line(pid).startswith((b"/bin/sh", b"sh"))
    ]
    return found


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
