"""Sandboxes get the plan that their version's bindings compile to, and keep the one they have where there is none."""

from typing import Any

import pytest

from control_plane import compilation, sandboxes
from control_plane.compiler.inputs import Inputs
from control_plane.definitions.contract import Compiled
from control_plane.foundation import Foundation
from control_plane.plans import PlanDesk
from control_plane.refusals import ControlCode, Refused
from sallyport.plan.codec import parse_plan
from tests.support.bound_versions import PROFILE, BoundStage, draft, stored_issues
from tests.support.control_plane import ORGANIZATION
from tests.support.made_integrations import Context, made_definition, place_route


@pytest.fixture
async def stage(base: Foundation) -> BoundStage:
    stage = BoundStage(base.database, made_definition(), made_definition("other"))
    await stage.prepare(versions=(1, 2))
    return stage


async def plan_of(stage: BoundStage, sandbox_id: str) -> tuple[int, list[str]]:
    """Return revision and hosts of the plan in force."""
    kept = await PlanDesk(stage.database).current(sandbox_id)
    plan = parse_plan(kept.document)
    assert (plan.revision, plan.digest, plan.sandbox_id) == (kept.revision, kept.digest, sandbox_id)
    return plan.revision, [str(host) for route in plan.egress_routes for host in route.match.hosts]


async def test_a_sandbox_is_made_with_its_plan(stage: BoundStage) -> None:
    await stage.bind(draft("bnd_a", host="a.example"))
    document: Any = await stage.make_sandbox("sbx_1")
    assert document["plan"]["revision"] == 1
    assert await plan_of(stage, "sbx_1") == (1, ["a.example"])
    assert "compileIssues" not in document


async def test_a_version_that_never_had_bindings_leaves_the_plan_to_others(stage: BoundStage) -> None:
    assert "plan" not in await stage.make_sandbox("sbx_1")
    await stage.bind(draft("bnd_a"))
    await stage.bind()
    assert "plan" in await stage.make_sandbox("sbx_2"), "one that had some has its sandboxes compiled"
    made = await stage.desk.create_sandbox(
        ORGANIZATION, sandbox_id="sbx_3", profile_id=None, version=None, now=stage.now
    )
    assert "plan" not in made


async def test_a_sandbox_is_made_though_there_is_no_plan_and_shows_why(stage: BoundStage) -> None:
    await stage.bind(draft("bnd_a", host="a.example"), draft("bnd_b", "other", host="a.example"))
    document = await stage.make_sandbox("sbx_1")
    assert "plan" not in document
    assert stored_issues(document) == [("compile.route_conflict", "/bindings/1")]
    with pytest.raises(Refused) as refused:
        await stage.desk.apply(PROFILE, 1, "sbx_1", stage.now)
    assert refused.value.code is ControlCode.NOT_COMPILABLE
    await stage.bind(draft("bnd_a", host="a.example"))
    applied = await stage.desk.apply(PROFILE, 1, "sbx_1", stage.now)
    assert (applied.revision, applied.is_new) == (1, True)
    shown = sandboxes.sandbox_document(await sandboxes.get_sandbox(stage.database, "sbx_1"))
    assert "compileIssues" not in shown


async def test_revisions_follow_one_another_and_nothing_new_is_none(stage: BoundStage) -> None:
    await stage.bind(draft("bnd_a", host="a.example"))
    await stage.make_sandbox("sbx_1")
    assert await stage.desk.apply_to_all(PROFILE, 1, ["sbx_1", "sbx_none"], stage.now) == 0
    await stage.bind(draft("bnd_a", host="b.example"))
    assert await stage.desk.apply_to_all(PROFILE, 1, ["sbx_1"], stage.now) == 1
    assert await plan_of(stage, "sbx_1") == (2, ["b.example"])
    kept = (await PlanDesk(stage.database).current("sbx_1")).document
    later = kept.replace(b'"revision":2', b'"revision":5').replace(kept[kept.index(b'"digest"') :][:83], b"")
    await PlanDesk(stage.database).put("sbx_1", later.replace(b"{,", b"{"), stage.now, in_force=False)
    await stage.bind(draft("bnd_a", host="c.example"))
    applied = await stage.desk.apply(PROFILE, 1, "sbx_1", stage.now)
    assert applied.revision == 6, "behind every one that is kept"


