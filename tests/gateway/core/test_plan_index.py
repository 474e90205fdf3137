"""What is announced."""

from gateway.core.plan_index import Announced, PlanIndex

ONE, TWO = Announced(1, "sha256:1"), Announced(2, "sha256:2")


def test_before_a_snapshot_nothing_is_known() -> None:
    index = PlanIndex()
    assert repr(index) == "<PlanIndex 0 plans, no snapshot yet>"
    index.replace([("sbx_1", ONE)])
    assert index.is_known
    assert index.get("sbx_1") == ONE


def test_a_snapshot_forgets_what_it_does_not_name() -> None:
    index = PlanIndex()
    index.replace([("sbx_1", TWO), ("sbx_2", ONE)])
    index.replace([("sbx_1", ONE)])  # and may go back: it says what is, not what changed
    assert (index.get("sbx_1"), index.get("sbx_2"), len(index)) == (ONE, None, 1)


def test_an_older_announcement_changes_nothing() -> None:
    index = PlanIndex()
    assert index.announce("sbx_1", TWO)
    assert not index.announce("sbx_1", ONE)
    assert index.get("sbx_1") == TWO


def test_what_is_taken_back_may_begin_again_from_one() -> None:
    index = PlanIndex()
    index.announce("sbx_1", TWO)
    index.remove("sbx_1")
    index.remove("sbx_1")
    assert index.get("sbx_1") is None
    assert index.announce("sbx_1", ONE)
