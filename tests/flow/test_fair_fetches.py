"""C11: a control plane that is slow for one sandbox is not slow for another."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from control_client.session import MAX_LINKS
from sallyport.net.websocket_upgrade import upgrade_request
from sallyport.plan.codec import seal
from tests.support.fake_control import FakeControl, fake_control
from tests.support.gateway_plans import SANDBOX, route
from tests.support.in_process import GatewayInProcess, in_process_gateway, signed_token, signing_jwk
from tests.support.plan_documents import plan_document
from tests.support.raw_end import RawEnd, RawOrigin, raw_origin
from tests.support.two_ways import WAYS, way_into
from tests.support.until import until

pytestmark = pytest.mark.uvloop

RESOLVE = "/internal/integration-credentials/resolve"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
# More than a session to the control plane has links.
MISSES = 40
EACH = 4


class SlowForOne:
    """Resolves at once, but for one sandbox never."""

    def __init__(self) -> None:
        self.stuck = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        question = json.loads(await request.read())
        if question["sandboxId"] == SANDBOX:
            self.stuck += 1
            try:
                await asyncio.Event().wait()
            finally:
                self.stuck -= 1
        return web.json_response({"kind": "value", "value": "s3cr3t-of-the-route", "version": "v1"})


@pytest.fixture
async def origin() -> AsyncIterator[RawOrigin]:
    async with raw_origin() as origin:
        yield origin


@pytest.fixture
async def control() -> AsyncIterator[FakeControl]:
    async with fake_control() as control:
        control.keys = [{**signing_jwk(), "use": "sig"}]
        yield control


@pytest.fixture
async def gateway(tmp_path: Path, control: FakeControl, origin: RawOrigin) -> AsyncIterator[GatewayInProcess]:
    hosts = [f"api{number}.test" for number in range(MISSES)]
    for sandbox_id in (SANDBOX, "sbx_two"):
        routes = [
            route(f"r{number}", [host], f"con_{number}", allowCleartext=True) for number, host in enumerate(hosts)
        ]
        await control.publish(seal(plan_document(routes, default="deny", sandboxId=sandbox_id)))
    settings = {
        "url": control.url,
        "token_file": str(control.token_file(tmp_path)),
        "gateway_id": "gw_1",
        "state_dir": str(tmp_path / "state"),
    }
    connect_to = {f"{host}:80": origin.port for host in hosts}
    limits = {"limits": {"credential_fetches_per_sandbox": EACH}}
    async with in_process_gateway(tmp_path, control=settings, connect_to=connect_to, further=limits) as gateway:
        await until(lambda: gateway.metric('sallyport_control_requests_total{operation="keys",result="ok"}') == 1)
        yield gateway


@pytest.mark.parametrize("way", WAYS)
async def test_c11_who_waits_for_many_credentials_holds_up_no_other(
    gateway: GatewayInProcess, control: FakeControl, origin: RawOrigin, way: str
) -> None:
    slow = SlowForOne()
    control.misbehave(RESOLVE, *[slow.answer] * (3 * MISSES))
    ask = await way_into(gateway, way)
    waiting = [
        await ask(b"GET http://api%d.test/ HTTP/1.1\r\nHost: api%d.test\r\n\r\n" % (number, number))
        for number in range(MISSES)
    ]
    await until(lambda: slow.stuck >= EACH)
    neighbour = await way_into(gateway, way, "sbx_two")
    end = await neighbour(b"GET http://api7.test/ HTTP/1.1\r\nHost: api7.test\r\n\r\n")
    link = await origin.link()
    assert b"s3cr3t-of-the-route" in await link.head()
    link.send(OK)
    assert (await end.answer()).status == 200
    assert slow.stuck == EACH
    for stuck in waiting:
        stuck.abort() if way == "explicit" else stuck.close()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("tokens", [1, 2 * MAX_LINKS])
async def test_s10_who_exchanges_its_renewal_token_over_and_over_holds_up_no_other(
    gateway: GatewayInProcess, control: FakeControl, origin: RawOrigin, tokens: int, way: str
) -> None:
    """A control plane that has nothing to say of one sandbox still renews, and resolves, for another."""
    assert gateway.gateway.tunnel is not None

    async def never(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async def fresh(request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        return web.json_response(
            {
                "requestId": asked["requestId"],
                "token": signed_token("sallyport-tunnel", "sbx_two"),
                "expiresAt": 2_000_000_000,
                "renewalToken": "renewal",
                "renewalExpiresAt": 2_000_086_400,
            }
        )

    mine = f"/internal/sandboxes/{SANDBOX}/tokens"
    control.misbehave(mine, *[never] * (3 * MAX_LINKS))
    control.misbehave("/internal/sandboxes/sbx_two/tokens", fresh)
    control.credentials["con_7"] = {"kind": "value", "value": "s3cr3t-of-the-route", "version": "v1"}
    shown = [signed_token("sallyport-renewal") for _ in range(tokens)]
    waiting = []
    for number in range(2 * MAX_LINKS):
        waiting.append(end := await RawEnd.dial(gateway.gateway.tunnel.port))
        end.send(upgrade_request("gateway.test", token=shown[number % tokens])[0])
    await until(lambda: gateway.parts.streams.admitted == len(waiting))
    await until(lambda: control.count(mine) >= 1)
    tunnel = await gateway.tunnel("sbx_two", token=signed_token("sallyport-renewal", "sbx_two"))
    await tunnel.message("token.response")
    neighbour = await way_into(gateway, way, "sbx_two")
    end = await neighbour(b"GET http://api7.test/ HTTP/1.1\r\nHost: api7.test\r\n\r\n")
    link = await origin.link()
    assert b"s3cr3t-of-the-route" in await link.head()
    link.send(OK)
    assert (await end.answer()).status == 200
    assert control.count(mine) == 1
    for stuck in waiting:
        stuck.abort()
