"""Denials from a sandbox's request to whoever asks the control plane: by both ways, by TLS, of several processes."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from demo.certificates import OriginFiles, write_origin_files
from sallyport.net.clock import Clock
from tests.support.control_plane import (
    KEYS_TAKEN,
    LEASE_TAKEN,
    ORGANIZATION,
    SANDBOX,
    Replica,
    replica,
    sealed_plan,
    settings,
)
from tests.support.in_process import GatewayInProcess, in_process_gateway
from tests.support.plan_documents import route_document
from tests.support.several_processes import controlled
from tests.support.until import until

pytestmark = [pytest.mark.uvloop, pytest.mark.timeout(120)]

OTHER, OTHER_ORGANIZATION = "sbx_two", "org_two"
KEY = "sk-in-a-query-81f2"


def the_plan(sandbox_id: str = SANDBOX, organization_id: str = ORGANIZATION) -> bytes:
    match = {"hosts": ["api.test"], "pathPrefixes": ["/v1"]}
    routes = [route_document(match=match, allowCleartext=True)]
    return sealed_plan(sandbox_id=sandbox_id, organization_id=organization_id, routes=routes, default="deny")


async def make(plane: Replica, sandbox_id: str, organization_id: str) -> None:
    """Make a sandbox with its plan."""
    named = {"organizationId": organization_id, "sandboxId": sandbox_id}
    await plane.ask("POST", "/v1/sandboxes", named, status=201)
    await plane.ask(
        "POST", f"/v1/sandboxes/{sandbox_id}/plans", content=the_plan(sandbox_id, organization_id), status=201
    )


async def paths(asking: Replica, sandbox_id: str = SANDBOX, cursor: str = "") -> list[str]:
    found = await asking.ask("GET", f"/v1/sandboxes/{sandbox_id}/denials?limit=200&cursor={cursor}")
    assert KEY not in json.dumps(found)
    return [each["path"] for each in found["items"]]


@pytest.fixture
def files(tmp_path: Path) -> OriginFiles:
    """What the admin listener shows."""
    (tmp_path / "admin").mkdir()
    return write_origin_files(tmp_path / "admin", ["127.0.0.1"])


@pytest.fixture
async def plane(tmp_path: Path, files: OriginFiles) -> AsyncIterator[Replica]:
    config = settings(tmp_path / "plane", None, SALLYPORT_GATEWAYS_CA_FILE=str(files.ca_file))
    async with replica(config) as plane:
        await plane.connect()
        await plane.connect("con_two", organizationId=OTHER_ORGANIZATION)
        await make(plane, SANDBOX, ORGANIZATION)
        yield plane


@pytest.fixture
async def gateway(tmp_path: Path, plane: Replica, files: OriginFiles) -> AsyncIterator[GatewayInProcess]:
    tls = {"certificate_file": str(files.certificate_file), "key_file": str(files.key_file)}
    async with in_process_gateway(
        tmp_path, control=plane.followed_by(tmp_path), further={"admin": {"tls": tls}}
    ) as gateway:
        gateway.token = await plane.mint("proxy")
        await until(lambda: gateway.metric("sallyport_control_watch_connected") == 1)
        await until(lambda: gateway.metric(KEYS_TAKEN) == 1 and gateway.metric(LEASE_TAKEN) >= 1)
        yield gateway


async def deny(gateway: GatewayInProcess, path: str) -> None:
    client = await gateway.client()
    client.send(gateway.request(f"http://api.test{path}"))
    assert (await client.answer()).status == 403


async def test_two_organizations_see_their_own_over_tls(plane: Replica, gateway: GatewayInProcess) -> None:
    await make(plane, OTHER, OTHER_ORGANIZATION)
    await deny(gateway, f"/explicit?key={KEY}")
    tunnel = await gateway.tunnel(token=await plane.mint("tunnel"))
    request = f"GET http://api.test/tunnel?key={KEY} HTTP/1.1\r\nHost: api.test\r\n\r\n".encode()
    assert (await tunnel.ask(request).answer()).status == 403
    gateway.token = await plane.mint("proxy", OTHER)
    await deny(gateway, "/other")
    async with plane.caller("member", ORGANIZATION) as one, plane.caller("member", OTHER_ORGANIZATION) as two:
        found = await one.ask("GET", f"/v1/sandboxes/{SANDBOX}/denials")
        assert [(each["path"], each["source"]) for each in found["items"]] == [
            ("/explicit", "explicit"),
            ("/tunnel", "tunnel"),
        ]
        assert found["items"][0]["nearest"]["mismatch"] == ["path"]
        assert found["gateways"] == [{"id": "gw_1", "state": "asked"}]
        assert await paths(two, OTHER) == ["/other"]
        assert await two.refused("GET", f"/v1/sandboxes/{SANDBOX}/denials") == "404 sandbox_not_found"
        assert await one.refused("GET", f"/v1/sandboxes/{OTHER}/denials") == "404 sandbox_not_found"
        await gateway_denies_later(gateway, plane, one, found)


async def gateway_denies_later(
    gateway: GatewayInProcess, plane: Replica, member: Replica, before: dict[str, Any]
) -> None:
    """What comes later is behind the cursor, though no stream of the sandbox is left."""
    gateway.token = await plane.mint("proxy")
    assert await paths(member, cursor=before["nextCursor"]) == []
    await deny(gateway, "/later")
    gateway.close_clients()
    assert await paths(member, cursor=before["nextCursor"]) == ["/later"]


async def test_two_processes_are_one_gateway(tmp_path: Path, plane: Replica) -> None:
    async with controlled(tmp_path, plane.followed_by(tmp_path), {}) as two:
        await two.until(two.is_ready)
        proxy = two.gateway.token = await plane.mint("proxy")
        by_process = await two.clients_of_both("http://api.test/first")
        for prefix, clients in by_process.items():
            assert (await two.get(clients[0], f"http://api.test/of-{prefix}?key={KEY}", proxy)).status == 403
        loop_clock = Clock(asyncio.get_running_loop())
        tunnel, _ = await two.tunnel(loop_clock, await plane.mint("tunnel"))
        request = b"GET http://api.test/tunnel HTTP/1.1\r\nHost: api.test\r\n\r\n"
        assert (await tunnel.ask(request).answer()).status == 403
        wanted = {"/first", "/tunnel", *(f"/of-{prefix}" for prefix in by_process)}
        seen: set[str] = set()
        while not seen >= wanted:  # a process tells its parent once a second
            seen = set(await paths(plane))
        tunnel.abort()
        loop_clock.close()
