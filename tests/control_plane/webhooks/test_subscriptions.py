import pytest

from control_plane.refusals import Refused
from control_plane.store.models import WebhookSubscription
from control_plane.webhooks import subscriptions
from control_plane.webhooks.outbox import secret_place
from control_plane.webhooks.signing import shown_once
from tests.support.control_plane import NOW, ORGANIZATION
from tests.support.webhook_stage import DAY, PROFILE, WebhookStage, bind, event_body

SQLITE = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
URL = "https://subscriber.test/hook"


async def changed(stage: WebhookStage, subscription_id: str, **changes: object) -> dict[str, object]:
    given: dict[str, object] = {"url": None, "event_types": None, "enabled": None, "rotate_secret": False}
    return await stage.subscriptions.change(PROFILE, subscription_id, **(given | changes), now=NOW + 1)  # type: ignore[arg-type]  # a table of arguments


async def test_a_secret_is_shown_once(hooks: WebhookStage) -> None:
    await bind(hooks.base)
    made = await hooks.subscriptions.create(PROFILE, URL, ["b", "a", "b"], NOW)
    secret, subscription_id = str(made.pop("secret")), str(made["subscriptionId"])
    assert secret.startswith("whsec_")
    assert made == {
        "subscriptionId": subscription_id,
        "sandboxProfileId": PROFILE,
        "organizationId": ORGANIZATION,
        "url": URL,
        "eventTypes": ["a", "b"],
        "enabled": True,
        "createdAt": int(NOW),
        "updatedAt": int(NOW),
    }
    assert await hooks.subscriptions.get(PROFILE, subscription_id) == made
    assert await hooks.subscriptions.page(PROFILE, "", 10) == [made]
    async with hooks.base.database.read() as tx:
        row = await tx.get(WebhookSubscription, subscription_id)
        assert row is not None
        assert secret.encode() not in row.secret
        opened = await hooks.base.vault.open(tx, secret_place(row), row.secret)
        assert shown_once(opened) == secret


async def test_changes(hooks: WebhookStage) -> None:
    await bind(hooks.base)
    subscription_id, secret = await hooks.subscribe()
    found = await changed(hooks, subscription_id, url=URL, event_types=["message"], enabled=False)
    assert (found["url"], found["eventTypes"], found["enabled"]) == (URL, ["message"], False)
    assert (found["updatedAt"], "secret" in found) == (int(NOW) + 1, False)
    assert (await changed(hooks, subscription_id, event_types=[]))["eventTypes"] == []
    rotated = await changed(hooks, subscription_id, rotate_secret=True)
    assert str(rotated["secret"]).startswith("whsec_")
    assert rotated["secret"] != secret


async def test_a_new_secret_counts_at_once(hooks: WebhookStage) -> None:
    key = await hooks.prepare()
    subscription_id, secret = await hooks.subscribe()
    rotated = str((await changed(hooks, subscription_id, rotate_secret=True))["secret"])
    await hooks.send(key, event_body())
    await hooks.work()
    [told] = hooks.subscriber.told
    assert (told.is_signed_with(rotated), told.is_signed_with(secret)) == (True, False)


@SQLITE
@pytest.mark.parametrize(
    "address",
    [
        "http://subscriber.test/",
        "wss://subscriber.test/",
        "https://user:pw@subscriber.test/",
        "https://x/#a",
        "nonsense",
    ],
)
async def test_what_is_no_place_to_tell(hooks: WebhookStage, address: str) -> None:
    await bind(hooks.base)
    with pytest.raises(Refused) as caught:
        await hooks.subscriptions.create(PROFILE, address, (), NOW)
    assert [issue.pointer for issue in caught.value.issues] == ["/url"]
    assert "pw" not in str(caught.value.issues)
    subscription_id, _ = await hooks.subscribe()
    with pytest.raises(Refused, match="invalid_request"):
        await changed(hooks, subscription_id, url=address)


@SQLITE
async def test_what_is_not_there(hooks: WebhookStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "MOST_OF_PROFILE", 1)
    await bind(hooks.base)
    await bind(hooks.base, "sbp_two")
    subscription_id, _ = await hooks.subscribe()
    with pytest.raises(Refused, match="limit_reached"):
        await hooks.subscribe()
    with pytest.raises(Refused, match="profile_not_found"):
        await hooks.subscriptions.create("sbp_unknown", URL, (), NOW)
    with pytest.raises(Refused, match="profile_not_found"):
        await hooks.subscriptions.page("sbp_unknown", "", 1)
    for profile_id, asked in (("sbp_two", subscription_id), (PROFILE, "whs_unknown")):
        with pytest.raises(Refused, match="webhook_subscription_not_found"):
            await hooks.subscriptions.get(profile_id, asked)
        with pytest.raises(Refused, match="webhook_subscription_not_found"):
            await hooks.subscriptions.deliveries(profile_id, asked, "", 1)
    with pytest.raises(Refused, match="webhook_event_not_found"):
        await hooks.subscriptions.redeliver(PROFILE, subscription_id, "evt_unknown", NOW)
    await hooks.subscriptions.remove(PROFILE, subscription_id)
    with pytest.raises(Refused, match="webhook_subscription_not_found"):
        await hooks.subscriptions.remove(PROFILE, subscription_id)


async def test_deliveries_are_shown_and_sent_again(hooks: WebhookStage) -> None:
    key = await hooks.prepare()
    subscription_id, _ = await hooks.subscribe()
    hooks.subscriber.answers.append((410, {}))
    await hooks.send(key, event_body("ext_1"))
    await hooks.work()
    await changed(hooks, subscription_id, enabled=True)
    [event] = await hooks.events()
    [shown] = await hooks.subscriptions.deliveries(PROFILE, subscription_id, "", 10)
    assert shown == {
        "eventId": event.id,
        "state": "failed",
        "attempts": 1,
        "lastStatus": 410,
        "lastError": "the subscriber answered 410",
        "updatedAt": int(NOW),
    }
    hooks.now += 2 * DAY
    again = await hooks.subscriptions.redeliver(PROFILE, subscription_id, event.id, hooks.now)
    assert (again["state"], again["nextAttemptAt"]) == ("pending", int(hooks.now))
    assert again["givenUpAt"] == int(hooks.now + DAY)
    await hooks.work()
    [shown] = await hooks.subscriptions.deliveries(PROFILE, subscription_id, "", 10)
    assert (shown["state"], shown["attempts"], shown["lastStatus"], "lastError" in shown) == (
        "delivered",
        2,
        204,
        False,
    )
    assert hooks.subscriber.ids == [event.id, event.id]
    assert await hooks.subscriptions.deliveries(PROFILE, subscription_id, event.id, 10) == []
