import pytest

from control_plane.definitions.linear.default import DEFINITION as LINEAR
from control_plane.foundation import foundation
from tests.support.control_plane import NOW, ORGANIZATION, Replica
from tests.support.webhook_stage import offer

PATH = "/v1/integration/webhook-endpoints"


async def test_endpoints_are_made_shown_listed_and_deleted(api: Replica) -> None:
    async with foundation(api.config, now=NOW, prepare=False) as base:
        await offer(base, LINEAR)
    made = [await api.ask("POST", PATH, {"targetKey": "linear-default"}, status=201) for _ in range(3)]
    assert made[0]["url"].startswith("http://127.0.0.1:")
    assert "Linear" in made[0]["describe"]
    by_key = sorted(made, key=lambda each: each["endpointKey"])
    first = await api.ask("GET", f"{PATH}?limit=2")
    assert first["items"] == by_key[:2]
    second = await api.ask("GET", f"{PATH}?limit=2&cursor={first['nextCursor']}")
    assert second == {"items": by_key[2:]}
    assert (await api.ask("GET", f"{PATH}?organizationId={ORGANIZATION}"))["items"] == []
    one = f"{PATH}/{made[0]['endpointKey']}"
    assert await api.ask("GET", one) == made[0]
    await api.ask("DELETE", one, status=204)
    assert await api.refused("GET", one) == "404 webhook_endpoint_not_found"
    assert await api.refused("DELETE", one) == "404 webhook_endpoint_not_found"


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_refusals(api: Replica) -> None:
    assert await api.refused("POST", PATH, {"targetKey": "unknown"}) == "404 target_not_found"
    assert await api.refused("POST", PATH, {"targetKey": "x", "connectionId": "x"}) == "400 invalid_request"
    assert await api.refused("GET", f"{PATH}/nonsense") == "400 invalid_request"
    api.client.headers.pop("authorization")
    assert await api.refused("GET", PATH) == "401 unauthorized"
    assert await api.refused("GET", "/v1/integration/webhook-events") == "401 unauthorized"


async def test_events(api: Replica) -> None:
    assert await api.ask("GET", "/v1/integration/webhook-events") == {"items": []}
