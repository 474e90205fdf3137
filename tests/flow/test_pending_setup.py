"""What a plan declares, asked for while its set-up is on its way: a real gateway, a real sandboxd, a real program."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from sallyport.plan.codec import seal
from sallyport.setup import setup_document
from tests.gateway.admin.test_sandboxes import problem
from tests.support.gateway_plans import SANDBOX
from tests.support.gateway_process import ROOT
from tests.support.in_process import GatewayInProcess, in_process_gateway, signed_token
from tests.support.plan_documents import Document, plan_document
from tests.support.refusing_port import refusing_port
from tests.support.sandboxd_in_process import in_process_sandboxd
from tests.support.setup_documents import artifact_document, client_document, exec_step, process_document, shell

pytestmark = pytest.mark.uvloop

INSIDE = (ROOT / "tests/support/inside_program.py").read_text()
SECONDS = 60.0
HELLO = {"jsonrpc": "2.0", "id": 1, "method": "initialize"}
PENDING = (503, "setup_pending", "1")


def plan(port: int, release: Path, revision: int = 1, *servers: str) -> Document:
    """A plan of a program whose installation waits for a file, and that serves MCP at a port once it is installed."""
    waits = artifact_document(
        "slow", [exec_step(shell(f"until [ -e {release} ]; do sleep 0.05; done"), timeoutMs=60_000)]
    )
    main = process_document(
        "main",
        [sys.executable, "-c", INSIDE, str(port), "word", "held"],
        readiness={"kind": "tcp", "host": "127.0.0.1", "port": port, "timeoutMs": 60_000},
    )
    transport = {"type": "streamable-http", "url": f"http://127.0.0.1:{port}/mcp"}
    return plan_document(
        revision=revision,
        artifacts=[waits],
        runtimeClients=[client_document(processes=[main])],
        mcpServers=[
            {"serverId": name, "bindingId": f"bnd_{name}", "name": name, "transport": transport} for name in servers
        ],
    )


class Asked:
    """The gateway's admin listener."""

    def __init__(self, gateway: GatewayInProcess) -> None:
        self._url = f"http://127.0.0.1:{gateway.gateway.admin_port}/v1/sandboxes/{SANDBOX}"

    async def call(self, server: str) -> tuple[int, str, str | None]:
        """Call an MCP server; return status, code and Retry-After."""
        async with aiohttp.ClientSession() as session, session.post(f"{self._url}/mcp/{server}", json=HELLO) as answer:
            if answer.status == 200:
                return 200, "", None
            return *await problem(answer), answer.headers.get("Retry-After")

    async def set_up(self, document: Document) -> None:
        """Hand a plan's set-up over, as a worker does."""
        async with aiohttp.ClientSession() as session:
            body = setup_document(document)
            async with session.put(f"{self._url}/setup", data=body) as answer:
                assert answer.status == 202, await answer.text()

    async def until(self, revision: int, state: str) -> None:
        """Wait until the sandbox has told that of a set-up."""
        async with aiohttp.ClientSession() as session, asyncio.timeout(SECONDS):
            while True:
                async with session.get(f"{self._url}/setup") as answer:
                    told = await answer.json(content_type=None)
                if (told.get("revision"), told.get("state")) == (revision, state):
                    return
                await asyncio.sleep(0.02)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[GatewayInProcess]:
    (tmp_path / "gateway").mkdir()
    (tmp_path / "sandbox").mkdir()
    async with in_process_gateway(tmp_path / "gateway", plan=seal(plan_document())) as gateway:
        assert gateway.gateway.tunnel is not None
        url, token = f"ws://127.0.0.1:{gateway.gateway.tunnel.port}", signed_token("sallyport-tunnel", SANDBOX)
        async with in_process_sandboxd(tmp_path / "sandbox", url, token=token) as sandboxd:
            await sandboxd.managed(1)
            yield gateway


@pytest.fixture
def port() -> Iterator[int]:
    with refusing_port() as port:
        yield port


async def test_a_server_whose_set_up_is_on_its_way_is_to_be_asked_again(
    gateway: GatewayInProcess, port: int, tmp_path: Path
) -> None:
    asked, release = Asked(gateway), tmp_path / "release"
    first = plan(port, release, 2, "files")
    gateway.parts.plans.apply(seal(first))
    # The plan is there, and sandboxd has heard of no set-up; it has heard of it, and does not run it yet.
    assert await asked.call("files") == PENDING
    await asked.set_up(first)
    await asked.until(2, "applying")
    assert await asked.call("files") == PENDING
    assert (await asked.call("nobody"))[:2] == (404, "not_found")
    release.touch()
    await asked.until(2, "applied")
    assert (await asked.call("files"))[0] == 200

    # A server that a newer plan adds is waited for; what runs serves on.
    second = plan(port, release, 3, "files", "more")
    gateway.parts.plans.apply(seal(second))
    assert await asked.call("more") == PENDING
    assert (await asked.call("files"))[0] == 200
    await asked.set_up(second)
    await asked.until(3, "applied")
    assert (await asked.call("more"))[0] == 200


async def test_a_server_whose_set_up_has_come_to_an_end_and_that_does_not_run_has_failed(
    gateway: GatewayInProcess, port: int, tmp_path: Path
) -> None:
    asked = Asked(gateway)
    document = plan(port, tmp_path / "never", 2, "files")
    document["artifacts"] = [artifact_document("bad", [exec_step(shell("exit 3"))])]
    gateway.parts.plans.apply(seal(document))
    await asked.set_up(document)
    await asked.until(2, "failed")
    assert await asked.call("files") == (502, "sandbox_refused", None)
