"""Integration servers of others, run by a worker: tools, the way out through a real gateway, real registries."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from demo.github_api import LOGIN
from sallyport.net.setting_kinds import HostPort
from tests.support.client_world import World, explicit_world, node
from tests.support.front_stage import ADMIN_KEY, ListeningFront, listening_front
from tests.support.gateway_process import ROOT
from tests.support.integration_stage import IntegrationStage, integration_stage
from tests.support.mcp_servers import NODE_FOLDER, server
from tests.support.package_origins import NPM_HOST, NPM_PACKAGE, PIP_HOST, PIP_PACKAGE
from worker.api import serve
from worker.integrations.errors import IntegrationError
from worker.integrations.integration import Integration
from worker.integrations.sources import InstallRequest, manifest_of

pytestmark = [pytest.mark.full, pytest.mark.timeout(240)]

PATIENT = {"TIMEOUTS_HANDSHAKE": "60s", "TIMEOUTS_EXIT": "5s", "TIMEOUTS_TERMINATE": "5s"}


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[IntegrationStage]:
    environ = {"PATH": f"{NODE_FOLDER}:/usr/bin:/bin"}
    async with integration_stage(tmp_path, environ, **PATIENT) as stage:
        yield stage


async def started(stage: IntegrationStage, name: str, *args: str) -> Integration:
    transport = {"type": "stdio", "command": server(name), "args": list(args)}
    return await stage.started(name=name, transport=transport)


def names(integration: Integration) -> set[str]:
    return {str(tool["name"]) for tool in integration.stored.tools}


async def say(integration: Integration, tool: str, **arguments: object) -> str:
    """Call a tool and return its first text."""
    answer = await integration.ask("tools/call", {"name": tool, "arguments": arguments}, None)
    assert not answer.get("isError"), answer
    return str(answer["content"][0]["text"])


async def test_everything(stage: IntegrationStage, tmp_path: Path) -> None:
    integration = await started(stage, "mcp-server-everything")
    assert {"echo", "get-sum"} <= names(integration)
    assert await say(integration, "echo", message="hello") == "Echo: hello"
    async with listening_front(stage, tmp_path) as front, front.session("mcp-server-everything") as session:
        assert {tool.name for tool in (await session.list_tools()).tools} == names(integration)
        assert (await session.list_prompts()).prompts
        assert (await session.list_resources()).resources
        result = await session.call_tool("echo", {"message": "by the front"})
        assert "by the front" in str(result.content)
        seen = []

        async def note(progress: float, total: float | None, message: str | None) -> None:
            seen.append(progress)

        tool = "trigger-long-running-operation"
        await session.call_tool(tool, {"duration": 0.3, "steps": 3}, progress_callback=note)
        assert len(seen) == 3
    await integration.stop()
    assert integration.to_document()["tools_count"] == len(names(integration))


async def test_filesystem(stage: IntegrationStage, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "note.txt").write_text("what is in it")
    integration = await started(stage, "mcp-server-filesystem", str(shared))
    assert "what is in it" in await say(integration, "read_text_file", path=str(shared / "note.txt"))
    answer = await integration.ask("tools/call", {"name": "read_text_file", "arguments": {"path": "/etc/passwd"}}, None)
    assert answer["isError"] is True


async def test_time(stage: IntegrationStage) -> None:
    integration = await started(stage, "mcp-server-time")
    assert names(integration) == {"get_current_time", "convert_time"}
    assert json.loads(await say(integration, "get_current_time", timezone="UTC"))["timezone"] == "UTC"


async def test_git(stage: IntegrationStage, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    run_git("init", "-q", str(repository))
    (repository / "new.txt").write_text("x")
    integration = await started(stage, "mcp-server-git", "--repository", str(repository))
    assert "git_status" in names(integration)
    assert "new.txt" in await say(integration, "git_status", repo_path=str(repository))


def run_git(*arguments: str) -> None:
    git = shutil.which("git")
    if git is None:
        pytest.skip("not run: git is not installed")
    subprocess.run([git, *arguments], check=True)


# Through the gateway ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with explicit_world(tmp_path_factory.mktemp("world")) as world:
        yield world


def through(world: World, folder: Path) -> dict[str, str]:
    """Return the settings that lead a worker's servers through the world's gateway."""
    sandbox = world.environment(folder / "sandbox")
    userinfo, _, address = sandbox["HTTPS_PROXY"].removeprefix("http://").rpartition("@")
    (folder / "token").write_text(userinfo.partition(":")[2])
    proxy = {"PROXY": f"http://{address}", "PROXY_TOKEN_FILE": "token", "PROXY_CA_FILE": sandbox["NODE_EXTRA_CA_CERTS"]}
    return PATIENT | proxy


@pytest.mark.clients
async def test_a_server_that_holds_no_credential_calls_an_api_that_asks_for_one(world: World, tmp_path: Path) -> None:
    mark = len(world.origins.ledger.received)
    async with integration_stage(tmp_path, **through(world, tmp_path)) as stage:
        integration = await stage.started()
        assert LOGIN in await say(integration, "fetch", url="https://api.github.com/user")
        told = json.dumps(integration.to_document()) + "\n".join(integration.log.tail(1000))
    assert [(each.host, each.presence.value) for each in world.origins.ledger.since(mark)] == [
        ("api.github.com", "exact")
    ]
    assert not any(secret in told for secret in world.secrets)


@pytest.mark.clients
async def test_packages_come_through_the_gateway_from_registries_that_ask_for_a_credential(
    world: World, tmp_path: Path
) -> None:
    environ = {
        "PATH": f"{Path(node()).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "npm_config_registry": f"https://{NPM_HOST}/",
        "PIP_INDEX_URL": f"https://{PIP_HOST}/simple/",
        "PIP_CONFIG_FILE": os.devnull,
    }
    settings = through(world, tmp_path) | {"NPM": str(npm(tmp_path)), "PYTHON": sys.executable}
    async with integration_stage(tmp_path, environ, **settings) as stage:
        for source in (f"npm:{NPM_PACKAGE}", f"pypi:{PIP_PACKAGE}"):
            mark = len(world.origins.ledger.received)
            installed = await stage.integrations.install(manifest_of(InstallRequest(source=source)), lambda *_: None)
            received = world.origins.ledger.since(mark)
            assert received, source
            assert {each.presence.value for each in received} == {"exact"}
            # They hold a module each and no program.
            with pytest.raises(IntegrationError, match="no program of its own"):
                await installed.start()


def npm(folder: Path) -> Path:
    """Write the clients' npm: a wheel cannot hold the link that it comes with."""
    script = Path(node()).parent.parent / "lib/node_modules/npm/bin/npm-cli.js"
    path = folder / "npm"
    path.write_text(f'#!/bin/sh\nexec "{node()}" "{script}" "$@"\n')
    path.chmod(0o755)
    return path


