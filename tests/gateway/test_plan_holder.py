"""Plans in force: what may replace what, and that nothing wrong changes anything (T2)."""

import asyncio
import threading
from collections.abc import Awaitable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.core.request_limit import RequestLimit
from gateway.plan_holder import Applied, PlanConflict, PlanFilesError, PlanHolder, PlanLimitError, PreparedPlan
from sallyport.plan.codec import MAX_PLAN_BYTES, PlanError, seal
from tests.support.plan_documents import plan_document, route_document


def body(sandbox: str = "sbx_one", revision: int = 1, **fields: object) -> bytes:
    return seal({**plan_document([route_document()], sandboxId=sandbox, revision=revision), **fields})


def holder(max_sandboxes: int = 10) -> PlanHolder:
    return PlanHolder(max_sandboxes=max_sandboxes, max_plan_bytes=MAX_PLAN_BYTES)


def test_a_plan_comes_into_force() -> None:
    plans = holder()
    assert plans.table("sbx_one") is None
    applied = plans.apply(body(), sandbox_id="sbx_one")
    table = plans.table("sbx_one")
    assert table is not None
    assert applied == Applied(sandbox_id="sbx_one", revision=1, digest=table.digest, changed=True)
    assert plans.document("sbx_one") == body()
    assert repr(plans) == "<PlanHolder 1 of 10 sandboxes>"


def test_t2_whoever_read_a_table_keeps_it_and_the_next_one_sees_the_new() -> None:
    plans = holder()
    plans.apply(body())
    before = plans.table("sbx_one")
    plans.apply(body(revision=2))
    after = plans.table("sbx_one")
    assert before is not None
    assert after is not None
    assert (before.revision, after.revision) == (1, 2)


def test_the_same_plan_again_changes_nothing() -> None:
    plans = holder()
    plans.apply(body())
    table = plans.table("sbx_one")
    assert not plans.apply(body()).changed
    assert plans.table("sbx_one") is table


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (body(revision=4), "revision 4 is older than revision 5"),
        (body(revision=5, version=2), "revision 5 is in force with another digest"),
    ],
)
def test_what_may_not_replace_a_plan(document: bytes, told: str) -> None:
    plans = holder()
    plans.apply(body(revision=5))
    table = plans.table("sbx_one")
    with pytest.raises(PlanConflict, match=told):
        plans.apply(document)
    assert plans.table("sbx_one") is table


def test_a_plan_for_another_sandbox_is_refused() -> None:
    plans = holder()
    with pytest.raises(PlanConflict, match="for sandbox sbx_two, not sbx_one"):
        plans.apply(body("sbx_two"), sandbox_id="sbx_one")
    assert len(plans) == 0


def test_t2_an_invalid_plan_keeps_the_old_one_and_says_why() -> None:
    plans = holder()
    plans.apply(body())
    table = plans.table("sbx_one")
    with pytest.raises(PlanError) as refused:
        plans.apply(body(revision=2, unknown=1, version=0))
    assert {issue.pointer for issue in refused.value.issues} == {"/unknown", "/version"}
    assert plans.table("sbx_one") is table


def test_there_is_a_limit_on_sandboxes() -> None:
    plans = holder(max_sandboxes=1)
    plans.apply(body())
    with pytest.raises(PlanLimitError, match=r"raise limits\.sandboxes"):
        plans.apply(body("sbx_two"))
    assert plans.apply(body(revision=2)).changed
    plans.remove("sbx_one")
    assert plans.apply(body("sbx_two")).changed


def test_a_removed_plan_is_forgotten_revision_and_all() -> None:
    plans = holder()
    plans.apply(body(revision=7))
    assert plans.remove("sbx_one")
    assert not plans.remove("sbx_one")
    assert (plans.table("sbx_one"), plans.document("sbx_one")) == (None, None)
    assert plans.apply(body(revision=1)).changed


def test_subscribers_hear_of_changes_only() -> None:
    plans, heard = holder(), list[str]()
    plans.subscribe(lambda sandbox_id: heard.append(f"{sandbox_id} {plans.table(sandbox_id)}"))
    plans.apply(body())
    plans.apply(body())
    plans.apply(body(revision=2))
    plans.remove("sbx_one")
    plans.remove("sbx_one")
    assert heard == [
        "sbx_one <RouteTable sbx_one revision 1: 1 routes>",
        "sbx_one <RouteTable sbx_one revision 2: 1 routes>",
        "sbx_one None",
    ]


def test_changes_are_logged_and_repeats_are_not() -> None:
    with capture_logs() as logs:
        plans = holder()
        plans.apply(body())
        plans.apply(body())
        plans.remove("sbx_one")
    assert [event["event"] for event in logs] == ["plan_applied", "plan_removed"]


