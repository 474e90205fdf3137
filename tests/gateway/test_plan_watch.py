"""The watch: in order, resumed, and never believed when it cannot be read."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.core.credential_cache import RevocationsFull
from gateway.freshness import State
from gateway.plan_store import Contact
from gateway.revocations import Revocation
from tests.gateway.test_plan_bodies import document
from tests.support.control_stage import ControlStage, control_stage
from tests.support.fake_control import Answer, answer, event, hang_up, refusal, stream
from tests.support.until import until

WATCH = "/internal/plans/watch"
LATER = 2_000_000_000


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[ControlStage]:
    async with control_stage(tmp_path) as stage:
        stage.held = {"sbx_1"}
        yield stage


async def follow(stage: ControlStage) -> None:
    stage.tasks.spawn(stage.watcher.run(), name="watch")
    await until(lambda: stage.freshness.state is State.FRESH)


async def test_a_snapshot_and_what_follows(stage: ControlStage) -> None:
    stage.control.plans["sbx_1"] = document()
    stage.control.revocations = [{"kind": "jti", "id": "tok_1", "until": LATER}]
    await follow(stage)
    assert stage.revoked == [("jti", "tok_1", LATER)]
    await until(lambda: stage.revision("sbx_1") == 1)
    await stage.control.publish(document(revision=2))
    await stage.control.revoke("sid", "lin_1", LATER)
    await stage.control.tell("invalidation", {"kind": "connection", "id": "con_1"})
    await stage.control.tell("invalidation", {"kind": "all"})
    await stage.control.tell("of_another_version", {})
    await until(lambda: stage.invalidated[1:] == [("connection", "con_1"), ("all", None)])
    await until(lambda: stage.revision("sbx_1") == 2)
    assert stage.revoked[1:] == [("sid", "lin_1", LATER)]
    await stage.control.remove("sbx_1")
    await until(lambda: stage.revision("sbx_1") is None)
    assert stage.metric("sallyport_control_watch_events_total") == 6
    assert stage.metric("sallyport_control_watch_connected") == 1


async def test_an_order_says_whose_connection_is_meant_and_so_does_the_disk(stage: ControlStage) -> None:
    order = {"kind": "connection", "id": "con_1"}
    stage.control.revocations = [{**order, "until": LATER, "organizationId": "org_one"}]
    await follow(stage)
    assert (stage.revoked, stage.organizations) == ([("connection", "con_1", LATER)], ["org_one", None])
    # The same of another organization is another order, and so is one that names none.
    await stage.control.tell("revocation", {**order, "until": LATER, "organizationId": "org_two"})
    await stage.control.tell("revocation", {**order, "until": LATER})
    await stage.control.tell("invalidation", {**order, "organizationId": "org_two"})
    await until(lambda: len(stage.organizations) == 5)
    assert stage.organizations[2:] == ["org_two", None, "org_two"]
    await stage.store.flush()
    contact = stage.store.open().contact
    assert contact is not None
    assert [each.organization_id for each in contact.revocations] == ["org_one", "org_two", None]


async def test_a_broken_stream_goes_on_where_it_was(stage: ControlStage) -> None:
    await follow(stage)
    await stage.control.revoke("jti", "tok_1", LATER)
    await until(lambda: len(stage.revoked) == 1)
    assert stage.control.cut_streams() == 1
    await stage.control.revoke("jti", "tok_2", LATER)
    await until(lambda: len(stage.revoked) == 2)
    stage.control.cut_streams()
    await until(lambda: len(stage.control.resumed) == 3)
    assert stage.control.resumed == [None, "1", "2"]
    assert [name for _, name, _ in stage.revoked] == ["tok_1", "tok_2"]


async def test_a_place_that_is_forgotten_is_answered_by_a_snapshot(stage: ControlStage) -> None:
    stage.control.plans["sbx_1"] = document()
    await follow(stage)
    stage.control.oldest_event = 100
    await stage.control.publish(document(revision=2))
    stage.control.cut_streams()
    await until(lambda: stage.revision("sbx_1") == 2)
    stage.control.plans = {}
    stage.control.cut_streams()
    await until(lambda: stage.revision("sbx_1") is None)


@pytest.mark.parametrize(
    "garbage",
    [b"data: x\0\n\n", event("plan", {"sandboxId": 1}), event("revocation", {"kind": "planet"}), b"\xff\n" * 9],
)
async def test_what_cannot_be_read_is_asked_for_whole(stage: ControlStage, garbage: bytes) -> None:
    await follow(stage)
    await stage.control.revoke("jti", "tok_1", LATER)
    await until(lambda: len(stage.revoked) == 1)
    stage.control.misbehave(WATCH, stream(event("invalidation", {"kind": "all"}, 2), garbage))
    stage.control.cut_streams()
    await until(lambda: len(stage.control.resumed) == 2)
    # The second try, behind the garbage: not resumed, unless what came was only meaningless.
    assert stage.control.resumed[1] == (None if garbage[:1] != b"\xff" else "2")
    # By the event or, where it went down with the garbage, by the snapshot that makes up for it.
    await until(lambda: stage.invalidated[1:] == [("all", None)])
    assert len(stage.revoked) == 1  # a snapshot repeats nothing


@pytest.mark.parametrize("wrong", [refusal(503, "database_unavailable"), hang_up, answer(404, b"nginx"), answer(302)])
async def test_a_control_plane_that_cannot_answer_is_asked_again_from_the_same_place(
    stage: ControlStage, wrong: Answer
) -> None:
    await follow(stage)
    await stage.control.revoke("jti", "tok_1", LATER)
    await until(lambda: len(stage.revoked) == 1)
    stage.control.misbehave(WATCH, wrong, wrong)
    stage.control.cut_streams()
    await until(lambda: len(stage.control.resumed) == 2)
    assert stage.control.resumed[1] == "1"


async def test_pauses_grow_and_are_random(stage: ControlStage) -> None:
    stage.control.misbehave(WATCH, *[refusal(503, "database_unavailable")] * 8)
    await follow(stage)
    assert len(stage.pauses) == 8
    assert len(set(stage.pauses)) == 8
    assert all(pause <= min(30, 2**attempt) for attempt, pause in enumerate(stage.pauses))


async def test_nothing_is_fresh_before_a_snapshot(stage: ControlStage) -> None:
    stage.control.misbehave(WATCH, stream(b": heartbeat\n\n", event("invalidation", {"kind": "all"}, 1)))
    stage.tasks.spawn(stage.watcher.run(), name="watch")
    await until(lambda: stage.invalidated != [])
    assert stage.freshness.state is State.UNKNOWN
    await until(lambda: stage.freshness.state is State.FRESH)


async def test_stale_while_it_is_away(stage: ControlStage) -> None:
    await follow(stage)
    async with stage.control.away():
        await until(lambda: stage.freshness.state is State.STALE)
        assert stage.metric("sallyport_control_watch_connected") == 0
    await until(lambda: stage.freshness.state is State.FRESH)


async def test_revocations_are_kept_and_taken_up_again(stage: ControlStage) -> None:
    await follow(stage)
    await stage.control.revoke("sandbox", "sbx_9", LATER)
    await stage.control.revoke("jti", "over", 1)
    await until(lambda: len(stage.revoked) == 1)
    await stage.store.flush()
    contact = stage.store.open().contact
    assert contact is not None
    assert contact.revocations == (Revocation("sandbox", "sbx_9", LATER),)
    stage.watcher.restore(Contact(0, (Revocation("jti", "tok_1", LATER), Revocation("jti", "over", 1.0))))
    assert stage.revoked[1:] == [("jti", "tok_1", LATER)]


async def test_a_longer_revocation_is_applied_a_shorter_is_not(stage: ControlStage) -> None:
    await follow(stage)
    for until_then in (LATER, LATER - 10, LATER + 10):
        await stage.control.revoke("jti", "tok_1", until_then)
    await until(lambda: len(stage.revoked) == 2)
    assert [until_then for _, _, until_then in stage.revoked] == [LATER, LATER + 10]


async def test_a_bug_of_ours_does_not_leave_the_watch_dead(
    stage: ControlStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await follow(stage)
    revoke = stage.watcher._revoke
    calls: list[str] = []

    def fail_once(kind: str, revoked_id: str, until_then: float, organization_id: str | None) -> int:
        calls.append(revoked_id)
        if len(calls) == 1:
            raise RuntimeError("a bug")
        return revoke(kind, revoked_id, until_then, organization_id)

    monkeypatch.setattr(stage.watcher, "_revoke", fail_once)
    await stage.control.revoke("jti", "tok_1", LATER)
    await until(lambda: len(stage.revoked) == 1)
    assert stage.control.resumed == [None, None]


async def test_what_cannot_be_noted_ends_the_stream_and_ages(
    stage: ControlStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await follow(stage)

    def full(kind: str, revoked_id: str, until_then: float, organization_id: str | None) -> int:
        raise RevocationsFull("full")

    monkeypatch.setattr(stage.watcher, "_revoke", full)
    await stage.control.revoke("connection", "con_1", LATER)
    await until(lambda: len(stage.control.resumed) > 2)
    assert stage.freshness.state is State.STALE
    assert set(stage.control.resumed) == {None}
