from control_plane.webhooks.events import events_page
from tests.support.control_plane import CONNECTION, NOW, ORGANIZATION
from tests.support.webhook_stage import WebhookStage, event_body


async def test_events_are_listed_without_what_was_written_in_them(hooks: WebhookStage) -> None:
    key = await hooks.prepare()
    for number in range(3):
        hooks.now += 1
        await hooks.send(key, event_body(f"ext_{number}", text="for the subscriber's eyes"))
    found = await events_page(hooks.base.database, None, "", 2)
    ids = [event.id for event in await hooks.events()]
    assert [each["eventId"] for each in found] == [ids[2], ids[1]]
    assert found[0] == {
        "eventId": ids[2],
        "organizationId": ORGANIZATION,
        "targetKey": "chat-default",
        "connectionId": CONNECTION,
        "type": "message",
        "state": "pending",
        "receivedAt": int(NOW) + 3,
    }
    assert [each["eventId"] for each in await events_page(hooks.base.database, ORGANIZATION, ids[1], 9)] == [ids[0]]
    assert await events_page(hooks.base.database, "org_two", "", 9) == []
