"""The paths below /v1/sandboxes, over a provider that only says so."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from tests.support.made_sandboxes import MadeSandboxes
from worker.sandboxes.api import add_sandboxes
from worker.sandboxes.provider import TunnelTokens
from worker.sandboxes.sandboxes import Sandboxes
from worker.sandboxes.store import DeclaredSandboxes

ONE = {"sandboxId": "sbx_one", "command": ["/bin/agent"]}


@pytest.fixture
def provider() -> MadeSandboxes:
    return MadeSandboxes()


@pytest.fixture
async def client(tmp_path: Path, provider: MadeSandboxes) -> AsyncIterator[httpx.AsyncClient]:
    async def mint(sandbox_id: str) -> TunnelTokens:
        return TunnelTokens(token="t", renewal_token="r")

    sandboxes = Sandboxes(DeclaredSandboxes(tmp_path / "declared"), {"local": provider}, mint, most_sandboxes=4)
    await sandboxes.open()
    api = FastAPI()
    add_sandboxes(api, sandboxes)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://worker") as client:
        yield client


async def test_the_life_of_a_sandbox(client: httpx.AsyncClient) -> None:
    made = await client.post("/v1/sandboxes", json=ONE)
    assert made.status_code == 201
    assert made.json()["status"] == "running"
    assert (await client.get("/v1/sandboxes")).json() == {"sandboxes": [made.json()]}
    stopped = await client.post("/v1/sandboxes/sbx_one/stop")
    assert (stopped.status_code, stopped.json()["status"]) == (200, "stopped")
    assert (await client.post("/v1/sandboxes/sbx_one/start")).json() == made.json()
    assert (await client.get("/v1/sandboxes/sbx_one")).json() == made.json()
    logs = await client.get("/v1/sandboxes/sbx_one/logs", params={"tail": 1})
    assert logs.json() == {"sandboxId": "sbx_one", "lines": ["b"]}
    removed = await client.delete("/v1/sandboxes/sbx_one")
    assert removed.json() == {"sandboxId": "sbx_one", "removed": True}
    assert (await client.get("/v1/sandboxes/sbx_one")).status_code == 404


async def test_each_fault_has_its_status(client: httpx.AsyncClient, provider: MadeSandboxes) -> None:
    provider.fails = "start"
    answer = await client.post("/v1/sandboxes", json=ONE)
    assert (answer.status_code, answer.json()["error"]["category"]) == (502, "ProviderError")
    provider.fails = ""
    await client.post("/v1/sandboxes", json=ONE)
    answer = await client.post("/v1/sandboxes", json=ONE)
    assert (answer.status_code, answer.json()["error"]["category"]) == (409, "Duplicate")
    answer = await client.post("/v1/sandboxes", json=ONE | {"sandboxId": "sbx_two", "provider": "docker"})
    assert (answer.status_code, answer.json()["error"]["category"]) == (409, "InvalidState")
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/start"), ("POST", "/stop"), ("GET", "/logs")):
        answer = await client.request(method, f"/v1/sandboxes/sbx_none{path}")
        assert (answer.status_code, answer.json()["error"]["category"]) == (404, "NotFound")
