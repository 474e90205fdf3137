import pytest

from control_plane.definitions.catalog import CATALOG
from control_plane.foundation import Foundation
from control_plane.refusals import Refused
from control_plane.webhooks.endpoints import MOST_OF_ONE
from tests.support.control_plane import CONNECTION, NOW, ORGANIZATION
from tests.support.subscriber import Subscriber
from tests.support.webhook_signatures import HEX
from tests.support.webhook_stage import PUBLIC_URL, WebhookStage, chat, connect, offer, webhook_stage

SQLITE = pytest.mark.parametrize("url", ["sqlite"], indirect=True)


async def refused(
    stage: WebhookStage, target_key: str, connection_id: str | None, organization_id: str | None = None
) -> str:
    with pytest.raises(Refused) as caught:
        await stage.endpoints.create(target_key, connection_id, organization_id, NOW)
    return " ".join([caught.value.code.wire, *(issue.pointer for issue in caught.value.issues)])


async def test_an_endpoint_of_a_target(hooks: WebhookStage) -> None:
    await offer(hooks.base, hooks.definition)
    made = await hooks.endpoints.create("chat-default", None, None, NOW)
    key = str(made["endpointKey"])
    assert made == {
        "endpointKey": key,
        "url": f"{PUBLIC_URL}/p/integration/webhooks/{key}",
        "targetKey": "chat-default",
        "describe": "Enter this URL.",
        "eventTypes": ["message"],
        "createdAt": int(NOW),
    }
    assert await hooks.endpoints.get(key, None) == made
    assert await hooks.endpoints.page(None, "", 10) == [made]
    assert await hooks.endpoints.page(None, key, 10) == []
    # A member sees none of it.
    assert await hooks.endpoints.page(ORGANIZATION, "", 10) == []
    for ask in (hooks.endpoints.get, hooks.endpoints.remove):
        with pytest.raises(Refused, match="webhook_endpoint_not_found"):
            await ask(key, ORGANIZATION)
    await hooks.endpoints.remove(key, None)
    with pytest.raises(Refused, match="webhook_endpoint_not_found"):
        await hooks.endpoints.remove(key, None)


async def test_an_endpoint_of_a_connection(base: Foundation, subscriber: Subscriber) -> None:
    definition = chat(HEX, ownership="connection", routing="path")
    async with webhook_stage(base, subscriber, definition) as stage:
        await offer(base, definition)
        await connect(base, "chat-default")
        await connect(base, "chat-default", "con_revoked", status="revoked")
        await connect(base, "elsewhere", "con_elsewhere")
        made = await stage.endpoints.create("chat-default", CONNECTION, ORGANIZATION, NOW)
        assert made["connectionId"] == CONNECTION
        assert await stage.endpoints.page(ORGANIZATION, "", 10) == [made]
        assert await stage.endpoints.page("org_two", "", 10) == []
        with pytest.raises(Refused, match="webhook_endpoint_not_found"):
            await stage.endpoints.get(str(made["endpointKey"]), "org_two")
        assert await refused(stage, "chat-default", CONNECTION, "org_two") == "connection_not_found"
        assert await refused(stage, "chat-default", "con_unknown") == "connection_not_found"
        assert await refused(stage, "chat-default", "con_elsewhere") == "connection_not_found"
        assert await refused(stage, "chat-default", "con_revoked") == "connection_not_active"
        assert await refused(stage, "chat-default", None) == "invalid_request /connectionId"
        await stage.endpoints.remove(str(made["endpointKey"]), ORGANIZATION)


@SQLITE
async def test_what_cannot_have_one(hooks: WebhookStage) -> None:
    without = next(each for each in CATALOG if each.webhook_source is None)
    await offer(hooks.base, without)
    await offer(hooks.base, hooks.definition)
    await connect(hooks.base, "chat-default")
    assert await refused(hooks, without.target_key, None) == "webhooks_not_offered"
    assert await refused(hooks, "unknown", None) == "target_not_found"
    assert await refused(hooks, "chat-default", CONNECTION) == "invalid_request /connectionId"
    assert await refused(hooks, "chat-default", None, ORGANIZATION) == "forbidden"
    for _ in range(MOST_OF_ONE):
        await hooks.endpoint()
    assert await refused(hooks, "chat-default", None) == "limit_reached"
