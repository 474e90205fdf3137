"""From a change that is written to what subscribers have heard: in order, once, and nothing is lost."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from control_client.push_signature import is_signed
from control_plane.feed import changes as feed_changes
from control_plane.feed.tiers import Tier
from control_plane.foundation import Foundation
from control_plane.push import emitter
from control_plane.push.events import CONFIG_CHANGED
from control_plane.store import push as rows
from control_plane.store.database import DatabaseUnavailable
from sallyport.secret import Secret
from tests.support.control_plane import NOW
from tests.support.push_stage import COLLAPSE_AFTER, INSTANCE, PushStage, change, entry, make_instance, push_stage
from tests.support.refusing_port import refusing_port
from tests.support.subscriber import Subscriber
from tests.support.until import until

SQLITE = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
STARTED = "shared_tool_started"


async def test_a_subscriber_hears_of_every_change_in_order(pushes: PushStage) -> None:
    _, secret = await pushes.subscribe()
    await pushes.started("a", "b")
    await change(pushes.base, "shared_tool_stopped", removed=[entry("a")])
    await pushes.work()
    assert pushes.chain() == [(STARTED, 0, 1), (STARTED, 1, 2), ("shared_tool_stopped", 2, 3)]
    assert [each["delta"]["removed"] for each in pushes.documents()] == [[], [], ["a"]]
    for told in pushes.heard():
        assert told.authorization == f"Bearer {secret}"
        assert told.is_signed_with(secret)
        shown = Secret(secret.encode())
        assert is_signed(shown, told.id, told.timestamp, told.signature, told.body, now=NOW)
    assert len(set(pushes.subscriber.ids)) == 3
    await pushes.work()
    assert len(pushes.heard()) == 3


@SQLITE
async def test_what_was_before_a_subscriber_is_not_told(pushes: PushStage) -> None:
    await pushes.started("a", "b")
    await pushes.subscribe()
    await pushes.work()
    assert pushes.heard() == []
    await pushes.started("c")
    await pushes.work()
    assert pushes.chain() == [(STARTED, 2, 3)]


async def test_each_has_a_chain_of_its_own(pushes: PushStage) -> None:
    await make_instance(pushes.base, "inst_2")
    await pushes.subscribe("/standard")
    await pushes.subscribe("/admin", tier=Tier.ADMIN)
    await pushes.subscribe("/stops", "shared_tool_stopped")
    await pushes.subscribe("/other", instance_id="inst_2")
    await pushes.started("root-tool", tier=Tier.ADMIN)
    await pushes.started("a")
    await pushes.started("elsewhere", instance_id="inst_2")
    await change(pushes.base, "shared_tool_stopped", removed=[entry("a")])
    await pushes.work()
    assert pushes.chain("/standard") == [(STARTED, 0, 2), ("shared_tool_stopped", 2, 3)]
    assert pushes.chain("/admin") == [(STARTED, 0, 1), (STARTED, 1, 2), ("shared_tool_stopped", 2, 3)]
    assert pushes.chain("/stops") == [("shared_tool_stopped", 0, 3)]
    assert pushes.chain("/other") == [(STARTED, 0, 1)]
    assert all(b"root-tool" not in each.body for each in pushes.subscriber.told if each.path != "/admin")
    assert {each["instanceId"] for each in pushes.documents("/other")} == {"inst_2"}


# --- again and again --------------------------------------------------------------------------------------------------


async def test_it_is_told_again_and_nothing_overtakes_it(pushes: PushStage) -> None:
    subscriber_id, _ = await pushes.subscribe()
    pushes.subscriber.answers += [(500, {}), (503, {"Retry-After": "20"})]
    await pushes.started("a", "b")
    pauses = []
    for attempts in (1, 2):
        await pushes.work()
        await pushes.work()  # not before its time
        assert len(pushes.heard()) == attempts
        row = await pushes.row(subscriber_id)
        assert (row.attempts, row.lease_until) == (attempts, 0)
        pauses.append(row.not_before - int(pushes.now))
        pushes.now = float(row.not_before)
    assert pauses[1] == 20
    await pushes.work()
    assert pushes.chain() == [(STARTED, 0, 1), (STARTED, 0, 1), (STARTED, 0, 1), (STARTED, 1, 2)]
    assert len({each.id for each in pushes.heard()[:3]}) == 1
    row = await pushes.row(subscriber_id)
    assert (row.attempts, row.not_before, row.last_status, row.last_error) == (0, 0, 204, None)


async def test_after_failures_it_is_told_only_that_something_changed(pushes: PushStage) -> None:
    subscriber_id, _ = await pushes.subscribe()
    pushes.subscriber.always["/push"] = 500
    await pushes.started("a", "b", "c")
    for _ in range(COLLAPSE_AFTER):
        await pushes.work()
        pushes.now = float((await pushes.row(subscriber_id)).not_before)
    await pushes.started("d")
    del pushes.subscriber.always["/push"]
    before = len(pushes.heard())
    await pushes.work()
    assert pushes.chain()[before:] == [(CONFIG_CHANGED, 0, 4)]
    await pushes.started("e")
    await pushes.work()
    assert pushes.chain()[before:] == [(CONFIG_CHANGED, 0, 4), (STARTED, 4, 5)]


@SQLITE
async def test_each_attempt_is_counted_and_a_delivery_with_its_delay(pushes: PushStage) -> None:
    subscriber_id, _ = await pushes.subscribe()
    pushes.subscriber.always["/push"] = 500
    await pushes.started("a", "b")
    for _ in range(COLLAPSE_AFTER):
        await pushes.work()
        pushes.now = float((await pushes.row(subscriber_id)).not_before)
    assert pushes.attempts == [("refused", None)] * COLLAPSE_AFTER
    del pushes.subscriber.always["/push"]
    await pushes.work()
    # One push tells of both; the older one has waited so long.
    assert pushes.attempts[COLLAPSE_AFTER:] == [("delivered", pushes.now - int(NOW))]
    pushes.subscriber.answers.append((410, {}))
    await pushes.started("c")
    await pushes.work()
    assert pushes.attempts[COLLAPSE_AFTER + 1 :] == [("gone", None)]


@SQLITE
async def test_one_that_does_not_answer_is_counted(pushes: PushStage) -> None:
    with refusing_port() as port:
        await pushes.desk.create(INSTANCE, f"https://127.0.0.1:{port}/push", Tier.STANDARD, (), pushes.now)
        await pushes.started("a")
        await pushes.work()
    assert pushes.attempts == [("unanswered", None)]


@SQLITE
async def test_what_is_kept_no_more_is_told_without_a_delta(pushes: PushStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_changes, "KEPT", 2)
    await pushes.subscribe()
    await pushes.started("a", "b", "c", "d")
    await pushes.work()
    assert pushes.chain() == [(CONFIG_CHANGED, 0, 4)]


@SQLITE
async def test_one_that_is_gone_is_told_nothing_until_somebody_says_otherwise(pushes: PushStage) -> None:
    subscriber_id, _ = await pushes.subscribe()
    pushes.subscriber.answers.append((410, {}))
    await pushes.started("a")
    await pushes.work()
    pushes.now += 3_600
    await pushes.work()
    assert len(pushes.heard()) == 1
    assert not (await pushes.row(subscriber_id)).enabled
    await pushes.desk.change(subscriber_id, url=None, events=None, enabled=True, rotate_secret=False, now=pushes.now)
    await pushes.work()
    assert pushes.chain() == [(STARTED, 0, 1), (STARTED, 0, 1)]


# --- replicas, leases, failures ---------------------------------------------------------------------------------------


async def test_replicas_share_and_order_stays(pushes: PushStage) -> None:
    paths = [f"/{number}" for number in range(3)]
    for path in paths:
        await pushes.subscribe(path)
    names = [f"tool-{number}" for number in range(3)]
    await pushes.started(*names)
    async with push_stage(pushes.base, pushes.subscriber, "replica-2") as other:
        while len(pushes.subscriber.told) < len(paths) * len(names):
            async with asyncio.TaskGroup() as group:
                group.create_task(pushes.work())
                group.create_task(other.work())
    for path in paths:
        assert pushes.chain(path) == [(STARTED, number, number + 1) for number in range(len(names))]


async def test_what_a_dead_replica_held_is_told_when_its_lease_ends(pushes: PushStage) -> None:
    subscriber_id, _ = await pushes.subscribe()
    await pushes.started("a")
    async with pushes.base.database.write() as tx:
        assert await rows.claim(tx, subscriber_id, "dead", pushes.now, pushes.now + 20)
    await pushes.work()
    assert pushes.heard() == []
    pushes.now += 20
    await pushes.work()
    assert pushes.chain() == [(STARTED, 0, 1)]


async def test_a_late_result_of_a_lost_lease_changes_nothing(pushes: PushStage) -> None:
    subscriber_id, _ = await pushes.subscribe()
    await pushes.started("a")
    with pushes.subscriber.held():
        await pushes.emitter.work()
        await until(lambda: len(pushes.heard()) == 1)
        # It hangs for longer than its lease, and another replica takes over.
        async with pushes.base.database.write() as tx:
            assert await rows.claim(tx, subscriber_id, "replica-2", NOW + 99, NOW + 200)
    await until(lambda: pushes.emitter.is_idle)
    row = await pushes.row(subscriber_id)
    assert (row.owner, row.lease_until, row.last_status) == ("replica-2", int(NOW) + 200, None)
    async with pushes.base.database.read() as tx:
        assert [each.seen for each in await rows.behind(tx, row, 9)] == [0]


@SQLITE
async def test_one_that_hangs_keeps_no_other_waiting(pushes: PushStage, monkeypatch: pytest.MonkeyPatch) -> None:
    await pushes.subscribe("/hangs")
    await pushes.started("a")
    with pushes.subscriber.held():
        await pushes.emitter.work()
        await until(lambda: len(pushes.heard("/hangs")) == 1)
        await pushes.subscribe("/other")
        await pushes.started("b")
        await pushes.emitter.work()
        await until(lambda: len(pushes.heard("/other")) == 1)
        monkeypatch.setattr(emitter, "MOST_AT_ONCE", 2)
        await pushes.subscribe("/third")
        await pushes.started("c")
        await pushes.emitter.work()  # there is no place
        assert repr(pushes.emitter) == "<Emitter 2 subscribers being told>"
    await until(lambda: pushes.emitter.is_idle)


@SQLITE
async def test_a_turn_ends_and_the_next_goes_on(pushes: PushStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emitter, "PUSHES_A_TURN", 2)
    monkeypatch.setattr(emitter, "CHANGES_A_STEP", 1)
    await pushes.subscribe()
    await pushes.started("x", tier=Tier.ADMIN)
    await pushes.started("a", "b")
    await pushes.work()
    assert pushes.chain() == [(STARTED, 0, 2)]
    await pushes.work()
    assert pushes.chain() == [(STARTED, 0, 2), (STARTED, 2, 3)]


@SQLITE
async def test_it_goes_on_by_itself_and_through_an_outage_of_the_database(
    pushes: PushStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emitter, "LOOK_SECONDS", 0.01)
    await pushes.subscribe()
    failures = iter([DatabaseUnavailable(), DatabaseUnavailable()])
    real: Callable[..., Any] = rows.due

    async def due(*arguments: Any) -> Any:  # noqa: ANN401  as the real one
        for failure in failures:
            raise failure
        return await real(*arguments)

    monkeypatch.setattr(rows, "due", due)
    running = asyncio.get_running_loop().create_task(pushes.emitter.run())
    await pushes.started("a")
    await until(lambda: len(pushes.heard()) == 1)
    await until(lambda: pushes.emitter.is_idle)
    running.cancel()
    await asyncio.wait([running])


@SQLITE
async def test_one_that_ends_lets_go_of_what_is_under_way(pushes: PushStage) -> None:
    subscriber_id, _ = await pushes.subscribe()
    running = asyncio.get_running_loop().create_task(pushes.emitter.run())
    with pushes.subscriber.held():
        await pushes.started("a")
        await until(lambda: len(pushes.heard()) == 1)
        running.cancel()
        await asyncio.wait([running])
    row = await pushes.row(subscriber_id)
    assert (row.owner, row.lease_until) == ("", 0)
    async with push_stage(pushes.base, pushes.subscriber, "replica-2") as other:
        await other.work()
    assert pushes.chain() == [(STARTED, 0, 1), (STARTED, 0, 1)]


@SQLITE
async def test_a_result_that_is_not_written_is_told_again(pushes: PushStage, monkeypatch: pytest.MonkeyPatch) -> None:
    await pushes.subscribe()
    await pushes.started("a")
    failures = iter([DatabaseUnavailable()])
    real: Callable[..., Any] = rows.put_cursor

    async def put_cursor(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401  as the real one
        for failure in failures:
            raise failure
        return await real(*arguments, **named)

    monkeypatch.setattr(rows, "put_cursor", put_cursor)
    await pushes.work()
    pushes.now += 3_600
    await pushes.work()
    # The receiver knows the second by its seq.
    assert pushes.chain() == [(STARTED, 0, 1), (STARTED, 0, 1)]


@SQLITE
async def test_what_was_deleted_or_does_not_open_is_not_told(pushes: PushStage) -> None:
    gone, _ = await pushes.subscribe("/gone")
    broken, _ = await pushes.subscribe("/broken")
    await pushes.subscribe("/whole")
    await pushes.started("a")
    async with pushes.base.database.write() as tx:
        row = await rows.subscriber(tx, broken)
        assert row is not None
        row.secret = b"moved here from elsewhere, and not opened by anything"
    await pushes.desk.remove(gone)
    await pushes.work()
    assert {each.path for each in pushes.subscriber.told} == {"/whole"}


async def test_nothing_is_told_inwards(base: Foundation, subscriber: Subscriber) -> None:
    await make_instance(base)
    async with push_stage(base, subscriber) as stage:
        made = await stage.desk.create(INSTANCE, "https://169.254.169.254/x", Tier.STANDARD, (), NOW)
        await stage.started("a")
        await stage.work()
        row = await stage.row(str(made["pushSubscriberId"]))
    assert (row.attempts, row.last_error) == (1, "the subscriber cannot be reached: address_refused")
