"""A real gateway under a real control plane, both in this process, over loopback."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from control_client import backoff
from control_plane import watch
from control_plane.service_tokens import token_file
from sallyport.claims import Claims
from sallyport.wire.websocket import REVOKED
from tests.support.control_plane import (
    KEYS_TAKEN,
    ORGANIZATION,
    SANDBOX,
    SECRET,
    Replica,
    replica,
    sealed_plan,
    settings,
)
from tests.support.figures import InTime
from tests.support.in_process import GatewayInProcess, in_process_gateway
from tests.support.plan_documents import route_document
from tests.support.raw_end import WAIT_SECONDS, RawOrigin, raw_origin
from tests.support.until import until

API = "http://api.test/"
OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
RESOLVED = 'sallyport_control_requests_total{operation="credential",result="ok"}'


def the_plan(revision: int = 1, host: str = "api.test") -> bytes:
    routes = [route_document(match={"hosts": [host]}, allowCleartext=True)]
    return sealed_plan(revision, routes=routes)


pytestmark = pytest.mark.uvloop


@pytest.fixture(autouse=True)
def _quick_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_SECONDS", 0.1)


@pytest.fixture
def never_polled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no timer of the control plane's find what it was not told of."""
    monkeypatch.setattr(watch, "POLL_SECONDS", 3600.0)


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Replica]:
    async with replica(settings(tmp_path / "plane", None)) as plane:
        await plane.prepare(plan=False)
        yield plane


@pytest.fixture
async def origin() -> AsyncIterator[RawOrigin]:
    async with raw_origin() as origin:
        yield origin


@pytest.fixture
async def gateway(tmp_path: Path, plane: Replica, origin: RawOrigin) -> AsyncIterator[GatewayInProcess]:
    connect_to = {"api.test:80": origin.port, "api.test:443": origin.port, "other.test:80": origin.port}
    async with in_process_gateway(tmp_path, control=plane.followed_by(tmp_path), connect_to=connect_to) as gateway:
        gateway.token = await plane.mint("proxy")
        await until(lambda: gateway.metric("sallyport_control_watch_connected") == 1)
        await until(lambda: gateway.metric(KEYS_TAKEN) == 1)
        yield gateway


async def publish(plane: Replica, plan: bytes) -> None:
    await plane.ask("POST", f"/v1/sandboxes/{SANDBOX}/plans", content=plan, status=201)


async def served(gateway: GatewayInProcess, origin: RawOrigin, url: str = API) -> bytes:
    client = await gateway.client()
    client.send(gateway.request(url))
    link = await origin.link()
    head = await link.head()
    link.send(OK)
    assert (await client.answer()).status == 200
    return head


async def refused(gateway: GatewayInProcess) -> int:
    client = await gateway.client()
    client.send(gateway.request(API))
    return (await client.answer()).status


async def test_plan_key_and_credential_come_from_it(
    plane: Replica, gateway: GatewayInProcess, origin: RawOrigin
) -> None:
    await publish(plane, the_plan())
    assert SECRET.encode() in await served(gateway, origin)
    await served(gateway, origin)
    assert gateway.metric(RESOLVED) == 1
    await publish(plane, the_plan(2, "other.test"))
    await until(lambda: {table.revision for table in gateway.parts.plans.tables()} == {2})
    assert SECRET.encode() not in await served(gateway, origin)
    assert SECRET.encode() in await served(gateway, origin, "http://other.test/")


async def test_a_rotated_credential_is_used_at_once(
    plane: Replica, gateway: GatewayInProcess, origin: RawOrigin
) -> None:
    await publish(plane, the_plan())
    assert SECRET.encode() in await served(gateway, origin)
    await plane.ask("PUT", "/v1/integration/connections/con_one/api-key", {"value": "sk-rotated-value"})
    await until(lambda: len(gateway.parts.credentials) == 0)
    assert b"sk-rotated-value" in await served(gateway, origin)


async def test_the_explicit_listener_ends_tls_with_its_authority(plane: Replica, gateway: GatewayInProcess) -> None:
    await publish(plane, the_plan())
    answer = await plane.client.get(f"/v1/sandboxes/{SANDBOX}/ca.pem")
    client = await gateway.open_tunnel("api.test:443")
    await client.start_tls(ssl.create_default_context(cadata=answer.text), "api.test")


@pytest.mark.usefixtures("never_polled")
async def test_a_deleted_sandbox_is_shut_out_by_its_event(
    plane: Replica, gateway: GatewayInProcess, origin: RawOrigin, in_time: InTime
) -> None:
    await publish(plane, the_plan())
    client = await gateway.client()
    client.send(gateway.request(API))
    await (await origin.link()).head()
    tunnel = await gateway.tunnel(token=await plane.mint("tunnel"))
    began_at = asyncio.get_running_loop().time()
    await plane.ask("DELETE", f"/v1/sandboxes/{SANDBOX}", status=204)
    assert await client.rest() == b""
    await until(lambda: tunnel.lost is not None)
    in_time("from the deletion of a sandbox to the end of its tunnel", asyncio.get_running_loop().time() - began_at, 1)
    assert tunnel.lost is not None
    assert tunnel.lost[0] == REVOKED
    assert await refused(gateway) == 407


