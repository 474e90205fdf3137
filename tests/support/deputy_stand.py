"""Plans with everything a set-up has, and what they come to in a sandbox that a worker runs."""

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import httpx2
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from demo.git_server import HOST, REPOSITORY
from demo.ledger import Ledger
from sallyport.net.proc import pids, stat_of
from tests.support.control_plane import CONNECTION, SANDBOX, SECRET
from tests.support.gateway_plans import basic, route
from tests.support.gateway_process import ROOT
from tests.support.plan_documents import Document, plan_document, route_document
from tests.support.sandbox_worker import SECONDS, SandboxWorker
from tests.support.setup_documents import (
    Json,
    artifact_document,
    client_document,
    exec_step,
    file_document,
    process_document,
    shell,
)

INSIDE = (ROOT / "tests/support/inside_program.py").read_text()
HOME = Path("/home/sandbox")
PORT = 4711
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
URL = "https://api.example.com/v1/x"
# The sandbox's own command: asks when it is told to, so that a test sees whether traffic goes on. It writes a line at
# once, because of one in pieces Podman tells only the last piece where it is asked for the last lines. And it says what
# becomes of SIGTERM, which the first process of a container does not hear otherwise.
ASKER = f"""
trap exit TERM
while :; do
  if [ -e ~/ask ]; then rm ~/ask; echo "$(curl -sS {URL}) heard"; fi
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

    async def told_or_refused(self) -> Any:  # noqa: ANN401  JSON
        """Ask the endpoint; nothing where it is refused."""
        try:
            return await self.told()
        except aiohttp.ClientError:
            return {}

    async def traffic_goes_on(self) -> None:
        """Have the sandbox's command ask, and see its credential and its answer."""
        before = (await self.parts.log()).count("ok heard")
        (await self.parts.home() / "ask").touch()
        link = await self.parts.origin.link()
        assert f"Authorization: Bearer {SECRET}\r\n".encode() in await link.head()
        link.send(OK)
        await self.parts.heard("ok heard", before + 1)

    async def deputy(self) -> int:
        """Find the sandbox's deputy."""
        async with asyncio.timeout(SECONDS):
            while not (found := [pid for pid in await self._inside() if _is_deputy(pid)]):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        (deputy,) = found
        return deputy

    async def sandboxd(self) -> int:
        """Find the sandbox's sandboxd."""
        folder = str(self.parts.state / self.parts.provider / SANDBOX / "sandboxd")
        (found,) = [pid for pid in pids() if _link(pid, "cwd") == folder]
        return found

    async def _inside(self) -> list[int]:
        """Name the sandbox's processes but the first."""
        document = await self.parts.ask("GET", f"/{SANDBOX}")
        # Of a local sandbox this is who has started its first process.
        namespace = _link(document["pid"], "ns/pid_for_children")
        return [pid for pid in pids() if namespace and _link(pid, "ns/pid") == namespace and not _is_first(pid)]


def children(pid: int) -> list[int]:
    """Name the processes that a process has started."""
    return [each for each in pids() if (stat := stat_of(each)) is not None and stat.parent == pid]


def command_line(pid: int) -> bytes:
    """Return the arguments of a process; nothing where it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _is_deputy(pid: int) -> bool:
    arguments = command_line(pid).split(b"\0")
    return b"sallyport_cli.cell" in arguments or b"sandboxd.deputy.program" in arguments


def _is_first(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    return status.partition("NSpid:")[2].partition("\n")[0].split()[-1] == "1"


def _link(pid: int, name: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/{name}")
    except OSError:
        return ""


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
    """Return how each step of an application is."""
    return {step["name"]: step["state"] for step in application["steps"]}