# Files -----------------------------------------------------------------------------------------------


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def test_files_are_loaded(tmp_path: Path) -> None:
    plans = holder()
    paths = [written(tmp_path, "one.json", body()), written(tmp_path, "two.json", body("sbx_two"))]
    assert [applied.sandbox_id for applied in plans.load_files(paths)] == ["sbx_one", "sbx_two"]
    assert len(plans) == 2
    assert [applied.changed for applied in plans.load_files(paths)] == [False, False]


def test_every_fault_of_every_file_is_told_and_nothing_is_applied(tmp_path: Path) -> None:
    good = written(tmp_path, "good.json", body())
    paths = [
        good,
        written(tmp_path, "faulty.json", body("sbx_two", version=0, unknown=1)),
        written(tmp_path, "garbage.json", b"{"),
        written(tmp_path, "again.json", body(revision=2)),
        written(tmp_path, "large.json", b" " * (MAX_PLAN_BYTES + 1)),
        tmp_path / "none.json",
    ]
    plans = holder()
    with pytest.raises(PlanFilesError) as refused:
        plans.load_files(paths)
    faults = refused.value.faults
    assert [Path(fault.partition(":")[0]).name for fault in faults] == [
        *("faulty.json", "faulty.json", "garbage.json", "again.json", "large.json", "none.json")
    ]
    assert any("/version" in fault for fault in faults)
    assert any("/unknown" in fault for fault in faults)
    assert f"{good}; keep one of the two" in faults[3]
    assert "limits.plan_bytes" in faults[4]
    assert "No such file" in faults[5]
    assert len(plans) == 0


def test_a_file_may_not_take_a_plan_back(tmp_path: Path) -> None:
    plans = holder(max_sandboxes=1)
    plans.apply(body(revision=5))
    with pytest.raises(PlanFilesError) as refused:
        plans.load_files(
            [written(tmp_path, "old.json", body(revision=4)), written(tmp_path, "two.json", body("sbx_two"))]
        )
    assert "revision 4 is older than revision 5" in refused.value.faults[0]
    assert "more than 1 sandboxes" in refused.value.faults[1]


def test_what_is_withheld_is_kept_and_not_in_force() -> None:
    plans = holder(1)
    plans.apply(body())
    assert plans.is_full
    plans.withhold()
    assert plans.table("sbx_one") is None
    assert plans.loaded("sbx_one") is not None
    plans.apply(body(revision=2))
    assert plans.table("sbx_one") is None
    plans.release()
    table = plans.table("sbx_one")
    assert table is not None
    assert table.revision == 2


async def test_a_plan_is_asked_of_the_source_unless_it_would_not_count() -> None:
    class Source:
        def want(self, sandbox_id: str) -> Awaitable[object]:
            return asyncio.sleep(0, sandbox_id)

    plans = holder()
    assert plans.want("sbx_one") is None
    plans.source = Source()
    wanted = plans.want("sbx_one")
    assert wanted is not None
    assert await wanted == "sbx_one"
    plans.withhold()
    assert plans.want("sbx_one") is None


def test_a_sandbox_s_limit_outlives_revisions_and_not_its_plan() -> None:
    plans = PlanHolder(
        max_sandboxes=2,
        max_plan_bytes=MAX_PLAN_BYTES,
        new_limit=lambda: RequestLimit(per_minute=1, max_concurrent=None),
    )

    def limit(sandbox_id: str) -> RequestLimit:
        table = plans.table(sandbox_id)
        assert table is not None
        assert table.sandbox_limit is not None
        return table.sandbox_limit

    limits = []
    for revision in (1, 2):
        plans.apply(body(revision=revision))
        plans.apply(body("sbx_two", revision=revision))
        limits.append([limit(name) for name in ("sbx_one", "sbx_two")])
    assert limits[0] == limits[1]
    assert limits[0][0] is not limits[0][1]
    plans.remove("sbx_one")
    plans.apply(body())
    assert limit("sbx_one") is not limits[0][0]
    plans.apply(body("sbx_two", revision=3, organizationId="org_other"))
    assert limit("sbx_two") is not limits[0][1], "another organization begins anew"


async def test_what_takes_something_away_is_compiled_beside_what_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of plans may wait for each other; it waits for none of them, and they go on in their order."""
    plans, may_end, loop = holder(), threading.Event(), asyncio.get_running_loop()
    begun: asyncio.Queue[bytes] = asyncio.Queue()
    prepare = plans.prepare
    newer, without = body(revision=2), body(revision=3, egressRoutes=[])

    def slowly(document: bytes) -> PreparedPlan:
        loop.call_soon_threadsafe(begun.put_nowait, document)
        assert document == without or may_end.wait(20)
        return prepare(document)

    plans.apply(body())
    monkeypatch.setattr(plans, "prepare", slowly)
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        others = [tasks.create_task(plans.compile(newer, "sbx_one")) for _ in range(3)]
        assert await begun.get() == newer
        prepared = await plans.compile(without, "sbx_one")
        assert await begun.get() == without
        assert begun.empty()
        may_end.set()
    assert plans.commit(prepared).changed
    assert [other.result().table.revision for other in others] == [2, 2, 2]