async def test_the_lease_is_seen_with_its_tunnel_and_revision(plane: Replica, gateway: GatewayInProcess) -> None:
    await publish(plane, the_plan(3))
    await gateway.tunnel(token=await plane.mint("tunnel"))

    async def placed() -> list[dict[str, object]]:
        found = await plane.ask("GET", f"/internal/sandboxes/{SANDBOX}/placement")
        return list(found["gateways"])

    async with asyncio.timeout(WAIT_SECONDS):
        while not (found := await placed()) or "revision" not in found[0]:  # noqa: ASYNC110  nothing announces it
            await asyncio.sleep(0.02)
    admin_url = f"http://127.0.0.1:{gateway.gateway.admin_port}"
    assert found == [{"id": "gw_1", "adminUrl": admin_url, "tunnel": True, "revision": 3}]


async def test_a_tunnel_token_is_renewed(plane: Replica, gateway: GatewayInProcess) -> None:
    assert gateway.parts.renewals is not None
    await plane.mint("tunnel")  # what is renewed has to be there
    renewed = await gateway.parts.renewals.renew(SANDBOX, "req_1", None, None)
    again = await gateway.parts.renewals.renew(SANDBOX, "req_1", None, None)
    assert renewed == again
    claims = gateway.parts.tunnel_tokens.verify(renewed.token, gateway.parts.clock.wall)
    assert (claims.sandbox_id, claims.organization_id) == (SANDBOX, ORGANIZATION)


async def test_a_renewed_tunnel_stays_in_its_lineage(plane: Replica, gateway: GatewayInProcess) -> None:
    mine, others = await plane.mint("tunnel"), await plane.mint("tunnel")
    tunnel = await gateway.tunnel(token=mine)
    lineage = claims_of(gateway, mine).lineage
    assert lineage != claims_of(gateway, others).lineage  # which is the sandbox's latest
    tunnel.tunnel.send_control({"type": "token.request", "requestId": "req_1"})
    renewed = claims_of(gateway, str((await tunnel.message("token.response"))["token"]))
    assert renewed.lineage == lineage
    assert renewed.token_id != claims_of(gateway, mine).token_id
    until_at = int(gateway.parts.clock.wall) + 3600
    await plane.ask("POST", "/v1/revocations", {"kind": "sid", "id": lineage, "until": until_at}, status=201)
    assert await tunnel.ended() == REVOKED


def claims_of(gateway: GatewayInProcess, bearer: str) -> Claims:
    return gateway.parts.tunnel_tokens.verify(bearer, gateway.parts.clock.wall)


async def test_it_restarts_and_the_gateway_goes_on(tmp_path: Path, origin: RawOrigin) -> None:
    config = settings(tmp_path / "plane", None)
    async with replica(config) as plane:
        await plane.prepare(plan=False)
        await publish(plane, the_plan())
        port = plane.plane.port
        bearer = await plane.mint("proxy")
        control = {
            "url": f"http://127.0.0.1:{port}",
            "token_file": str(token_file(config.data_dir, "gateway")),
            "gateway_id": "gw_1",
            "state_dir": str(tmp_path / "state"),
        }
        started = in_process_gateway(tmp_path, control=control, connect_to={"api.test:80": origin.port})
        gateway = await started.__aenter__()
        gateway.token = bearer
        await until(lambda: gateway.metric("sallyport_control_watch_connected") == 1)
        await until(lambda: gateway.metric(KEYS_TAKEN) == 1)
        await served(gateway, origin)
        assert gateway.metric("sallyport_plan_propagation_seconds_count") == 1
    try:
        await until(lambda: gateway.metric("sallyport_control_watch_connected") == 0)
        assert SECRET.encode() in await served(gateway, origin)
        assert gateway.metric("sallyport_ready") == 1  # stale, and meant to serve
        again = settings(tmp_path / "plane", None, SALLYPORT_API_LISTEN=f"127.0.0.1:{port}")
        async with replica(again) as plane:
            await until(lambda: gateway.metric("sallyport_control_watch_events_total") >= 1)
            await publish(plane, the_plan(2))
            await until(lambda: {table.revision for table in gateway.parts.plans.tables()} == {2})
            assert gateway.metric("sallyport_plan_propagation_seconds_count") == 2
            assert gateway.metric('sallyport_plan_propagation_seconds_bucket{le="5.0"}') == 2
    finally:
        await started.__aexit__(None, None, None)
