"""Who hears of changes: made by the API with a secret shown once, or named by the configuration."""

import pytest

from control_plane.feed.tiers import TIERS, Tier
from control_plane.push import subscribers
from control_plane.push.configured import ConfiguredSubscriber
from control_plane.push.subscribers import sync_configured
from control_plane.refusals import ControlCode, Refused
from control_plane.store.models import PushSubscriber
from sallyport.secret import Secret
from tests.support.control_plane import NOW, ORGANIZATION
from tests.support.push_stage import INSTANCE, PushStage, make_instance

SECRET = "canary-of-a-push-7d1a"


def configured(
    pushes: PushStage, name: str = "client", secret: str = SECRET, **members: object
) -> ConfiguredSubscriber:
    given: dict[str, object] = {"url": pushes.subscriber.url(f"/{name}"), "tier": Tier.STANDARD}
    return ConfiguredSubscriber(name=name, secret=Secret(secret.encode()), **(given | members))  # type: ignore[arg-type]  # members are the fields'


async def sync(pushes: PushStage, *named: ConfiguredSubscriber) -> None:
    await sync_configured(pushes.base.database, pushes.base.vault, named, pushes.now)


async def code_of(awaited: object) -> ControlCode:
    with pytest.raises(Refused) as caught:
        await awaited  # type: ignore[misc]  # it is one of the desk's
    return caught.value.code


async def test_a_secret_is_shown_once(pushes: PushStage) -> None:
    made = await pushes.desk.create(INSTANCE, "https://hooks.test/x", Tier.STANDARD, ("sandbox_started",), NOW)
    secret = str(made.pop("secret"))
    assert made == {
        "pushSubscriberId": made["pushSubscriberId"],
        **{"source": "api", "organizationId": ORGANIZATION, "instanceId": INSTANCE},
        **{"url": "https://hooks.test/x", "tier": "standard", "events": ["sandbox_started"]},
        **{"enabled": True, "failedAttempts": 0, "createdAt": int(NOW), "updatedAt": int(NOW)},
    }
    subscriber_id = str(made["pushSubscriberId"])
    assert await pushes.desk.get(subscriber_id) == made
    assert secret.encode() not in (await pushes.row(subscriber_id)).secret
    same = {"url": None, "events": None, "enabled": None}
    changed = await pushes.desk.change(subscriber_id, **same, rotate_secret=True, now=NOW + 1)  # type: ignore[arg-type]  # as the desk's
    assert changed["secret"] != secret
    assert await pushes.desk.page(None, INSTANCE, TIERS, "", 9) == [made | {"updatedAt": int(NOW) + 1}]
    assert await pushes.desk.page("org_other", None, TIERS, "", 9) == []


async def test_what_is_refused(pushes: PushStage, monkeypatch: pytest.MonkeyPatch) -> None:
    create = pushes.desk.create
    assert (
        await code_of(create("inst_none", "https://a.test", Tier.STANDARD, (), NOW)) is ControlCode.INSTANCE_NOT_FOUND
    )
    assert await code_of(create(INSTANCE, "http://a.test", Tier.STANDARD, (), NOW)) is ControlCode.INVALID_REQUEST
    monkeypatch.setattr(subscribers, "MOST_OF_INSTANCE", 1)
    await create(INSTANCE, "http://localhost:1/", Tier.STANDARD, (), NOW)
    assert await code_of(create(INSTANCE, "https://a.test", Tier.STANDARD, (), NOW)) is ControlCode.LIMIT_REACHED
    assert await code_of(pushes.desk.get("psb_none")) is ControlCode.PUSH_SUBSCRIBER_NOT_FOUND
    await sync(pushes, configured(pushes))
    assert await code_of(pushes.desk.remove("psb_client")) is ControlCode.PUSH_SUBSCRIBER_CONFIGURED


async def test_a_configured_one_hears_of_every_instance(pushes: PushStage) -> None:
    await pushes.started("before")
    await sync(pushes, configured(pushes))
    await make_instance(pushes.base, "inst_2", "org_two")
    await pushes.started("a")
    await pushes.started("b", instance_id="inst_2")
    await pushes.work()
    assert sorted((each["instanceId"], each["prevSeq"], each["seq"]) for each in pushes.documents("/client")) == [
        (INSTANCE, 1, 2),
        ("inst_2", 0, 1),
    ]
    assert {each.authorization for each in pushes.heard("/client")} == {f"Bearer {SECRET}"}
    shown = await pushes.desk.get("psb_client")
    assert (shown["source"], "organizationId" in shown, "instanceId" in shown) == ("configuration", False, False)


async def test_a_restart_loses_nothing_and_takes_what_is_new(pushes: PushStage) -> None:
    await sync(pushes, configured(pushes), configured(pushes, "other", instance_id="inst_2"))
    # Written, not told yet; then the control plane starts again, with another secret for the one.
    await pushes.started("a")
    await make_instance(pushes.base, "inst_2")
    await pushes.started("b", instance_id="inst_2")
    await sync(pushes, configured(pushes, secret="another-one"), configured(pushes, "other", instance_id="inst_2"))
    await pushes.work()
    await pushes.work()
    assert sorted(each["instanceId"] for each in pushes.documents("/client")) == [INSTANCE, "inst_2"]
    assert {each.authorization for each in pushes.heard("/client")} == {"Bearer another-one"}
    assert [each["instanceId"] for each in pushes.documents("/other")] == ["inst_2"]
    before = await pushes.row("psb_client")
    await sync(pushes, configured(pushes, secret="another-one", tier=Tier.ADMIN))
    after = await pushes.row("psb_client")
    assert (after.tier, after.secret) == ("admin", before.secret)
    assert [each["pushSubscriberId"] for each in await pushes.desk.page(None, None, TIERS, "", 9)] == ["psb_client"]
    await sync(pushes)
    assert await pushes.desk.page(None, None, TIERS, "", 9) == []


async def test_a_secret_under_a_lost_key_is_sealed_anew(pushes: PushStage) -> None:
    await sync(pushes, configured(pushes))
    async with pushes.base.database.write() as tx:
        row = await tx.get(PushSubscriber, "psb_client")
        assert row is not None
        row.secret = b"sealed by another key, so that nothing here opens it"
    await sync(pushes, configured(pushes))
    await pushes.started("a")
    await pushes.work()
    assert [each.authorization for each in pushes.heard("/client")] == [f"Bearer {SECRET}"]
