"""The API over real sockets: what it answers, and how it refuses."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from sallyport.net.setting_kinds import HostPort
from sallyport.net.transports import ListenError
from tests.support.application_store import MemoryStore
from worker.api import RollbackError, build_api, serve
from worker.application import Application, ApplicationState
from worker.applications import Applications


class Served:
    """An API over applications that end when they are told to."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.applications = Applications(
            self.store, new_id=lambda sandbox, millis, random: f"app_{random}", wall=lambda: 0.0, max_applications=100
        )
        self.url = ""
        self.rollback_fails = False

    async def roll_back(self, application: Application) -> Application:
        if self.rollback_fails:
            raise RollbackError("the control plane does not answer")
        return await self.applications.begin(application.sandbox_id, application.revision + 1)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served, stop, started = Served(), asyncio.Event(), asyncio.Event()

    def begin(host: str, port: int) -> None:
        served.url = f"http://{host}:{port}"
        started.set()

    async with asyncio.TaskGroup() as group:
        api = build_api(served.applications, served.roll_back)
        group.create_task(serve(api, HostPort("127.0.0.1", 0), begin, stop))
        await started.wait()
        yield served
        stop.set()


@pytest.fixture
async def client(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=served.url, trust_env=False) as client:
        yield client


async def begin(client: httpx.AsyncClient, revision: int = 1) -> str:
    answer = await client.post("/v1/plan-applications", json={"sandboxId": "sbx_1", "revision": revision})
    assert answer.status_code == 202
    return str(answer.json()["applicationId"])


async def test_an_application_is_accepted_and_can_be_looked_at(client: httpx.AsyncClient) -> None:
    application_id = await begin(client)
    document = (await client.get(f"/v1/plan-applications/{application_id}")).json()
    assert (document["sandboxId"], document["state"]) == ("sbx_1", "running")


async def test_its_events_end_with_its_end(served: Served, client: httpx.AsyncClient) -> None:
    application_id = await begin(client)
    async with client.stream("GET", f"/v1/plan-applications/{application_id}/events") as events:
        lines = events.aiter_lines()
        assert await anext(lines) == "event: application"
        served.store.kept[application_id].state = ApplicationState.APPLIED
        rest = [line async for line in lines]
    assert '"state": "applied"' in rest[-2]


async def test_cancel_and_rollback(served: Served, client: httpx.AsyncClient) -> None:
    application_id = await begin(client)
    assert (await client.post(f"/v1/plan-applications/{application_id}/cancel")).json()["state"] == "cancelled"
    again = await client.post(f"/v1/plan-applications/{application_id}/cancel")
    assert (again.status_code, again.json()["error"]["category"]) == (409, "InvalidState")
    assert (await client.post(f"/v1/plan-applications/{application_id}/rollback")).status_code == 202
    served.rollback_fails = True
    failed = await client.post(f"/v1/plan-applications/{application_id}/rollback")
    assert (failed.status_code, failed.json()["error"]["category"]) == (502, "ProviderError")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"sandboxId": "sbx_1", "revision": 0}, "/revision"),
        ({"sandboxId": "sbx_1", "revision": "1"}, "/revision"),
        ({"sandboxId": "../x", "revision": 1}, "/sandboxId"),
        ({"sandboxId": "sbx_1", "revision": 1, "force": True}, "/force"),
    ],
)
async def test_bad_requests_are_told_by_pointer(client: httpx.AsyncClient, body: object, pointer: str) -> None:
    answer = await client.post("/v1/plan-applications", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["category"]) == (400, "ValidationError")
    assert [detail["pointer"] for detail in error["details"]] == [pointer]


async def test_what_is_not_there_and_what_is_not_ours(client: httpx.AsyncClient) -> None:
    missing = await client.get("/v1/plan-applications/app_nothing")
    assert (missing.status_code, missing.json()["error"]["category"]) == (404, "NotFound")
    assert (await client.get("/nothing")).status_code == 404
    rebound = await client.get("/healthz", headers={"Host": "evil.example:4200"})
    assert rebound.status_code == 421
    page = await client.get("/healthz", headers={"Origin": "https://evil.example"})
    assert page.status_code == 403
    huge = await client.post("/v1/plan-applications", content=b"x" * 20_000)
    assert huge.status_code == 413


async def test_an_older_revision_is_refused_while_a_newer_one_runs(client: httpx.AsyncClient) -> None:
    await begin(client, 5)
    answer = await client.post("/v1/plan-applications", json={"sandboxId": "sbx_1", "revision": 4})
    assert (answer.status_code, answer.json()["error"]["category"]) == (409, "InvalidState")


async def test_a_taken_port_is_told(served: Served) -> None:
    port = int(served.url.rpartition(":")[2])
    api = build_api(served.applications, served.roll_back)
    with pytest.raises(ListenError, match="taken by another process"):
        await serve(api, HostPort("127.0.0.1", port), lambda *_: None, asyncio.Event())
