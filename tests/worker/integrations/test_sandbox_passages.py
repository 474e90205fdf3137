"""Ways to servers in sandboxes, by the admin listener of a gateway, which here is a front of another worker."""

import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import httpx
import pytest
from aiohttp import web

from control_client.admissions import Admission, AdmittedServer, SandboxPlace
from control_client.feed_state import Tier
from sallyport.net.tasks import TaskSet
from tests.support.front_stage import listening_front
from tests.support.integration_stage import integration_stage
from worker.integrations.errors import IntegrationError
from worker.integrations.front_admission import ControlAdmission
from worker.integrations.sandbox_passages import MAX_WAYS, PassageLimits, SandboxPassages

LIMITS = PassageLimits(connect_seconds=5, answer_seconds=5, body_bytes=64 * 1024, sessions=8, calls=8)
KEY = f"sp_sk_{'e' * 64}"


@contextlib.asynccontextmanager
async def admin_listener(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """Stand for a gateway's admin listener."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def tasks() -> AsyncIterator[TaskSet]:
    failures: list[str] = []
    made = TaskSet(lambda name, error: failures.append(name))
    yield made
    await made.close()
    assert failures == []


async def test_a_call_goes_to_the_gateway_with_the_worker_s_token_and_no_key(tmp_path: Path) -> None:
    seen: list[tuple[str, str, Mapping[str, str]]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        seen.append((request.method, request.path, request.headers.copy()))
        if len(seen) == 2:
            return web.json_response({"code": "setup_pending"}, status=503, headers={"retry-after": "1"})
        return web.json_response({"jsonrpc": "2.0", "id": 1, "result": {}}, headers={"mcp-session-id": "s1"})

    token = tmp_path / "token"
    token.write_text("first\n")
    async with integration_stage(tmp_path) as stage, admin_listener(answer) as admin_url:
        place = SandboxPlace("sbx_1", admin_url)
        found = Admission("ckey_1", Tier.STANDARD, AdmittedServer("files", place))

        async def ask(key_hash: str, name: str) -> Admission | None:
            return found if name == "sandbox__sbx_1__files" else found._replace(server=None)

        passages = SandboxPassages(token, ssl.create_default_context(), LIMITS, stage.tasks)
        admission = ControlAdmission(ask, lambda: 0.0, stage.tasks, stale_seconds=1)
        async with (
            listening_front(stage, tmp_path, admission=admission, sandboxes=passages) as front,
            httpx.AsyncClient(trust_env=False, headers={"Authorization": f"Bearer {KEY}"}) as client,
        ):
            body = {"jsonrpc": "2.0", "id": 1, "method": "initialize"}
            got = await client.post(front.path("sandbox__sbx_1__files"), json=body)
            assert (got.status_code, got.headers["mcp-session-id"]) == (200, "s1")
            token.write_text("second\n")
            got = await client.post(front.path("sandbox__sbx_1__files"), json=body)
            assert (got.status_code, got.headers["retry-after"]) == (503, "1")
            assert (await client.post(front.path("sandbox__sbx_1__other"), json=body)).status_code == 404
    assert [(method, path) for method, path, _ in seen] == [("POST", "/v1/sandboxes/sbx_1/mcp/files")] * 2
    assert [headers["authorization"] for _, _, headers in seen] == ["Bearer first", "Bearer second"]
    assert KEY not in repr(seen)


async def test_a_gateway_that_does_not_take_the_token_is_no_fault_of_the_caller(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response({}, status=401)

    async with integration_stage(tmp_path) as stage, admin_listener(answer) as admin_url:
        found = Admission("ckey_1", Tier.STANDARD, AdmittedServer("files", SandboxPlace("sbx_1", admin_url)))

        async def ask(key_hash: str, name: str) -> Admission | None:
            return found

        passages = SandboxPassages(tmp_path / "none", ssl.create_default_context(), LIMITS, stage.tasks)
        untold = SandboxPassages(None, ssl.create_default_context(), LIMITS, stage.tasks)
        admission = ControlAdmission(ask, lambda: 0.0, stage.tasks, stale_seconds=1)
        for sandboxes in (passages, untold):
            async with (
                listening_front(stage, tmp_path, admission=admission, sandboxes=sandboxes) as front,
                httpx.AsyncClient(trust_env=False, headers={"X-API-Key": KEY}) as client,
            ):
                got = await client.post(front.path("sandbox__sbx_1__files"), json={})
                assert got.status_code == 502
                assert got.json()["error"]["category"] == "ProviderError"


async def test_a_token_does_not_travel_in_cleartext(tmp_path: Path, tasks: TaskSet) -> None:
    (tmp_path / "token").write_text("t")
    passages = SandboxPassages(tmp_path / "token", ssl.create_default_context(), LIMITS, tasks)
    with pytest.raises(IntegrationError, match="cleartext"):
        passages.to(SandboxPlace("sbx_1", "http://10.0.0.1:9900"), "files")
    assert repr(passages) == "<SandboxPassages: 0>"


async def test_ways_that_nobody_is_on_are_closed(tasks: TaskSet) -> None:
    passages = SandboxPassages(None, ssl.create_default_context(), LIMITS, tasks)
    place = SandboxPlace("sbx_1", "http://127.0.0.1:1")
    first = passages.to(place, "s0")
    for number in range(1, MAX_WAYS + 3):
        passages.to(place, f"s{number}")
    assert repr(passages) == f"<SandboxPassages: {MAX_WAYS}>"
    assert passages.to(place, "s0") is not first
    await passages.close()