async def test_a_connection_that_lost_its_right_leaves_the_plan_in_force(stage: BoundStage) -> None:
    await stage.bind(draft("bnd_a", host="a.example"))
    await stage.make_sandbox("sbx_1")
    await stage.set_connection("con_place", "revoked")
    assert await stage.desk.apply_to_all(PROFILE, 1, ["sbx_1"], stage.now) == 0
    assert await plan_of(stage, "sbx_1") == (1, ["a.example"])
    shown = sandboxes.sandbox_document(await sandboxes.get_sandbox(stage.database, "sbx_1"))
    assert stored_issues(shown) == [("compile.connection_not_active", "/bindings/0/connectionId")]


async def test_a_sandbox_of_another_version_is_not_compiled(stage: BoundStage) -> None:
    await stage.bind(draft("bnd_a"))
    await stage.make_sandbox("sbx_2", version=2)
    for sandbox_id in ("sbx_2", "sbx_none"):
        with pytest.raises(Refused) as refused:
            await stage.desk.apply(PROFILE, 1, sandbox_id, stage.now)
        assert (refused.value.code, refused.value.detail) == (
            ControlCode.SANDBOX_NOT_FOUND,
            "the version has no such sandbox",
        )
        with pytest.raises(Refused):
            await stage.desk.plan_in_force(PROFILE, 1, sandbox_id)
    with pytest.raises(Refused) as refused:
        await stage.desk.plan_in_force(PROFILE, 2, "sbx_2")
    assert refused.value.code is ControlCode.PLAN_NOT_FOUND


async def test_a_candidate_is_compiled_and_not_kept(stage: BoundStage) -> None:
    candidate = [draft("bnd_x", host="x.example").stored(stage.now)]
    found = await stage.desk.compile(PROFILE, 1, candidate)
    assert [route.egress_rule_id for route in found.plan.egress_routes] == ["bnd_x.api"]
    assert (await stage.desk.compile(PROFILE, 1)).plan.egress_routes == ()
    with pytest.raises(Refused) as refused:
        await stage.desk.compile(PROFILE, 7)
    assert refused.value.code is ControlCode.PROFILE_NOT_FOUND


async def test_what_changed_while_it_was_compiled_is_compiled_again(
    base: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stored inputs change between the compilation and the transaction that would keep its plan."""
    hosts = iter(["a.example", "b.example", "c.example", "c.example"])

    def compile_binding(context: Context) -> Compiled:
        return Compiled(routes=[place_route(context)])

    stage = BoundStage(base.database, made_definition(compile_binding=compile_binding))
    await stage.prepare()
    await stage.bind(draft("bnd_a", host="start.example"))
    await stage.make_sandbox("sbx_1")
    compile_bindings = stage.desk._compile

    async def compile_and_change(inputs: Inputs) -> compilation._Outcome:
        outcome = await compile_bindings(inputs)
        await stage.bind(draft("bnd_a", host=next(hosts)))
        return outcome

    monkeypatch.setattr(stage.desk, "_compile", compile_and_change)
    applied = await stage.desk.apply(PROFILE, 1, "sbx_1", stage.now)
    assert (applied.revision, await plan_of(stage, "sbx_1")) == (2, (2, ["c.example"]))
    hosts = iter([f"h{number}.example" for number in range(100)])
    with pytest.raises(Refused) as refused:
        await stage.desk.apply(PROFILE, 1, "sbx_1", stage.now)
    assert refused.value.code is ControlCode.REVISION_CONFLICT
    with pytest.raises(Refused):
        await stage.make_sandbox("sbx_2")
    monkeypatch.undo()
    assert "plan" in await stage.make_sandbox("sbx_2")
