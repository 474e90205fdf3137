"""What is asked for follows from what changed, and is done once, by whoever comes first."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
import structlog
from sqlalchemy import select

from control_plane import recompilation
from control_plane.foundation import Foundation
from control_plane.store.database import DatabaseUnavailable
from control_plane.store.models import Binding, Connection, Profile, ProfileVersion, Recompilation, Sandbox
from tests.support.bound_versions import BoundStage, draft
from tests.support.control_plane import NOW
from tests.support.made_integrations import made_definition

AT = int(NOW)


async def bind(base: Foundation, *bindings: tuple[int, str]) -> None:
    """Make two versions of a profile, connections con_1 and con_2 of targets tgt_1 and tgt_2, and these bindings."""
    async with base.database.write() as tx:
        await tx.add(Profile(id="sbp_1", organization_id="org_one", created_at=AT))
        await tx.add_all([ProfileVersion(profile_id="sbp_1", version=number, created_at=AT) for number in (1, 2)])
        await tx.add_all(
            [
                Connection(
                    id=f"con_{number}",
                    organization_id="org_one",
                    target_key=f"tgt_{number}",
                    status="active",
                    created_at=AT,
                    updated_at=AT,
                )
                for number in (1, 2)
            ]
        )
        await tx.add_all(
            [
                Binding(
                    id=f"bnd_{position}",
                    profile_id="sbp_1",
                    version=version,
                    position=position,
                    connection_id=connection_id,
                    kind="connector",
                    config="{}",
                    created_at=AT,
                    updated_at=AT,
                )
                for position, (version, connection_id) in enumerate(bindings)
            ]
        )


async def asked(base: Foundation) -> Sequence[tuple[int, int]]:
    async with base.database.read() as tx:
        found = await tx.all(select(Recompilation).order_by(Recompilation.version))
    return [(each.version, each.requests) for each in found]


@pytest.mark.parametrize(
    ("changed", "versions"),
    [
        ({"version": ("sbp_1", 2)}, [(2, 1)]),
        ({"connection_id": "con_1"}, [(1, 1), (2, 1)]),
        ({"connection_id": "con_2"}, [(2, 1)]),
        ({"target_key": "tgt_2"}, [(2, 1)]),
        ({"target_key": "tgt_1", "version": ("sbp_1", 1)}, [(1, 1), (2, 1)]),
        ({"connection_id": "con_none"}, []),
        ({}, []),
    ],
)
async def test_what_changed_says_what_is_compiled_anew(
    base: Foundation, changed: dict[str, object], versions: list[tuple[int, int]]
) -> None:
    await bind(base, (1, "con_1"), (2, "con_1"), (2, "con_1"), (2, "con_2"))
    async with base.database.write() as tx:
        await recompilation.request(tx, NOW, **changed)  # type: ignore[arg-type]  # parametrized
    assert await asked(base) == versions


@pytest.fixture
async def stage(base: Foundation) -> BoundStage:
    stage = BoundStage(base.database, made_definition())
    await stage.prepare(versions=(1, 2))
    return stage


async def revisions(stage: BoundStage) -> dict[str, int | None]:
    async with stage.database.read() as tx:
        found = await tx.all(select(Sandbox).order_by(Sandbox.id))
    return {each.id: each.revision for each in found}


async def test_what_was_asked_for_is_done_for_every_sandbox_of_the_version(
    stage: BoundStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recompilation, "PAGE_SANDBOXES", 2)
    await stage.bind(draft("bnd_a", host="a.example"))
    for number in range(5):
        await stage.make_sandbox(f"sbx_{number}")
    await stage.make_sandbox("sbx_other", version=2)
    await stage.bind(draft("bnd_a", host="b.example"))
    assert await stage.recompiler.recompile_one()
    assert not await stage.recompiler.recompile_one()
    assert await revisions(stage) == {**{f"sbx_{number}": 2 for number in range(5)}, "sbx_other": None}
    assert await asked_of(stage) == []


async def asked_of(stage: BoundStage) -> list[tuple[int, int, int]]:
    async with stage.database.read() as tx:
        found = await tx.all(select(Recompilation).order_by(Recompilation.version))
    return [(each.version, each.requests, each.attempts) for each in found]


async def test_what_is_asked_for_while_it_is_done_is_done_again(
    stage: BoundStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.bind(draft("bnd_a", host="a.example"))
    await stage.make_sandbox("sbx_1")
    await stage.bind(draft("bnd_a", host="b.example"))
    apply_to_all = stage.desk.apply_to_all

    async def apply_and_change(*arguments: Any) -> int:  # noqa: ANN401  passed on
        changed = await apply_to_all(*arguments)
        await stage.bind(draft("bnd_a", host="c.example"))
        return changed

    monkeypatch.setattr(stage.desk, "apply_to_all", apply_and_change)
    assert await stage.recompiler.recompile_one()
    monkeypatch.undo()
    assert await revisions(stage) == {"sbx_1": 2}
    assert await stage.recompiler.recompile_one()
    assert await revisions(stage) == {"sbx_1": 3}


async def test_a_failure_is_tried_again_later_and_holds_nobody_up(
    stage: BoundStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.bind(draft("bnd_a", host="a.example"))
    await stage.bind(draft("bnd_b", host="b.example"), version=2)
    await stage.make_sandbox("sbx_1")
    await stage.make_sandbox("sbx_2", version=2)
    apply_to_all = stage.desk.apply_to_all

    async def fail(profile_id: str, version: int, *arguments: Any) -> int:  # noqa: ANN401  passed on
        if version == 1:
            raise RuntimeError("a definition is wrong")
        return await apply_to_all(profile_id, version, *arguments)

    monkeypatch.setattr(stage.desk, "apply_to_all", fail)
    with structlog.testing.capture_logs() as events:
        assert [await stage.recompiler.recompile_one() for _ in range(3)] == [True, True, False]
    failed = next(event for event in events if event["event"] == "recompilation_failed")
    assert (failed["version"], failed["error"], failed["again_after_seconds"]) == (1, "RuntimeError", 2)
    assert await asked_of(stage) == [(1, 1, 1)]
    monkeypatch.undo()
    stage.now += 2
    assert await stage.recompiler.recompile_one()
    assert await asked_of(stage) == []


async def test_two_replicas_do_each_thing_once(stage: BoundStage) -> None:
    for version in (1, 2):
        await stage.bind(draft(f"bnd_{version}", host="a.example"), version=version)
        await stage.make_sandbox(f"sbx_{version}", version=version)
        await stage.bind(draft(f"bnd_{version}", host="b.example"), version=version)
    other = recompilation.Recompiler(stage.database, stage.desk, lambda: stage.now)
    async with asyncio.TaskGroup() as group:
        done = [group.create_task(each.recompile_one()) for each in (stage.recompiler, other)]
    assert [each.result() for each in done] == [True, True]
    assert await revisions(stage) == {"sbx_1": 2, "sbx_2": 2}
    assert await asked_of(stage) == []


async def test_an_outage_of_the_database_is_waited_out(stage: BoundStage, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    async def away() -> bool:
        seen.append("asked")
        raise DatabaseUnavailable

    async def sleep(seconds: float) -> None:
        seen.append(f"slept {seconds}")
        if len(seen) == 4:
            raise asyncio.CancelledError

    monkeypatch.setattr(stage.recompiler, "recompile_one", away)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    with structlog.testing.capture_logs(), pytest.raises(asyncio.CancelledError):
        await stage.recompiler.run()
    assert seen == ["asked", "slept 1.0"] * 2


async def test_no_sandbox_is_left_behind_by_a_change_that_crosses_its_making(
    stage: BoundStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection changes, and is acted on, when a new sandbox has looked at it and is not visible yet."""
    await stage.bind(draft("bnd_a", host="a.example"))
    assert await stage.recompiler.recompile_one()
    store = stage.desk._store
    crossing: list[asyncio.Task[None]] = []

    async def change() -> None:
        async with stage.database.write() as tx:
            row = await tx.get(Connection, "con_place", lock=True)
            assert row is not None
            row.status = "error"
            await recompilation.request(tx, NOW, connection_id="con_place")
        await stage.recompiler.recompile_one()

    async def store_and_be_crossed(*arguments: Any) -> Any:  # noqa: ANN401  passed on
        applied = await store(*arguments)
        if not crossing:
            crossing.append(group.create_task(change()))
            # Long enough to be done with it, were it not for the locks.
            await asyncio.wait(crossing, timeout=0.3)
        return applied

    monkeypatch.setattr(stage.desk, "_store", store_and_be_crossed)
    async with asyncio.TaskGroup() as group:
        await stage.make_sandbox("sbx_1")
    monkeypatch.undo()
    async with stage.database.read() as tx:
        sandbox = await tx.get(Sandbox, "sbx_1")
    assert sandbox is not None
    assert sandbox.compile_issues is not None
    assert "connection_not_active" in sandbox.compile_issues
