"""From what is written to what a subscriber has heard: once made out, told until it says 2xx."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from control_plane.foundation import Foundation
from control_plane.outbound.delivery import Outcome
from control_plane.outbound.retry import pause_seconds
from control_plane.store import webhook_deliveries as rows
from control_plane.store.database import DatabaseUnavailable
from control_plane.store.models import Sandbox, WebhookDelivery, WebhookSubscription
from control_plane.webhooks import outbox
from control_plane.webhooks.outbox import PACE, note
from tests.support.control_plane import CONNECTION, NOW, ORGANIZATION
from tests.support.subscriber import Subscriber
from tests.support.until import until
from tests.support.webhook_stage import (
    DAY,
    PROFILE,
    WebhookStage,
    bind,
    connect,
    event_body,
    run_sandbox,
    webhook_stage,
)

SQLITE = pytest.mark.parametrize("url", ["sqlite"], indirect=True)


def states(deliveries: list[WebhookDelivery]) -> list[tuple[str, int]]:
    return [(each.state, each.attempts) for each in deliveries]


async def test_a_subscriber_is_told_and_knows_who_says_it(hooks: WebhookStage) -> None:
    key = await hooks.prepare()
    _, secret = await hooks.subscribe()
    await hooks.send(key, event_body())
    await hooks.work()
    [event], [told] = await hooks.events(), hooks.subscriber.told
    assert told.is_signed_with(secret)
    assert (told.id, told.path) == (event.id, "/hook")
    assert told.document == {
        "type": "message",
        "timestamp": "2027-01-15T08:00:00Z",
        "data": {
            "eventId": event.id,
            "organizationId": ORGANIZATION,
            "sandboxProfileId": PROFILE,
            "targetKey": "chat-default",
            "connectionId": CONNECTION,
            "payload": json.loads(event_body()),
        },
    }
    assert event.state == "processed"
    assert states(await hooks.deliveries()) == [("delivered", 1)]
    await hooks.work()
    assert hooks.subscriber.ids == [event.id]


async def test_a_redelivery_of_what_was_not_processed_loses_nothing(hooks: WebhookStage) -> None:
    key = await hooks.prepare()
    await hooks.subscribe()
    assert await hooks.send(key, event_body()) == "accepted"
    # Whoever took it in has died; the provider sends again, to another replica.
    async with webhook_stage(hooks.base, hooks.subscriber, hooks.definition, "replica-2") as other:
        assert await other.send(key, event_body()) == "duplicate"
        await other.work()
    assert len(hooks.subscriber.told) == 1


# --- who is told ------------------------------------------------------------------------------------------------------


async def test_profiles_whose_current_bindings_use_the_connection(hooks: WebhookStage) -> None:
    key = await hooks.prepare()
    await bind(hooks.base, "sbp_unbound", bound=False)
    await bind(hooks.base, "sbp_other", "con_other")
    await bind(hooks.base, "sbp_older")
    await bind(hooks.base, "sbp_older", version=2, bound=False)
    await bind(hooks.base, "sbp_runs")
    await bind(hooks.base, "sbp_runs", version=2, bound=False)
    await run_sandbox(hooks.base, "sbx_runs", 1, "sbp_runs")
    await bind(hooks.base, "sbp_deleted")
    await bind(hooks.base, "sbp_deleted", version=2, bound=False)
    await run_sandbox(hooks.base, "sbx_deleted", 1, "sbp_deleted")
    await bind(hooks.base, "sbp_foreign", organization_id="org_two")
    async with hooks.base.database.write() as tx:
        row = await tx.get(Sandbox, "sbx_deleted")
        assert row is not None
        row.deleted_at = 1
    for name in ("one", "unbound", "other", "older", "runs", "deleted", "foreign"):
        await hooks.subscribe(f"/{name}", profile_id=f"sbp_{name}")
    await hooks.send(key, event_body())
    await hooks.work()
    assert sorted(told.path for told in hooks.subscriber.told) == ["/one", "/runs"]


@SQLITE
async def test_types_and_disabled_subscriptions(hooks: WebhookStage) -> None:
    key = await hooks.prepare()
    await hooks.subscribe("/all")
    await hooks.subscribe("/messages", "message", "reaction")
    await hooks.subscribe("/reactions", "reaction")
    off, _ = await hooks.subscribe("/off")
    await change(hooks, off, enabled=False)
    await hooks.send(key, event_body())
    await hooks.work()
    assert sorted(told.path for told in hooks.subscriber.told) == ["/all", "/messages"]


async def change(stage: WebhookStage, subscription_id: str, *, enabled: bool) -> None:
    await stage.subscriptions.change(
        PROFILE, subscription_id, url=None, event_types=None, enabled=enabled, rotate_secret=False, now=stage.now
    )


# --- again and again --------------------------------------------------------------------------------------------------


async def test_it_is_told_again_with_the_same_id_and_bytes(hooks: WebhookStage) -> None:
    key = await hooks.prepare()
    _, secret = await hooks.subscribe()
    hooks.subscriber.answers += [(500, {}), (302, {"Location": "/elsewhere"}), (429, {"Retry-After": "900"})]
    await hooks.send(key, event_body())
    pauses = []
    for _ in range(4):
        before = len(hooks.subscriber.told)
        await hooks.work()
        await hooks.work()  # not before its time
        assert len(hooks.subscriber.told) == before + 1
        [row] = await hooks.deliveries()
        pauses.append(row.not_before - int(hooks.now))
        hooks.now = float(row.not_before)
    assert len({told.id for told in hooks.subscriber.told}) == 1
    assert len({told.body for told in hooks.subscriber.told}) == 1
    assert {told.path for told in hooks.subscriber.told} == {"/hook"}
    assert all(told.is_signed_with(secret) for told in hooks.subscriber.told)
    assert len({told.timestamp for told in hooks.subscriber.told}) == 4
    assert (3 <= pauses[0] <= 5, 5 <= pauses[1] <= 10, pauses[2]) == (True, True, 900)
    assert states(await hooks.deliveries()) == [("delivered", 4)]


@SQLITE
@pytest.mark.full
async def test_who_never_answers_is_given_up_after_a_day(hooks: WebhookStage) -> None:
    key = await hooks.prepare()
    await hooks.subscribe()
    hooks.subscriber.always["/hook"] = 503
    await hooks.send(key, event_body())
    while True:
        await hooks.work()
        [row] = await hooks.deliveries()
        if row.state != "pending":
            break
        hooks.now = float(row.not_before)
    assert row.state == "failed"
    assert DAY - 3600 <= hooks.now - NOW <= DAY
    assert (row.last_status, row.last_error) == (503, "the subscriber answered 503")
    assert 25 <= row.attempts == len(hooks.subscriber.told) <= 60


@SQLITE
async def test_an_outage_of_ours_costs_no_event_its_attempt(hooks: WebhookStage) -> None:
    key = await hooks.prepare()
    await hooks.subscribe()
    hooks.subscriber.answers.append((500, {}))
    await hooks.send(key, event_body())
    await hooks.work()
    hooks.now += 10 * DAY
    await hooks.work()
    assert states(await hooks.deliveries()) == [("delivered", 2)]


async def test_gone_is_for_good_until_somebody_says_otherwise(hooks: WebhookStage) -> None:
    key = await hooks.prepare()
    subscription_id, _ = await hooks.subscribe()
    hooks.subscriber.answers += [(500, {}), (410, {})]
    await hooks.send(key, event_body("ext_1"))
    await hooks.work()
    await hooks.send(key, event_body("ext_2"))
    await hooks.work()
    assert sorted(states(await hooks.deliveries())) == [("failed", 1), ("pending", 1)]
    async with hooks.base.database.read() as tx:
        row = await tx.get(WebhookSubscription, subscription_id)
    assert row is not None
    assert not row.enabled
    hooks.now += 60
    await hooks.send(key, event_body("ext_3"))
    await hooks.work()
    assert len(hooks.subscriber.told) == 2
    # What waited goes out when it is enabled again; what came meanwhile was for nobody.
    await change(hooks, subscription_id, enabled=True)
    await hooks.work()
    assert sorted(states(await hooks.deliveries())) == [("delivered", 2), ("failed", 1)]


# --- replicas, leases, failures ---------------------------------------------------------------------------------------


async def test_replicas_share_and_nobody_is_told_twice(hooks: WebhookStage) -> None:
    key = await hooks.prepare()
    await hooks.subscribe()
    events = 6
    for number in range(events):
        await hooks.send(key, event_body(f"ext_{number}"))
    async with webhook_stage(hooks.base, hooks.subscriber, hooks.definition, "replica-2") as other:
        while len(hooks.subscriber.told) < events:
            async with asyncio.TaskGroup() as group:
                group.create_task(hooks.work())
                group.create_task(other.work())
    assert sorted(hooks.subscriber.ids) == sorted({event.id for event in await hooks.events()})
    assert states(await hooks.deliveries()) == [("delivered", 1)] * events


async def test_what_a_dead_replica_held_is_told_when_its_lease_ends(hooks: WebhookStage) -> None:
    key = await hooks.prepare()
    subscription_id, _ = await hooks.subscribe()
    await hooks.send(key, event_body())
    await hooks.outbox._make_out()
    async with hooks.base.database.write() as tx:
        await rows.claim(tx, subscription_id, "dead", hooks.now, hooks.now + 35, 1)
    await hooks.work()
    assert hooks.subscriber.told == []
    hooks.now += 35
    await hooks.work()
    assert states(await hooks.deliveries()) == [("delivered", 2)]


async def test_a_late_result_of_a_lost_lease_changes_nothing(hooks: WebhookStage) -> None:
    key = await hooks.prepare()
    subscription_id, _ = await hooks.subscribe()
    await hooks.send(key, event_body())
    hooks.subscriber.answers += [(500, {}), (204, {})]
    with hooks.subscriber.held():
        await hooks.outbox.work()
        await until(lambda: len(hooks.subscriber.told) == 1)
        # It hangs for longer than its lease, and another replica takes over.
        async with hooks.base.database.write() as tx:
            [row] = await rows.claim(tx, subscription_id, "replica-2", NOW + 99, NOW + 200, 1)
            assert row.attempts == 2
    await until(lambda: hooks.outbox.is_idle)
    [row] = await hooks.deliveries()
    assert (row.state, row.owner, row.attempts, row.last_status) == ("pending", "replica-2", 2, None)


async def test_a_subscriber_that_hangs_keeps_no_other_waiting(hooks: WebhookStage) -> None:
    key = await hooks.prepare()
    await hooks.subscribe("/one")
    for number in range(6):
        await hooks.send(key, event_body(f"ext_{number}"))
    with hooks.subscriber.held():
        await hooks.outbox.work()
        await until(lambda: len(hooks.subscriber.told) == 4)
        await bind(hooks.base, "sbp_two")
        await hooks.subscribe("/two", profile_id="sbp_two")
        await hooks.send(key, event_body("ext_last"))
        await hooks.outbox.work()
        await until(lambda: "/two" in [told.path for told in hooks.subscriber.told])
    await until(lambda: hooks.outbox.is_idle)


@SQLITE
async def test_it_goes_on_by_itself_and_through_an_outage_of_the_database(
    hooks: WebhookStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "LOOK_SECONDS", 0.01)
    key = await hooks.prepare()
    await hooks.subscribe()
    failures = iter([DatabaseUnavailable(), DatabaseUnavailable()])
    real: Callable[..., Any] = rows.due

    async def due(*arguments: Any) -> Any:  # noqa: ANN401  as the real one
        for failure in failures:
            raise failure
        return await real(*arguments)

    monkeypatch.setattr(rows, "due", due)
    running = asyncio.get_running_loop().create_task(hooks.outbox.run())
    await hooks.send(key, event_body())
    hooks.outbox.wake()
    await until(lambda: len(hooks.subscriber.told) == 1)
    await until(lambda: hooks.outbox.is_idle)
    running.cancel()
    await asyncio.wait([running])
    assert states(await hooks.deliveries()) == [("delivered", 1)]


@SQLITE
async def test_a_result_is_written_when_the_database_is_back(
    hooks: WebhookStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "STORE_AGAIN_SECONDS", (0.0, 0.0))
    key = await hooks.prepare()
    await hooks.subscribe()
    await hooks.send(key, event_body())
    failures = iter([DatabaseUnavailable()])
    real: Callable[..., Any] = rows.delivery

    async def delivery(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401  as the real one
        for failure in failures:
            raise failure
        return await real(*arguments, **named)

    monkeypatch.setattr(rows, "delivery", delivery)
    await hooks.work()
    assert states(await hooks.deliveries()) == [("delivered", 1)]


@SQLITE
async def test_what_was_deleted_is_not_told(hooks: WebhookStage) -> None:
    key = await hooks.prepare()
    subscription_id, _ = await hooks.subscribe()
    await hooks.send(key, event_body())
    await hooks.outbox._make_out()
    claims = await hooks.outbox._claim()
    await hooks.subscriptions.remove(PROFILE, subscription_id)
    for claim in claims:
        await hooks.outbox._deliver(claim)
    assert hooks.subscriber.told == []
    assert await hooks.deliveries() == []


async def test_a_secret_that_does_not_open_costs_no_other_its_turn(
    base: Foundation, hooks: WebhookStage, subscriber: Subscriber
) -> None:
    key = await hooks.prepare()
    broken, _ = await hooks.subscribe("/broken")
    await hooks.subscribe("/whole")
    async with base.database.write() as tx:
        row = await tx.get(WebhookSubscription, broken)
        assert row is not None
        row.secret = b"moved here from elsewhere, and not opened by anything"
    await hooks.send(key, event_body())
    await hooks.work()
    assert [told.path for told in subscriber.told] == ["/whole"]


def test_pauses_double_up_to_an_hour() -> None:
    assert [pause_seconds(PACE, attempts, 0.0, 0) for attempts in range(1, 13)] == [
        *(5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560),
        *(3600, 3600),
    ]
    # A day holds as many attempts as docs/webhooks.md says.
    total, attempts = 0, 0
    while total < 86_400:
        attempts += 1
        total += pause_seconds(PACE, attempts, 0.5, 0)
    assert 30 <= attempts <= 45


def test_a_note_of_a_delivery() -> None:
    row = WebhookDelivery(state="pending", attempts=1, owner="me", not_before=0, give_up_at=int(NOW) + 5)
    note(row, Outcome(500, "why"), NOW, 0.0)
    assert (row.state, row.owner, row.not_before, row.last_error) == ("pending", "", int(NOW) + 5, "why")
    note(row, Outcome(500, "why"), NOW + 1, 0.0)
    assert row.state == "failed"
    row.state = "pending"
    note(row, Outcome(204), NOW + 9, 0.0)
    assert (row.state, row.last_status, row.last_error) == ("delivered", 204, None)


@SQLITE
async def test_a_second_connection_of_an_account_is_another_profile_s(hooks: WebhookStage) -> None:
    key = await hooks.prepare()
    await connect(hooks.base, hooks.definition.target_key, "con_zzz")
    await bind(hooks.base, "sbp_two", "con_zzz")
    await hooks.subscribe("/two", profile_id="sbp_two")
    await hooks.send(key, event_body())
    await hooks.work()
    assert hooks.subscriber.told == []
