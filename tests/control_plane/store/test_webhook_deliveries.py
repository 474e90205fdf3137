"""Queries on deliveries; what is made of them is tested in tests/control_plane/webhooks."""

from collections.abc import Sequence

from control_plane.foundation import Foundation
from control_plane.store import webhook_deliveries as rows
from control_plane.store.database import Transaction
from control_plane.store.models import Profile, WebhookEvent, WebhookSubscription
from tests.support.control_plane import NOW


async def prepare(tx: Transaction, subscriptions: Sequence[str], events: int) -> None:
    await tx.add(Profile(id="sbp_1", organization_id="org_1", display_name=None, created_at=1))
    for subscription_id in subscriptions:
        row = WebhookSubscription(id=subscription_id, organization_id="org_1", profile_id="sbp_1", url="https://x")
        row.secret, row.event_types, row.enabled, row.created_at, row.updated_at = b"", "[]", True, 1, 1
        await tx.add(row)
    for number in range(events):
        event = WebhookEvent(id=f"evt_{number}", target_key="t", external_id=f"ext_{number}", organization_id="org_1")
        event.connection_id, event.type, event.payload, event.received_at = "con_1", "message", "{}", 1
        event.state = "processed"
        await tx.add(event)


async def test_a_delivery_is_made_out_once_and_claimed_by_one(base: Foundation) -> None:
    async with base.database.write() as tx:
        await prepare(tx, ["whs_1", "whs_2"], 3)
        for number in range(3):
            for _ in range(2):
                await rows.make_out(tx, f"evt_{number}", "whs_1", NOW + number, NOW + 60)
        await rows.make_out(tx, "evt_0", "whs_2", NOW - 5, NOW + 60)
    async with base.database.read() as tx:
        assert await rows.due(tx, NOW - 6, 9) == []
        assert await rows.due(tx, NOW + 1, 9) == [("org_1", "whs_2", 1), ("org_1", "whs_1", 2)]
        assert await rows.due(tx, NOW + 1, 1) == [("org_1", "whs_2", 1)]
    async with base.database.write() as tx:
        [first] = await rows.claim(tx, "whs_1", "me", NOW + 1, NOW + 40, 1)
        assert (first.event_id, first.attempts, first.owner, first.not_before) == ("evt_0", 1, "me", int(NOW) + 40)
        if base.database.is_postgresql:
            async with base.database.write() as other:
                assert [each.event_id for each in await rows.claim(other, "whs_1", "it", NOW + 1, NOW + 40, 9)] == [
                    "evt_1"
                ]
    async with base.database.read() as tx:
        left = 0 if base.database.is_postgresql else 1
        assert await rows.due(tx, NOW + 1, 9) == [("org_1", "whs_2", 1), ("org_1", "whs_1", left)][: 1 + left]
        assert len(await rows.due(tx, NOW + 40, 9)) == 2


async def test_only_what_nobody_attempts_is_given_up_by_time(base: Foundation) -> None:
    async with base.database.write() as tx:
        await prepare(tx, ["whs_on", "whs_off"], 2)
        for subscription_id in ("whs_on", "whs_off"):
            await rows.make_out(tx, "evt_0", subscription_id, NOW, NOW + 60)
        await rows.make_out(tx, "evt_1", "whs_off", NOW, NOW + 600)
        off = await rows.subscription(tx, "whs_off", lock=True)
        assert off is not None
        off.enabled = False
    async with base.database.write() as tx:
        assert await rows.give_up(tx, NOW + 59) == 0
        assert await rows.give_up(tx, NOW + 60) == 1
    async with base.database.read() as tx:
        found = [(each.event_id, each.state) for each in await rows.list_deliveries(tx, "whs_off", "", 9)]
        assert found == [("evt_1", "pending"), ("evt_0", "failed")]
        assert [each.event_id for each in await rows.list_deliveries(tx, "whs_off", "evt_1", 9)] == ["evt_0"]
        assert await rows.due(tx, NOW + 60, 9) == [("org_1", "whs_on", 1)]
        assert await rows.count_subscriptions(tx, "sbp_1") == 2
