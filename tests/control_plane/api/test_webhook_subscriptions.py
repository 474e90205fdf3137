"""A member's way: subscribe, be told by a real server, look at what became of it, and have it sent again."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from control_plane.definitions.registry import Registry
from control_plane.foundation import foundation
from tests.support.control_plane import NOW, Replica, replica, settings
from tests.support.subscriber import Subscriber, subscriber_server
from tests.support.until import until
from tests.support.webhook_signatures import HEX, signed
from tests.support.webhook_stage import PROFILE, bind, chat, connect, event_body, offer

PATH = f"/v1/sandbox/profiles/{PROFILE}/webhook-subscriptions"


@pytest.fixture
def subscriber(tmp_path: Path) -> Iterator[Subscriber]:
    with subscriber_server(tmp_path / "subscriber") as server:
        yield server


async def test_the_whole_way(url: str, tmp_path: Path, subscriber: Subscriber) -> None:
    definition = chat(HEX)
    config = settings(
        tmp_path / "data",
        url,
        SALLYPORT_OUTBOUND_ALLOW="127.0.0.0/8",
        SALLYPORT_OUTBOUND_CA_FILE=str(subscriber.ca_file),
    )
    async with replica(config, Registry([definition])) as api:
        async with foundation(config, now=NOW, prepare=False) as base:
            await offer(base, definition)
            await connect(base, definition.target_key)
            await bind(base)
        endpoint = await api.ask("POST", "/v1/integration/webhook-endpoints", {"targetKey": "chat-default"}, status=201)
        made = await api.ask("POST", PATH, {"url": subscriber.url()}, status=201)
        secret, one = made.pop("secret"), f"{PATH}/{made['subscriptionId']}"
        assert await api.ask("GET", one) == made
        assert (await api.ask("GET", PATH))["items"] == [made]
        async with httpx.AsyncClient(trust_env=False) as provider:
            to = f"http://127.0.0.1:{api.plane.port}/p/integration/webhooks/{endpoint['endpointKey']}"
            for number in range(2):
                body = event_body(f"ext_{number}")
                assert (await provider.post(to, content=body, headers=signed(HEX, body, NOW))).status_code == 200
        await until(lambda: len(subscriber.told) == 2)
        assert all(told.is_signed_with(secret) for told in subscriber.told)
        await _until_delivered(api, one, 2)
        page = await api.ask("GET", f"{one}/deliveries?limit=1")
        assert page["items"][0]["eventId"] == max(subscriber.ids)
        rest = await api.ask("GET", f"{one}/deliveries?limit=1&cursor={page['nextCursor']}")
        assert [each["eventId"] for each in rest["items"]] == [min(subscriber.ids)]
        again = min(subscriber.ids)
        await api.ask("POST", f"{one}/deliveries/{again}/redeliver", status=202)
        await until(lambda: subscriber.ids.count(again) == 2)
        listed = await api.ask("GET", "/v1/integration/webhook-events")
        assert [each["state"] for each in listed["items"]] == ["processed", "processed"]
        rotated = await api.ask("PATCH", one, {"rotateSecret": True, "eventTypes": ["message"]})
        assert rotated["secret"] != secret
        assert (await api.ask("PATCH", one, {"enabled": False}))["enabled"] is False
        await api.ask("DELETE", one, status=204)
        assert await api.refused("GET", one) == "404 webhook_subscription_not_found"


async def _until_delivered(api: Replica, one: str, count: int) -> None:
    async with asyncio.timeout(10):
        while True:
            shown = (await api.ask("GET", f"{one}/deliveries"))["items"]
            if [each["state"] for each in shown] == ["delivered"] * count:
                return
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_refusals(api: Replica) -> None:
    async with foundation(api.config, now=NOW, prepare=False) as base:
        await bind(base)
    good = {"url": "https://subscriber.test/"}
    one = f"{PATH}/whs_{'0' * 32}"
    assert await api.refused("POST", PATH.replace(PROFILE, "sbp_unknown"), good) == "404 profile_not_found"
    assert await api.refused("POST", PATH, {"url": "http://subscriber.test/"}) == "400 invalid_request"
    assert await api.refused("POST", PATH, good | {"eventTypes": ["a\x00"]}) == "400 invalid_request"
    assert await api.refused("POST", PATH, good | {"secret": "whsec_mine"}) == "400 invalid_request"
    assert await api.refused("PATCH", one, {"enabled": True}) == "404 webhook_subscription_not_found"
    assert await api.refused("DELETE", f"{PATH}/nonsense") == "400 invalid_request"
    assert await api.refused("GET", f"{one}/deliveries") == "404 webhook_subscription_not_found"
    assert await api.refused("POST", f"{one}/deliveries/evt_{'0' * 32}/redeliver") == (
        "404 webhook_subscription_not_found"
    )
    api.client.headers.pop("authorization")
    assert await api.refused("GET", PATH) == "401 unauthorized"
