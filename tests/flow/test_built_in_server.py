"""The built-in server before the conformance suite of MCP: the scenarios of a server that has tools alone."""

import asyncio
import contextlib
import re
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from tests.support.client_keys import make_client_key, make_instance
from tests.support.client_world import NODE
from tests.support.control_plane import replica, settings
from tests.support.gateway_process import ROOT

SUITE = ROOT / ".venv-conformance/node/node_modules/@modelcontextprotocol/conformance/dist/index.js"
# That of rebound names is for servers without keys, and wants local pages to be let in.
SCENARIOS = ("server-initialize", "ping", "tools-list")


@contextlib.asynccontextmanager
async def with_a_key(url: str, key: str) -> AsyncIterator[str]:
    """Yield the address of a server for whoever cannot send a key. What else is sent arrives as it was."""

    async def pass_on(request: web.Request) -> web.StreamResponse:
        fields = {**request.headers, "X-API-Key": key}
        async with http.request(request.method, url, headers=fields, data=await request.read()) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() != "transfer-encoding"}
            return web.Response(status=answer.status, body=await answer.read(), headers=kept)

    app = web.Application()
    app.router.add_route("*", "/mcp", pass_on)
    runner = web.AppRunner(app, access_log=None)
    async with aiohttp.ClientSession() as http:
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/mcp"
        finally:
            await runner.cleanup()


@pytest.mark.full
@pytest.mark.clients
async def test_it_passes_what_applies(tmp_path: Path) -> None:
    for needed in (NODE, SUITE):
        if not needed.exists():
            pytest.skip(f"not here: {needed.relative_to(ROOT)} (make test-all)")
    async with replica(settings(tmp_path / "data", None)) as api:
        await make_instance(api)
        key = await make_client_key(api)
        async with with_a_key(f"http://127.0.0.1:{api.plane.port}/mcp", key) as url:
            for scenario in SCENARIOS:
                command = (str(NODE), str(SUITE), "server", "--url", url, "--scenario", scenario, "-o", str(tmp_path))
                process = await asyncio.create_subprocess_exec(
                    *command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=tmp_path
                )
                said = (await process.communicate())[0].decode(errors="replace")
                assert process.returncode == 0, said
                assert re.search(r"Passed: (\d+)/\1, 0 failed", said), said
