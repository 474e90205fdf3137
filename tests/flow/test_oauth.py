"""Requests by an OAuth token that ends: refreshed ahead behind the gateway, and the sandbox notices nothing."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from control_client import backoff
from control_plane import keeper
from control_plane.definitions.registry import Registry
from control_plane.service_tokens import token_file
from tests.support.authorization_server import AuthorizationServer, authorization_server
from tests.support.control_plane import ORGANIZATION, SANDBOX, Replica, replica, sealed_plan, settings
from tests.support.in_process import GatewayInProcess, in_process_gateway
from tests.support.oauth_stage import OAUTH, VARIANT, acme, browse, offer_target_of
from tests.support.plan_documents import route_document
from tests.support.raw_end import RawOrigin, raw_origin
from tests.support.until import until

pytestmark = [pytest.mark.uvloop, pytest.mark.full]

API = "http://api.test/"
OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
LIFE_SECONDS = 4
TOKENS = 3


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[AuthorizationServer]:
    with authorization_server(tmp_path / "provider") as server:
        server.lifetime = LIFE_SECONDS
        yield server


@pytest.fixture
async def plane(
    tmp_path: Path, provider: AuthorizationServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Replica]:
    monkeypatch.setattr(backoff, "FIRST_SECONDS", 0.1)
    monkeypatch.setattr(keeper, "EVERY_SECONDS", 0.2)
    config = settings(
        tmp_path / "plane",
        None,
        SALLYPORT_OUTBOUND_ALLOW="127.0.0.0/8",
        SALLYPORT_OUTBOUND_CA_FILE=str(provider.ca_file),
    )
    async with replica(config, Registry([acme()])) as plane:
        await plane.ask("POST", "/v1/sandboxes", {"organizationId": ORGANIZATION, "sandboxId": SANDBOX}, status=201)
        await offer_target_of(config, provider.url)
        yield plane


@pytest.fixture
async def origin() -> AsyncIterator[RawOrigin]:
    async with raw_origin() as origin:
        yield origin


@pytest.fixture
async def gateway(tmp_path: Path, plane: Replica, origin: RawOrigin) -> AsyncIterator[GatewayInProcess]:
    control = {
        "url": f"http://127.0.0.1:{plane.plane.port}",
        "token_file": str(token_file(plane.config.data_dir, "gateway")),
        "gateway_id": "gw_1",
        "state_dir": str(tmp_path / "state"),
    }
    async with in_process_gateway(tmp_path, control=control, connect_to={"api.test:80": origin.port}) as gateway:
        issued = await plane.ask("POST", f"/v1/sandboxes/{SANDBOX}/tokens", {"kind": "proxy"}, status=201)
        gateway.token = str(issued["token"])
        await until(lambda: gateway.metric("sallyport_control_watch_connected") == 1)
        await until(lambda: gateway.metric('sallyport_control_requests_total{operation="keys",result="ok"}') == 1)
        yield gateway


async def authorize(plane: Replica, provider: AuthorizationServer, connection_id: str | None = None) -> str:
    path = f"/v1/integration/connections/{VARIANT}/oauth2"
    body = {"organizationId": ORGANIZATION} | ({} if connection_id is None else {"connectionId": connection_id})
    started = await plane.ask("POST", f"{path}/start", body)
    back = await browse(provider, started["authorizationUrl"])
    given = {"organizationId": ORGANIZATION, "state": back["state"], "code": back["code"]}
    return str((await plane.ask("POST", f"{path}/complete", given))["connectionId"])


async def publish(plane: Replica, connection_id: str) -> None:
    how = {"kind": "integration_connection", "connectionId": connection_id, "secretType": OAUTH}
    route = route_document(match={"hosts": ["api.test"]}, allowCleartext=True, credentialResolver=how)
    await plane.ask("POST", f"/v1/sandboxes/{SANDBOX}/plans", content=sealed_plan(routes=[route]), status=201)


async def served(gateway: GatewayInProcess, origin: RawOrigin) -> str:
    """Ask once, and return the token that reached the API."""
    client = await gateway.client()
    client.send(gateway.request(API))
    token = await answer(origin)
    assert (await client.answer()).status == 200
    return token


async def answer(origin: RawOrigin) -> str:
    """Answer the next request as the API, and return its token."""
    link = await origin.link()
    found = re.search(rb"[Aa]uthorization: Bearer (\S+)", await link.head())
    assert found is not None
    link.send(OK)
    return found[1].decode()


async def asked(gateway: GatewayInProcess) -> int:
    """Ask once, and return the status."""
    client = await gateway.client()
    client.send(gateway.request(API))
    return (await client.answer()).status


async def test_the_sandbox_notices_nothing_of_refreshes(
    plane: Replica, provider: AuthorizationServer, gateway: GatewayInProcess, origin: RawOrigin
) -> None:
    await publish(plane, await authorize(plane, provider))
    used: list[str] = []
    async with asyncio.timeout(10 * LIFE_SECONDS):
        while len(set(used)) < TOKENS:
            used.append(await served(gateway, origin))
            await asyncio.sleep(0.02)
    assert list(dict.fromkeys(used)) == [token for token in provider.issued if token in used]
    assert len(used) > 10 * TOKENS


async def test_what_was_withdrawn_is_refused_until_it_is_authorised_again(
    plane: Replica, provider: AuthorizationServer, gateway: GatewayInProcess, origin: RawOrigin
) -> None:
    connection_id = await authorize(plane, provider)
    await publish(plane, connection_id)
    await served(gateway, origin)
    provider.forget_refresh_tokens()
    path = f"/v1/integration/connections/{connection_id}"
    async with asyncio.timeout(10 * LIFE_SECONDS):
        while (await plane.ask("GET", path))["status"] != "error":  # noqa: ASYNC110  no event says so
            await asyncio.sleep(0.05)
    await until(lambda: len(gateway.parts.credentials) == 0)
    assert await asked(gateway) == 502
    await authorize(plane, provider, connection_id)
    # Gateways hear of it in a moment.
    answering = asyncio.get_running_loop().create_task(answer(origin))
    while (status := await asked(gateway)) != 200:
        assert status == 502
    assert await answering == provider.issued[-1]