# Real registries ----------------------------------------------------------------------------------------


async def test_catalog_servers_are_installed_from_real_registries(tmp_path: Path) -> None:
    """Skipped where the registries cannot be reached."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SALLYPORT_")}
    environ = inherited | {"PATH": f"{Path(node()).parent}:{os.environ['PATH']}"}
    settings = PATIENT | {"NPM": str(npm(tmp_path)), "PYTHON": sys.executable}
    async with integration_stage(tmp_path, environ, **settings) as stage:
        told: list[Any] = []
        for source in ("everything", "time"):
            manifest = manifest_of(InstallRequest(source=source))
            try:
                integration = await stage.integrations.install(manifest, lambda *line: told.append(line))
            except IntegrationError as error:
                pytest.skip(f"not run: the registry of {source} does not answer ({error})")
            await integration.start()
            assert integration.stored.tools
            assert integration.stored.program is not None
        assert {stage_name for stage_name, _ in told} == {"environment", "package", "program"}


# Conformance --------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def conformance_server() -> AsyncIterator[str]:
    """Yield the URL of the server that the scenarios expect."""
    program = ROOT / "tests/support/conformance_program.py"
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(program), "http", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(await process.stdout.readline())}/mcp"
    finally:
        process.terminate()
        await process.wait()


async def score(url: str, folder: Path) -> dict[str, str]:
    """Run every scenario against a server and return what each came to."""
    script = server("conformance")
    process = await asyncio.create_subprocess_exec(
        *(str(NODE_FOLDER / "node"), script, "server", "--url", url, "-o", str(folder)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    printed, _ = await process.communicate()
    summary = printed.decode().partition("=== SUMMARY ===")[2]
    return dict(re.findall(r"^. ([a-z0-9-]+): (\d+ passed, \d+ failed)", summary, re.MULTILINE))


@contextlib.asynccontextmanager
async def with_a_key(front: ListeningFront) -> AsyncIterator[str]:
    """Yield the address of the front for whoever cannot send a key."""

    async def keyed(scope: Scope, receive: Receive, send: Send) -> None:
        await front.front({**scope, "headers": [*scope["headers"], (b"x-api-key", ADMIN_KEY.encode())]}, receive, send)

    stop, started = asyncio.Event(), asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        listen = HostPort("127.0.0.1", 0)
        group.create_task(serve(keyed, listen, lambda host, port: started.set_result(port), stop, drain_seconds=1))
        yield f"http://127.0.0.1:{await started}"
        stop.set()


async def test_conformance_is_the_same_through_the_front(stage: IntegrationStage, tmp_path: Path) -> None:
    program = ROOT / "tests/support/conformance_program.py"
    async with conformance_server() as url, listening_front(stage, tmp_path, sessions=64) as front:
        direct = await score(url, tmp_path / "direct")
        await stage.started(name="far", transport={"type": "streamable-http", "url": url})
        child = {"type": "stdio", "command": sys.executable, "args": [str(program), "stdio"]}
        await stage.started(name="child", transport=child)
        async with with_a_key(front) as keyed:
            passed_on = await score(f"{keyed}/mcp/far", tmp_path / "passed-on")
            by_sessions = await score(f"{keyed}/mcp/child", tmp_path / "by-sessions")
    assert len(direct) >= 30
    assert passed_on == direct
    assert by_sessions == direct
