"""Bindings are replaced whole, by who has seen them, and only by what stands."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import select

from control_plane.foundation import Foundation
from control_plane.refusals import ControlCode, Refused
from control_plane.store.models import Binding, Recompilation
from tests.support.bound_versions import PROFILE, BoundStage, draft
from tests.support.made_integrations import made_definition


@pytest.fixture
async def stage(base: Foundation) -> BoundStage:
    stage = BoundStage(base.database, made_definition(), made_definition("other"))
    await stage.prepare(versions=(1, 2))
    return stage


async def asked(stage: BoundStage) -> list[tuple[int, int]]:
    async with stage.database.read() as tx:
        found = await tx.all(select(Recompilation).order_by(Recompilation.version))
    return [(each.version, each.requests) for each in found]


async def test_bindings_are_kept_by_id_and_given_one_where_they_have_none(stage: BoundStage) -> None:
    assert await stage.bindings.get(PROFILE, 1) == {
        **{"sandboxProfileId": PROFILE, "version": 1, "revision": 0, "bindings": []}
    }
    first = await stage.bind(draft("bnd_a", host="a.example"), draft(host="b.example"))
    assert first == await stage.bindings.get(PROFILE, 1)
    [kept, made] = first["bindings"]
    assert (first["revision"], kept["bindingId"], kept["config"]) == (1, "bnd_a", {"host": "a.example"})
    assert made["bindingId"].startswith("bnd_0")
    stage.now += 100
    second = await stage.bind(draft(made["bindingId"], host="c.example"), draft("bnd_a", host="a.example"))
    assert second == await stage.bindings.get(PROFILE, 1)
    assert second["revision"] == 2
    assert second["bindings"] == [
        {**made, "config": {"host": "c.example"}, "updatedAt": int(stage.now)},
        kept,
    ]
    third = await stage.bind(draft("bnd_new", "other"))
    assert [each["bindingId"] for each in third["bindings"]] == ["bnd_new"]
    async with stage.database.read() as tx:
        assert await tx.all(select(Binding.id)) == ["bnd_new"]


async def test_an_edit_asks_for_a_recompilation_and_the_same_again_for_none(stage: BoundStage) -> None:
    await stage.bind(draft("bnd_a"))
    assert await asked(stage) == [(1, 1)]
    again = await stage.bind(draft("bnd_a"), revision=1)
    assert (again["revision"], await asked(stage)) == (1, [(1, 1)])
    await stage.bind()
    assert await asked(stage) == [(1, 2)]


async def test_an_edit_of_what_was_edited_meanwhile_is_refused(stage: BoundStage) -> None:
    await stage.bind(draft("bnd_a"), revision=0)
    with pytest.raises(Refused) as refused:
        await stage.bind(draft("bnd_b"), revision=0)
    assert (refused.value.code, "revision 1" in refused.value.detail) == (ControlCode.REVISION_CONFLICT, True)
    shown: Any = await stage.bindings.get(PROFILE, 1)
    assert [each["bindingId"] for each in shown["bindings"]] == ["bnd_a"]


async def test_of_two_edits_at_once_one_is_refused(stage: BoundStage) -> None:
    async with asyncio.TaskGroup() as group:
        edits = [group.create_task(attempt(stage, f"bnd_{number}")) for number in range(4)]
    assert sorted(edit.result() for edit in edits) == ["ok", *["revision_conflict"] * 3]


async def attempt(stage: BoundStage, binding_id: str) -> str:
    try:
        await stage.bind(draft(binding_id), revision=0)
    except Refused as refused:
        return refused.code.wire
    return "ok"


async def refused_issues(stage: BoundStage, *drafts: object, version: int = 1) -> list[tuple[str, str]]:
    with pytest.raises(Refused) as refused:
        await stage.bind(*drafts, version=version)  # type: ignore[arg-type]  # drafts
    assert refused.value.code is ControlCode.INVALID_BINDINGS
    assert await asked(stage) == []
    return [(issue.code, issue.pointer) for issue in refused.value.issues]


async def test_every_issue_comes_at_its_place_and_nothing_changes(stage: BoundStage) -> None:
    await stage.connect("con_foreign", "place", "org_two")
    await stage.set_connection("con_other", "error")
    assert await refused_issues(
        stage,
        draft("bnd_a"),
        draft("bnd_b", "none"),
        draft("bnd_c", "foreign"),
        draft("bnd_d", "other", "git"),
        draft("bnd_e", nonsense=1),
    ) == [
        ("compile.connection_mismatch", "/bindings/1/connectionId"),
        ("compile.connection_mismatch", "/bindings/2/connectionId"),
        ("compile.connection_not_active", "/bindings/3/connectionId"),
        ("compile.kind_mismatch", "/bindings/3/kind"),
        ("compile.invalid_binding_config", "/bindings/4/config/nonsense"),
    ]
    assert (await stage.bindings.get(PROFILE, 1))["revision"] == 0


async def test_an_id_is_used_once(stage: BoundStage) -> None:
    assert await refused_issues(stage, draft("bnd_a"), draft(), draft("bnd_a")) == [
        ("duplicate_id", "/bindings/2/bindingId")
    ]
    await stage.bind(draft("bnd_a"))
    async with stage.database.write() as tx:
        for row in await tx.all(select(Recompilation)):
            await tx.delete(row)
    assert await refused_issues(stage, draft("bnd_a"), version=2) == [("already_exists", "/bindings/0/bindingId")]


async def test_a_version_that_is_not_there(stage: BoundStage) -> None:
    for action in (stage.bindings.get(PROFILE, 9), stage.bind(version=9)):
        with pytest.raises(Refused) as refused:
            await action
        assert refused.value.code is ControlCode.PROFILE_NOT_FOUND
