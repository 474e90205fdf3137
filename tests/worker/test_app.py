"""A worker put together: an application over real HTTP to servers that answer as the far sides do, and a rollback."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from aiohttp import web

from sallyport.plan.codec import seal
from tests.support.front_stage import ADMIN_KEY, session
from tests.support.integration_stage import order
from tests.support.plan_documents import plan_document
from tests.support.setup_documents import is_alive
from tests.support.working_worker import working_worker
from worker.app import Worker
from worker.config import WorkerConfig, load_config
from worker.durable.database import open_engine
from worker.durable.lease import LeaseLost, WorkerLease
from worker.integrations.store import open_store
from worker.owned_folder import StateTaken


class ControlPlane:
    """Plans by revision and which one is in force; every gateway has applied it."""

    def __init__(self) -> None:
        self.plans = {revision: seal(plan_document(revision=revision)) for revision in (1, 2)}
        self.in_force = 0
        self.fails = False
        self.refused: set[int] = set()

    async def plan(self, request: web.Request) -> web.Response:
        if self.fails:
            return web.json_response({"code": "not_found"}, status=404)
        return web.Response(body=self.plans[int(request.match_info["revision"])])

    async def store(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.plans[json.loads(body)["revision"]] = body
        return web.json_response({}, status=201)

    async def put_in_force(self, request: web.Request) -> web.Response:
        revision = (await request.json())["revision"]
        if revision in self.refused:
            return web.json_response({"code": "plan_conflict"}, status=409)
        self.in_force = revision
        return web.json_response({})

    async def placement(self, _: web.Request) -> web.Response:
        return web.json_response({"gateways": []})


@pytest.fixture
async def control() -> AsyncIterator[tuple[ControlPlane, str]]:
    control = ControlPlane()
    application = web.Application()
    application.router.add_get("/v1/sandboxes/{id}/plans/{revision}", control.plan)
    application.router.add_post("/v1/sandboxes/{id}/plans", control.store)
    application.router.add_put("/internal/sandboxes/{id}/plan", control.put_in_force)
    application.router.add_get("/internal/sandboxes/{id}/placement", control.placement)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield control, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def config(url: str, folder: Path, **further: str) -> WorkerConfig:
    (folder / "token").write_text("t")
    return load_config(
        {
            "SALLYPORT_WORKER_LISTEN": "127.0.0.1:0",
            "SALLYPORT_WORKER_CONTROL_URL": url,
            "SALLYPORT_WORKER_CONTROL_TOKEN_FILE": "token",
            **further,
        },
        folder,
    )


async def applied(api: httpx.AsyncClient, application_id: str) -> str:
    """Follow an application's events to its end and return its state."""
    state = ""
    async with api.stream("GET", f"/v1/plan-applications/{application_id}/events") as events:
        async for line in events.aiter_lines():
            if line.startswith("data: "):
                state = json.loads(line.removeprefix("data: "))["state"]
    return state


async def begin(api: httpx.AsyncClient, revision: int) -> str:
    answer = await api.post("/v1/plan-applications", json={"sandboxId": "sbx_one", "revision": revision})
    return str(answer.json()["applicationId"])


async def test_a_rollback_is_the_last_good_plan_under_a_newer_number_also_after_a_restart(
    control: tuple[ControlPlane, str], tmp_path: Path
) -> None:
    async with working_worker(config(control[1], tmp_path)) as (api, _):
        assert await applied(api, await begin(api, 1)) == "applied"
        second = await begin(api, 2)
        assert await applied(api, second) == "applied"
        assert control[0].in_force == 2
        before = (await api.get(f"/v1/plan-applications/{second}")).json()
    async with working_worker(config(control[1], tmp_path)) as (api, _):
        assert (await api.get(f"/v1/plan-applications/{second}")).json() == before
        answer = await api.post(f"/v1/plan-applications/{second}/rollback")
        assert await applied(api, answer.json()["applicationId"]) == "applied"
        control[0].fails = True
        refused = await api.post(f"/v1/plan-applications/{second}/rollback")
        assert (refused.status_code, refused.json()["error"]["category"]) == (502, "ProviderError")
    assert control[0].in_force == 3
    restored, first = json.loads(control[0].plans[3]), json.loads(control[0].plans[1])
    assert {**restored, "revision": 1, "digest": first["digest"]} == first


async def test_one_that_failed_is_followed_by_the_last_good_plan_where_that_is_wanted(
    control: tuple[ControlPlane, str], tmp_path: Path
) -> None:
    control[0].refused.add(2)
    async with working_worker(config(control[1], tmp_path, SALLYPORT_WORKER_ROLL_BACK_FAILED="true")) as (api, _):
        assert await applied(api, await begin(api, 1)) == "applied"
        failed = await begin(api, 2)
        assert await applied(api, failed) == "failed"
        async with asyncio.timeout(10):
            while (await api.get(f"/v1/plan-applications/{failed}_back")).status_code == 404:  # noqa: ASYNC110  over HTTP
                await asyncio.sleep(0.05)
        assert await applied(api, f"{failed}_back") == "applied"
    assert control[0].in_force == 3


async def test_a_second_worker_of_the_same_id_ends_the_first(control: tuple[ControlPlane, str], tmp_path: Path) -> None:
    settings = config(control[1], tmp_path, SALLYPORT_WORKER_TIMEOUTS_LEASE="1s")
    engine = open_engine(settings.database)
    with pytest.RaisesGroup(LeaseLost):
        async with working_worker(settings), asyncio.timeout(10):
            WorkerLease(engine, settings.id, 60).take()
            await asyncio.Event().wait()
    engine.dispose()


@pytest.mark.uvloop
async def test_integration_servers_are_managed_called_and_stopped_with_it(
    control: tuple[ControlPlane, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "keys").write_text(f"me admin {hashlib.sha256(ADMIN_KEY.encode()).hexdigest()}\n")
    front = {"SALLYPORT_WORKER_FRONT_LISTEN": "127.0.0.1:0", "SALLYPORT_WORKER_FRONT_KEYS_FILE": "keys"}
    drain = {"SALLYPORT_WORKER_TIMEOUTS_DRAIN": "1s"}
    async with working_worker(config(control[1], tmp_path, **front, **drain)) as (api, addresses):
        body = order().model_dump(exclude_none=True)
        assert (await api.post("/integrations/install", json=body)).status_code == 201
        pid = (await api.post("/integrations/tester/start")).json()["pid"]
        async with session(f"{addresses.front}/mcp/tester", ADMIN_KEY) as called:
            assert len((await called.list_tools()).tools) == 4
            # The session's stream is open: it does not keep the worker from ending.
            await addresses.ended()
    assert not is_alive(pid)


async def test_two_workers_do_not_share_a_folder(control: tuple[ControlPlane, str], tmp_path: Path) -> None:
    taken = open_store(tmp_path / "sallyport-worker")
    with pytest.raises(StateTaken, match="another worker uses"):
        await Worker(config(control[1], tmp_path)).run(asyncio.Event())
    taken.close()
