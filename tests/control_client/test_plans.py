"""The watch stream and plan bodies."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_client import plans
from control_client.errors import UNEXPECTED_ANSWER, UNREACHABLE, ControlError
from control_client.plans import (
    AnnouncedPlan,
    Heard,
    Invalidated,
    PlanRemoved,
    Revoked,
    Snapshot,
    fetch_plan,
    open_watch,
    read_event,
)
from tests.support.control_sessions import control_session
from tests.support.fake_control import Answer, answer, event, hang, stream

WATCH = "/internal/plans/watch"
PLAN = {"sandboxId": "sbx_1", "revision": 2, "digest": "sha256:00"}
REVOKED = {"kind": "jti", "id": "tok_1", "until": 1_900_000_000}
OF_ONE = {"kind": "connection", "id": "con_1", "organizationId": "org_1"}


@pytest.mark.parametrize(
    ("name", "document", "found"),
    [
        (
            "snapshot",
            {"plans": [PLAN], "revocations": [REVOKED]},
            Snapshot((AnnouncedPlan("sbx_1", 2, "sha256:00"),), (Revoked("jti", "tok_1", 1_900_000_000),)),
        ),
        ("plan", PLAN, AnnouncedPlan("sbx_1", 2, "sha256:00")),
        ("plan_removed", {"sandboxId": "sbx_1"}, PlanRemoved("sbx_1")),
        ("revocation", REVOKED, Revoked("jti", "tok_1", 1_900_000_000)),
        ("revocation", OF_ONE | {"until": 1_900_000_000}, Revoked("connection", "con_1", 1_900_000_000, "org_1")),
        ("invalidation", OF_ONE, Invalidated("connection", "con_1", "org_1")),
        ("invalidation", OF_ONE | {"organizationId": None}, Invalidated("connection", "con_1")),
        ("invalidation", {"kind": "all"}, Invalidated("all", None)),
        ("invalidation", {"kind": "binding", "id": "bnd_1"}, Invalidated("binding", "bnd_1")),
        ("of_another_version", {"anything": 1}, None),
    ],
)
def test_events_are_read(name: str, document: dict[str, object], found: object) -> None:
    assert read_event(name, json.dumps(document).encode()) == found


@pytest.mark.parametrize(
    ("name", "document"),
    [
        ("snapshot", {"plans": []}),
        ("snapshot", {"plans": [PLAN | {"x": 1}], "revocations": []}),
        ("snapshot", {"plans": {}, "revocations": []}),
        ("plan", PLAN | {"revision": 0}),
        ("plan", PLAN | {"revision": True}),
        ("plan", PLAN | {"more": 1}),
        ("plan", {"sandboxId": "sbx_1", "revision": 1}),
        ("plan_removed", {"sandboxId": ""}),
        ("revocation", REVOKED | {"kind": "planet"}),
        ("revocation", REVOKED | {"until": 1_900_000_000_000}),
        ("revocation", REVOKED | {"organizationId": "org_1"}),
        ("revocation", OF_ONE | {"until": 1_900_000_000, "organizationId": ""}),
        ("invalidation", {"kind": "organization", "id": "org_1", "organizationId": "org_1"}),
        ("invalidation", {"kind": "all", "organizationId": "org_1"}),
        ("invalidation", {"kind": "binding"}),
        ("invalidation", {"kind": "everything"}),
    ],
)
def test_what_is_not_as_agreed_is_refused(name: str, document: dict[str, object]) -> None:
    with pytest.raises(ControlError):
        read_event(name, json.dumps(document).encode())


@given(st.sampled_from(["snapshot", "plan", "revocation", "invalidation"]), st.binary(max_size=60))
def test_property_any_data_is_an_event_or_a_control_error(name: str, data: bytes) -> None:
    with pytest.raises(ControlError):
        read_event(name, data)


async def test_events_come_in_order_with_the_place_to_resume_at(tmp_path: Path) -> None:
    async with control_session(tmp_path) as (fake, session, _):
        pieces = event("plan", PLAN, 3) + b": heartbeat\n\n" + event("plan_removed", {"sandboxId": "sbx_1"}, 4)
        fake.misbehave(WATCH, stream(pieces))
        async with open_watch(session, "2") as watch:
            assert await watch.next() == [
                Heard(AnnouncedPlan("sbx_1", 2, "sha256:00"), "3"),
                Heard(PlanRemoved("sbx_1"), "4"),
            ]
            with pytest.raises(ControlError, match="has ended"):
                await watch.next()


async def test_the_stream_is_asked_for_behind_an_id(tmp_path: Path) -> None:
    async with control_session(tmp_path) as (fake, session, _):
        await fake.tell("plan_removed", {"sandboxId": "sbx_1"})
        await fake.tell("plan_removed", {"sandboxId": "sbx_2"})
        async with open_watch(session, "1") as watch:
            assert await watch.next() == [Heard(PlanRemoved("sbx_2"), "2")]
        async with open_watch(session, None) as watch:
            [heard] = await watch.next()
            assert heard == Heard(Snapshot((), ()), "2")
        assert fake.resumed == ["1", None]


async def test_a_large_snapshot_is_read_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "PARSE_HERE_BYTES", 1000)
    many = {"plans": [PLAN | {"sandboxId": f"sbx_{number}"} for number in range(5000)], "revocations": []}
    async with control_session(tmp_path) as (fake, session, _):
        fake.misbehave(WATCH, stream(event("snapshot", many, 1)))
        async with open_watch(session, None) as watch:
            heard: list[Heard] = []
            while not heard:
                heard = await watch.next()
            assert isinstance(heard[0].event, Snapshot)
            assert len(heard[0].event.plans) == 5000


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (stream(b"data: x\0\n\n"), UNEXPECTED_ANSWER),
        (stream(event("plan", {"x": 1})), UNEXPECTED_ANSWER),
        (stream(event("plan", PLAN | {"digest": "x" * 20_000})), UNEXPECTED_ANSWER),
        (answer(200, b"{}"), UNEXPECTED_ANSWER),
        (answer(204), UNEXPECTED_ANSWER),
        (stream(), UNREACHABLE),
        (answer(302, Location="/"), UNEXPECTED_ANSWER),
    ],
)
async def test_a_stream_that_is_none(tmp_path: Path, wrong: Answer, code: str) -> None:
    async with control_session(tmp_path) as (fake, session, _):
        fake.misbehave(WATCH, wrong)
        with pytest.raises(ControlError) as caught:
            async with open_watch(session, None) as watch:
                await watch.next()
        assert caught.value.code == code


async def test_three_missed_heartbeats_end_the_stream(tmp_path: Path) -> None:
    async with control_session(tmp_path) as (fake, session, _):
        fake.heartbeat_seconds = 60
        async with open_watch(session, None, idle_seconds=0.5) as watch:  # the opening is bounded by it too
            await watch.next()
            with pytest.raises(ControlError, match="silent"):
                await watch.next()


async def test_a_stream_that_never_begins(tmp_path: Path) -> None:
    async with control_session(tmp_path) as (fake, session, _):
        fake.misbehave(WATCH, hang)
        with pytest.raises(ControlError, match="no answer"):
            async with open_watch(session, None, idle_seconds=0.05):
                pass


async def test_a_body_comes_byte_for_byte(tmp_path: Path) -> None:
    async with control_session(tmp_path) as (fake, session, _):
        fake.plans["sbx_1"] = b" {} "
        assert await fetch_plan(session, "sbx_1") == b" {} "
        with pytest.raises(ControlError):
            await fetch_plan(session, "sbx_1", most_bytes=3)
        with pytest.raises(ControlError) as caught:
            await fetch_plan(session, "../jwks")
        assert caught.value.code == "plan_not_found"
