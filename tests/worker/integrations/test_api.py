"""The paths below /integrations over real HTTP, as contracts section 8 and its examples have them."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from sallyport.net.setting_kinds import HostPort
from tests.support.application_store import MemoryStore
from tests.support.integration_stage import IntegrationStage, integration_stage, order
from worker.api import build_api, serve
from worker.application import Application
from worker.applications import Applications
from worker.integrations.api import add_integrations


async def nothing(application: Application) -> Application:
    return application


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[IntegrationStage]:
    async with integration_stage(tmp_path, NPM="/no/npm") as stage:
        yield stage


@pytest.fixture
async def client(stage: IntegrationStage) -> AsyncIterator[httpx.AsyncClient]:
    applications = Applications(
        MemoryStore(), new_id=lambda sandbox, millis, random: f"app_{random}", wall=lambda: 0.0, max_applications=1
    )
    api = build_api(applications, nothing)
    add_integrations(api, stage.integrations, stage.tasks)
    stop, started = asyncio.Event(), asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        group.create_task(serve(api, HostPort("127.0.0.1", 0), lambda host, port: started.set_result(port), stop))
        url = f"http://127.0.0.1:{await started}/integrations"
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            yield client
        stop.set()


async def install(client: httpx.AsyncClient, *faults: str, **more: object) -> httpx.Response:
    body = order(*faults, **more).model_dump(exclude_none=True)  # type: ignore[arg-type]  # names of a manifest
    return await client.post("/install", json=body)


async def listed(client: httpx.AsyncClient, **headers: str) -> httpx.Response:
    # httpx would ask for a slash at the end.
    return await client.get(str(client.base_url).rstrip("/"), headers=headers)


def error(answer: httpx.Response) -> tuple[int, str]:
    assert set(answer.json()) == {"error"}
    assert set(answer.json()["error"]) == {"category", "message", "details"}
    return answer.status_code, answer.json()["error"]["category"]


async def test_the_life_of_one(client: httpx.AsyncClient) -> None:
    assert (await listed(client)).json() == {"integrations": []}
    installed = await install(client)
    assert (installed.status_code, installed.json()) == (201, {"id": "tester", "installed": True})
    assert (await listed(client)).json() == {"integrations": [{"id": "tester", "status": "stopped", "tools_count": 0}]}
    started = await client.post("/tester/start")
    pid = started.json()["pid"]
    assert (started.status_code, started.json()) == (200, {"id": "tester", "status": "running", "pid": pid})
    assert isinstance(pid, int)
    assert (await client.post("/tester/start")).json() == started.json()
    told = (await client.get("/tester/status")).json()
    assert told.pop("uptime_secs") in range(60)
    assert told == {
        "id": "tester",
        "status": "running",
        "pid": pid,
        "tools_count": 4,
        "restart_count": 0,
        "last_exit": None,
        "last_error": None,
        "protocol_version": "2025-11-25",
        "server_info": {"name": "test-server", "version": "1.2"},
    }
    tools = (await client.get("/tester/tools")).json()["tools"]
    assert (tools[0]["name"], tools[0]["description"]) == ("echo", "The tool echo")
    restarted = (await client.post("/tester/restart")).json()
    assert (restarted["status"], restarted["pid"] != pid) == ("running", True)
    for _ in range(2):
        stopped = await client.post("/tester/stop")
        assert (stopped.status_code, stopped.json()) == (200, {"id": "tester", "status": "stopped"})
    assert (await listed(client)).json() == {"integrations": [{"id": "tester", "status": "stopped", "tools_count": 4}]}
    removed = await client.delete("/tester")
    assert (removed.status_code, removed.json()) == (200, {"id": "tester", "removed": True})
    assert error(await client.get("/tester/status")) == (404, "NotFound")


async def test_refusals(client: httpx.AsyncClient) -> None:
    assert error(await client.post("/install", json={"source": "no-such-thing"})) == (404, "NotFound")
    assert error(await client.post("/install", json={"source": "gem:x"})) == (400, "ValidationError")
    assert error(await client.post("/install", json={"source": "time", "force": True})) == (400, "ValidationError")
    assert error(await client.post("/install", json={"source": "time", "id": "../x"})) == (400, "ValidationError")
    assert error(await client.post("/install", json={"source": "npm:x"})) == (502, "ProviderError")
    await install(client, secrets={"TOKEN": {"env": "NOT_THERE"}})
    assert error(await install(client)) == (409, "Duplicate")
    missing = await client.post("/tester/start")
    assert (error(missing), missing.json()["error"]["details"]) == ((409, "InvalidState"), {"variable": "NOT_THERE"})
    for path in ("/nothing/start", "/nothing/stop", "/nothing/restart"):
        assert error(await client.post(path)) == (404, "NotFound")
    for path in ("/nothing/tools", "/nothing/logs", "/nothing/status"):
        assert error(await client.get(path)) == (404, "NotFound")
    assert error(await client.delete("/nothing")) == (404, "NotFound")
    assert error(await client.get("/tester/logs?tail=0")) == (400, "ValidationError")
    assert error(await listed(client, Host="evil.example")) == (421, "ValidationError")
    assert error(await listed(client, Origin="https://evil.example")) == (403, "ValidationError")


async def test_a_failed_start_tells_the_exit_and_the_last_words(client: httpx.AsyncClient) -> None:
    await install(client, "crash-now")
    failed = await client.post("/tester/start")
    assert error(failed) == (502, "ProviderError")
    assert failed.json()["error"]["details"] == {"exitCode": 3, "stderr": ["cannot open the database"]}
    logs = (await client.get("/tester/logs?tail=1")).json()
    assert logs == {"id": "tester", "lines": ["[worker] it exited with code 3"]}


async def test_installations_are_told_as_they_go(client: httpx.AsyncClient) -> None:
    body = order().model_dump(exclude_none=True)
    events = {"Accept": "text/event-stream"}
    answer = await client.post("/install", json=body, headers=events)
    assert (answer.status_code, answer.headers["content-type"]) == (201, "text/event-stream; charset=utf-8")
    assert answer.text == 'event: installed\ndata: {"id": "tester", "installed": true}\n\n'
    failed = await client.post("/install", json={"source": "npm:x"}, headers=events)
    first, second, _ = failed.text.split("\n\n")
    assert first == 'event: progress\ndata: {"stage": "package", "line": "npm install x"}'
    assert json.loads(second.partition("data: ")[2])["error"]["category"] == "ProviderError"
    # What cannot be meant is refused before anything is told.
    assert error(await client.post("/install", json={"source": "gem:x"}, headers=events)) == (400, "ValidationError")


async def test_who_asks_for_an_installation_and_goes_does_not_stop_it(
    stage: IntegrationStage, client: httpx.AsyncClient
) -> None:
    events = {"Accept": "text/event-stream"}
    async with client.stream("POST", "/install", json=order().model_dump(exclude_none=True), headers=events):
        pass
    async with asyncio.timeout(5):
        while (await client.get("/tester/status")).status_code != 200:
            pass


async def test_the_same_request_of_the_control_plane_again_is_the_same_installation(
    client: httpx.AsyncClient, stage: IntegrationStage
) -> None:
    body = order().model_dump(exclude_none=True) | {"owner": "control-plane"}
    for _ in range(2):
        answer = await client.post("/install", json=body)
        assert (answer.status_code, answer.json()) == (201, {"id": "tester", "installed": True})
    assert stage.integrations.find("tester").stored.owner == "control-plane"
    assert error(await client.post("/install", json=body | {"tier": "standard"})) == (409, "Duplicate")
    assert error(await install(client)) == (409, "Duplicate")
