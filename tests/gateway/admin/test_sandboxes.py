"""The sandboxes of a running gateway, listed, and handed a set-up through their tunnels."""

import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from sallyport.plan.codec import seal
from sallyport.setup import MAX_SETUP_BYTES, setup_digest, setup_document
from tests.support.gateway_plans import plan
from tests.support.in_process import GatewayInProcess, in_process_gateway
from tests.support.plan_documents import plan_document
from tests.support.sandbox_end import SandboxEnd
from tests.support.until import until

pytestmark = pytest.mark.uvloop

PLAN = plan([], default="passthrough", revision=4)
SETUP = "/v1/sandboxes/sbx_one/setup"


def setup_body(sandbox_id: str = "sbx_one", **fields: object) -> bytes:
    return setup_document({**plan_document(revision=4), "sandboxId": sandbox_id, **fields})


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[GatewayInProcess]:
    async with in_process_gateway(tmp_path, plan=PLAN) as gateway:
        yield gateway


@pytest.fixture
async def admin(gateway: GatewayInProcess) -> AsyncIterator[aiohttp.ClientSession]:
    base = f"http://127.0.0.1:{gateway.gateway.admin_port}"
    async with aiohttp.ClientSession(base) as session:
        yield session


async def problem(answer: aiohttp.ClientResponse) -> tuple[int, str]:
    document: dict[str, Any] = json.loads(await answer.read())
    assert answer.content_type == "application/problem+json"
    return answer.status, str(document["code"])


# ---- the list


async def test_every_sandbox_with_a_plan_a_tunnel_or_a_stream_is_listed(
    gateway: GatewayInProcess, admin: aiohttp.ClientSession
) -> None:
    async with admin.get("/v1/sandboxes") as answer:
        assert await answer.json() == {
            "items": [
                {
                    "sandboxId": "sbx_one",
                    "organizationId": "org_one",
                    "tunnel": False,
                    "streams": 0,
                    "planRevision": 4,
                }
            ]
        }
    client = await gateway.tunnel()
    await gateway.tunnel("sbx_two")
    end = client.ask(b"TRACE http://open.test/ HTTP/1.1\r\nHost: open.test\r\n\r\n", "plain; revision=4")
    assert (await end.answer()).status == 405
    async with admin.get("/v1/sandboxes") as answer:
        one, two = (await answer.json())["items"]
    assert (one["tunnel"], one["streams"], one["planRevision"]) == (True, 1, 4)
    assert two == {
        "sandboxId": "sbx_two",
        "organizationId": "org_one",
        "tunnel": True,
        "streams": 0,
        "planRevision": None,
    }


# ---- set-up


async def test_a_set_up_is_announced_and_handed_over(gateway: GatewayInProcess, admin: aiohttp.ClientSession) -> None:
    client = await gateway.tunnel()
    sandbox = SandboxEnd(client)
    body = setup_body()
    request = gateway.parts.tasks.spawn(_put(admin, body), name="put")
    target, end = await sandbox.opened()
    assert target == "setup/4"
    announced = await client.message("setup.apply")
    assert announced == {
        "type": "setup.apply",
        "revision": 4,
        "digest": setup_digest(body),
        "sizeBytes": len(body),
    }
    assert await end.rest() == body
    status, document = await request
    assert status == 202
    assert document == {
        "sandboxId": "sbx_one",
        "revision": 4,
        "digest": setup_digest(body),
        "sizeBytes": len(body),
    }
    async with admin.get(SETUP) as answer:
        assert await problem(answer) == (404, "not_found")
    told = {"revision": 4, "state": "applied", "steps": [{"name": "files", "state": "done"}]}
    client.tunnel.send_control({"type": "setup.status", **told})
    host = gateway.parts.tunnels.current("sbx_one")
    assert host is not None
    await until(lambda: host.setup_status is not None)
    async with admin.get(SETUP) as answer:
        assert (answer.status, await answer.json()) == (200, told)


async def _put(admin: aiohttp.ClientSession, body: bytes) -> tuple[int, dict[str, Any]]:
    async with admin.put(SETUP, data=io.BytesIO(body)) as answer:
        return answer.status, json.loads(await answer.read())


async def test_a_large_set_up_is_whole(gateway: GatewayInProcess, admin: aiohttp.ClientSession) -> None:
    file = {"fileId": "f", "path": "/f", "mode": 420, "writeMode": "overwrite", "content": "x" * 1_000_000}
    client = {"clientId": "agent", "setup": {"env": {}, "files": [file]}, "processes": [], "endpoints": []}
    body = setup_body(runtimeClients=[client])
    sandbox = SandboxEnd(await gateway.tunnel())
    request = gateway.parts.tasks.spawn(_put(admin, body), name="put")
    _, end = await sandbox.opened()
    assert await end.rest() == body
    assert (await request)[0] == 202


@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_without_a_tunnel_there_is_no_set_up(
    gateway: GatewayInProcess, admin: aiohttp.ClientSession, method: str
) -> None:
    await gateway.tunnel("sbx_two")
    async with admin.request(method, SETUP, data=setup_body()) as answer:
        assert await problem(answer) == (409, "no_tunnel")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 422, "invalid_setup"),
        (b"{}", 422, "invalid_setup"),
        (seal(plan_document()), 422, "invalid_setup"),
        (setup_body("sbx_two"), 409, "setup_conflict"),
        (b"x" * (MAX_SETUP_BYTES + 1), 413, "body_too_large"),
    ],
)
async def test_what_is_no_set_up_of_this_sandbox_is_not_sent(
    gateway: GatewayInProcess, admin: aiohttp.ClientSession, body: bytes, status: int, code: str
) -> None:
    client = await gateway.tunnel()
    async with admin.put(SETUP, data=io.BytesIO(body)) as answer:
        assert await problem(answer) == (status, code)
        if status == 422:
            assert (await answer.json(content_type=None))["issues"]
    assert [each for each in client.control if each["type"] == "setup.apply"] == []
    assert client.tunnel.stream_count == 0


async def test_a_sandbox_that_refuses_is_told_as_such(gateway: GatewayInProcess, admin: aiohttp.ClientSession) -> None:
    client = await gateway.tunnel()
    sandbox = SandboxEnd(client)
    request = gateway.parts.tasks.spawn(_put(admin, setup_body()), name="put")
    await sandbox.opened(b"HTTP/1.1 409 Conflict\r\nContent-Length: 5\r\n\r\nolder")
    status, document = await request
    assert (status, document["code"], document["sandboxStatus"]) == (502, "sandbox_refused", 409)
    assert document["detail"] == "older"
    request = gateway.parts.tasks.spawn(_put(admin, setup_body()), name="put")
    await sandbox.opened(b"")
    client.abort()
    assert (await request)[0] == 502
