"""Plan bodies: only what is announced comes into force, once, and for those who need it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway import plan_bodies
from gateway.core.plan_index import Announced
from gateway.plan_bodies import UNHELD_ATTEMPTS, UNHELD_SECONDS
from sallyport.plan.codec import parse_plan, seal
from tests.support.control_stage import ControlStage, control_stage
from tests.support.fake_control import answer, hang, hang_up, refusal
from tests.support.gateway_plans import route
from tests.support.plan_documents import plan_document
from tests.support.until import until


def document(sandbox_id: str = "sbx_1", revision: int = 1, host: str = "api.test") -> bytes:
    return seal(plan_document([route("r", [host], "con_1")], revision=revision) | {"sandboxId": sandbox_id})


def announced(body: bytes) -> Announced:
    plan = parse_plan(body)
    return Announced(plan.revision, plan.digest)


def path(sandbox_id: str = "sbx_1") -> str:
    return f"/internal/sandboxes/{sandbox_id}/plan"


@pytest.fixture
async def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ControlStage]:
    monkeypatch.setattr(plan_bodies, "ANNOUNCEMENT_SECONDS", 0.05)
    async with control_stage(tmp_path) as stage:
        yield stage


def know(stage: ControlStage, *bodies: bytes) -> None:
    """Let the control plane have plans, and announce them as a snapshot does."""
    for body in bodies:
        stage.control.plans[parse_plan(body).sandbox_id] = body
    stage.bodies.replace({parse_plan(body).sandbox_id: announced(body) for body in bodies})


async def want(stage: ControlStage, sandbox_id: str = "sbx_1") -> None:
    wanted = stage.plans.want(sandbox_id)
    assert wanted is not None
    await wanted


async def test_nothing_is_fetched_that_nobody_needs(stage: ControlStage) -> None:
    know(stage, document(), document("sbx_2"))
    await want(stage)
    assert (stage.revision("sbx_1"), stage.revision("sbx_2")) == (1, None)
    assert stage.control.count(path("sbx_2")) == 0


async def test_what_is_held_is_fetched_when_it_is_announced(stage: ControlStage) -> None:
    stage.held = {"sbx_1"}
    know(stage, document())
    await until(lambda: stage.revision("sbx_1") == 1)
    stage.control.plans["sbx_1"] = document(revision=2)
    stage.bodies.announce("sbx_1", announced(document(revision=2)))
    await until(lambda: stage.revision("sbx_1") == 2)
    assert stage.metric('sallyport_plan_apply_total{result="applied"}') == 2


async def test_a_tunnel_makes_its_plan_be_fetched(stage: ControlStage) -> None:
    know(stage, document())
    stage.held = {"sbx_1"}
    stage.bodies.held("sbx_1")
    await until(lambda: stage.revision("sbx_1") == 1)
    stage.bodies.held("sbx_1")
    assert stage.control.count(path()) == 1


async def test_all_who_wait_share_one_fetch(stage: ControlStage) -> None:
    know(stage, document())
    waits = [stage.plans.want("sbx_1") for _ in range(10)]
    for wait in waits:
        assert wait is not None
        await wait
    assert stage.control.count(path()) == 1


async def test_a_plan_asked_for_before_the_snapshot_comes_with_it(stage: ControlStage) -> None:
    wanted = stage.plans.want("sbx_1")
    assert wanted is not None
    know(stage, document())
    await wanted
    assert stage.revision("sbx_1") == 1


async def test_a_sandbox_that_is_not_announced_is_not_waited_for_long(stage: ControlStage) -> None:
    know(stage)
    await want(stage)
    assert stage.revision("sbx_1") is None
    assert stage.control.count(path()) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        document(revision=2),  # newer than announced: its announcement is on its way, or it is a lie
        document(host="other.test"),  # the same revision, another content
        document("sbx_2"),
    ],
)
async def test_another_plan_than_the_announced_one_is_not_applied(stage: ControlStage, wrong: bytes) -> None:
    know(stage, document())
    stage.control.plans["sbx_1"] = wrong
    await want(stage)
    assert stage.revision("sbx_1") is None
    assert stage.metric('sallyport_plan_fetches_total{result="mismatch"}') == UNHELD_ATTEMPTS
    stage.control.plans["sbx_1"] = document()
    await want(stage)
    assert stage.revision("sbx_1") == 1


async def test_an_older_plan_never_replaces_a_newer_one(stage: ControlStage) -> None:
    know(stage, document(revision=2))
    await want(stage)
    know(stage, document(revision=1))  # a control plane that was restored from a backup
    await until(lambda: stage.metric('sallyport_plan_apply_total{result="conflict"}') == 1)
    assert stage.revision("sbx_1") == 2


async def test_an_invalid_plan_keeps_the_old_one_and_is_not_asked_for_again(stage: ControlStage) -> None:
    know(stage, document())
    await want(stage)
    stage.control.plans["sbx_1"] = b'{"schemaVersion": 1}'
    stage.bodies.announce("sbx_1", Announced(2, "sha256:x"))
    await until(lambda: stage.metric('sallyport_plan_apply_total{result="invalid"}') == 1)
    assert stage.revision("sbx_1") == 1
    assert stage.control.count(path()) == 2


async def test_a_passing_failure_is_tried_again(stage: ControlStage) -> None:
    know(stage, document())
    stage.control.misbehave(path(), refusal(503, "database_unavailable"), hang_up, hang_up)
    await want(stage)
    assert stage.revision("sbx_1") == 1
    assert 0 < len(stage.pauses) <= 2


async def test_how_long_a_plan_was_lacking_is_measured_to_its_coming_into_force(stage: ControlStage) -> None:
    know(stage, document())
    stage.control.misbehave(path(), hang)
    wanted = stage.plans.want("sbx_1")
    assert wanted is not None
    await until(lambda: stage.control.count(path()) == 1)
    assert stage.bodies.lacking_seconds == 0
    stage.now += 40
    assert stage.bodies.lacking_seconds == 40
    await wanted
    await until(lambda: stage.revision("sbx_1") == 1)
    assert stage.metric("sallyport_plan_propagation_seconds_count") == 1
    assert stage.metric("sallyport_plan_propagation_seconds_sum") == 40
    assert stage.bodies.lacking_seconds == 0
    await want(stage)  # what is there is not lacking
    assert stage.metric("sallyport_plan_propagation_seconds_count") == 1


async def test_a_plan_that_cannot_be_put_in_force_is_not_lacking_for_ever(stage: ControlStage) -> None:
    know(stage, document())
    stage.control.plans["sbx_1"] = b"{}"
    await want(stage)
    stage.now += 40
    assert stage.bodies.lacking_seconds == 0
    assert stage.metric("sallyport_plan_propagation_seconds_count") == 0


async def test_a_sandbox_nobody_holds_is_not_tried_for_ever(stage: ControlStage) -> None:
    know(stage, document())
    stage.control.misbehave(path(), *[refusal(503, "database_unavailable")] * 10)
    await want(stage)
    assert stage.control.count(path()) == UNHELD_ATTEMPTS


async def test_a_plan_that_is_gone_is_not_asked_for_again(stage: ControlStage) -> None:
    know(stage, document())
    stage.held = {"sbx_1"}
    del stage.control.plans["sbx_1"]
    await want(stage)
    assert stage.control.count(path()) == 1
    assert stage.metric('sallyport_plan_fetches_total{result="permanent"}') == 1


async def test_what_was_announced_while_it_was_fetched_is_fetched_next(stage: ControlStage) -> None:
    know(stage, document())
    stage.control.misbehave(path(), answer(200, document()))
    wanted = stage.plans.want("sbx_1")
    assert wanted is not None
    stage.control.plans["sbx_1"] = document(revision=2)
    stage.bodies.announce("sbx_1", announced(document(revision=2)))
    await wanted
    assert stage.revision("sbx_1") == 2


async def test_a_plan_removed_while_it_is_fetched_stays_away(stage: ControlStage) -> None:
    know(stage, document())
    wanted = stage.plans.want("sbx_1")
    assert wanted is not None
    stage.bodies.remove("sbx_1")
    await wanted
    assert stage.revision("sbx_1") is None


async def test_a_snapshot_takes_away_what_it_does_not_name(stage: ControlStage) -> None:
    know(stage, document(), document("sbx_2"))
    await want(stage)
    await want(stage, "sbx_2")
    know(stage, document("sbx_2"))
    assert (stage.revision("sbx_1"), stage.revision("sbx_2")) == (None, 1)
    await stage.store.flush()
    assert len(stage.store.open().plans) == 1


async def test_what_hangs_holds_up_nobody_else(stage: ControlStage) -> None:
    know(stage, document(), document("sbx_2"))
    stage.control.misbehave(path(), hang)
    stage.plans.want("sbx_1")
    await want(stage, "sbx_2")
    assert stage.revision("sbx_2") == 1


async def test_a_plan_that_takes_something_away_is_put_in_force_before_those_that_came_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_bodies, "CONCURRENT_FETCHES", 1)
    names = ["sbx_1", "sbx_2", "sbx_3"]
    async with control_stage(tmp_path) as stage:
        know(stage, *(document(name) for name in names))
        for name in names:
            await want(stage, name)
        applied: list[str] = []
        stage.plans.subscribe(applied.append)
        for body in (document("sbx_1", 2), document("sbx_2", 2), document("sbx_3", 2, "else.test")):
            sandbox_id = parse_plan(body).sandbox_id
            stage.control.plans[sandbox_id] = body
            stage.bodies.announce(sandbox_id, announced(body))
        await until(lambda: len(applied) == 3)
        assert applied == ["sbx_3", "sbx_1", "sbx_2"]


async def test_a_replacement_that_hangs_holds_up_nobody_else_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_bodies, "CONCURRENT_FETCHES", 1)
    monkeypatch.setattr(plan_bodies, "OTHERS_SECONDS", 0.05)
    async with control_stage(tmp_path) as stage:
        know(stage, document())
        await want(stage)
        stage.control.misbehave(path(), hang)
        know(stage, document(revision=2), document("sbx_2"))
        await until(lambda: stage.control.count(path()) == 2)
        await want(stage, "sbx_2")
        assert (stage.revision("sbx_1"), stage.revision("sbx_2")) == (1, 1)


# ---- what is kept, and what is dropped


async def test_plans_come_back_from_the_disk(stage: ControlStage) -> None:
    know(stage, document(), document("sbx_2"))
    await want(stage)
    await stage.store.flush()
    kept = stage.store.open().plans
    stage.plans.remove("sbx_1")
    stage.bodies.restore((*kept, b"no plan"))
    assert stage.revision("sbx_1") == 1


async def test_plans_of_sandboxes_nobody_holds_are_dropped_after_a_while(stage: ControlStage) -> None:
    know(stage, document(), document("sbx_2"))
    await want(stage)
    await want(stage, "sbx_2")
    stage.held = {"sbx_2"}
    stage.now += UNHELD_SECONDS - 1
    stage.bodies.sweep()
    assert len(stage.plans) == 2
    stage.now += 1
    stage.bodies.sweep()
    assert (stage.revision("sbx_1"), stage.revision("sbx_2")) == (None, 1)
    await want(stage)
    assert stage.revision("sbx_1") == 1


async def test_the_longest_unheld_plan_makes_room(stage: ControlStage) -> None:
    sandboxes = ["sbx_1", "sbx_2", "sbx_3", "sbx_4"]
    know(stage, *(document(sandbox_id) for sandbox_id in sandboxes))
    stage.held = {"sbx_1"}
    for sandbox_id in sandboxes:  # there is room for three
        await want(stage, sandbox_id)
    assert [stage.revision(sandbox_id) for sandbox_id in sandboxes] == [1, None, 1, 1]


async def test_where_all_are_held_there_is_no_room(stage: ControlStage) -> None:
    sandboxes = ["sbx_1", "sbx_2", "sbx_3", "sbx_4"]
    know(stage, *(document(sandbox_id) for sandbox_id in sandboxes))
    stage.held = set(sandboxes)
    for sandbox_id in sandboxes:
        await want(stage, sandbox_id)
    assert len(stage.plans) == 3
    assert stage.metric('sallyport_plan_apply_total{result="refused"}') == 1
