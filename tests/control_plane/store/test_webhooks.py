"""Queries on events; what is made of them is tested in tests/control_plane/webhooks."""

from sqlalchemy import func, select

from control_plane.foundation import Foundation
from control_plane.store import webhook_deliveries, webhooks
from control_plane.store.models import Profile, WebhookDelivery, WebhookEvent, WebhookSubscription
from tests.support.control_plane import NOW


def event(number: int, state: str = "pending", received_at: int = int(NOW)) -> WebhookEvent:
    row = WebhookEvent(id=f"evt_{number}", target_key="t", external_id=f"ext_{number}", organization_id="org_1")
    row.connection_id, row.type, row.payload, row.received_at, row.state = "con_1", "message", "{}", received_at, state
    return row


async def test_events_that_wait_are_taken_by_one(base: Foundation) -> None:
    async with base.database.write() as tx:
        assert not await webhooks.has_pending(tx)
        await tx.add_all([event(number) for number in range(4)])
        await tx.add(event(9, "processed"))
    async with base.database.write() as tx:
        assert await webhooks.has_pending(tx)
        taken = [each.id for each in await webhooks.take_pending(tx, 3)]
        assert taken == ["evt_0", "evt_1", "evt_2"]
        if base.database.is_postgresql:
            async with base.database.write() as other:
                assert [each.id for each in await webhooks.take_pending(other, 3)] == ["evt_3"]


async def test_old_events_go_with_their_deliveries_but_none_that_waits(base: Foundation) -> None:
    old = int(NOW) - 10
    async with base.database.write() as tx:
        await tx.add(Profile(id="sbp_1", organization_id="org_1", display_name=None, created_at=1))
        row = WebhookSubscription(id="whs_1", organization_id="org_1", profile_id="sbp_1", url="https://x", secret=b"")
        row.event_types, row.enabled, row.created_at, row.updated_at = "[]", True, 1, 1
        await tx.add(row)
        await tx.add_all(
            [event(1, "processed", old), event(2, "pending", old), event(3, "processed"), event(4, "processed", old)]
        )
        for number in (1, 3):
            await webhook_deliveries.make_out(tx, f"evt_{number}", "whs_1", NOW, NOW)
    async with base.database.write() as tx:
        assert await webhooks.forget_events(tx, NOW, 1) == 1
        assert await webhooks.forget_events(tx, NOW, 10) == 1
    async with base.database.read() as tx:
        assert await tx.all(select(WebhookEvent.id).order_by(WebhookEvent.id)) == ["evt_2", "evt_3"]
        assert await tx.first(select(func.count()).select_from(WebhookDelivery)) == 1
