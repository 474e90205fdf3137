"""Applied plans against what gateways report."""

from collections.abc import Mapping

import pytest

from control_client.errors import UNREACHABLE, ControlError
from worker.apply_plan import StepFailed
from worker.durable.database import DatabaseUnavailable
from worker.plan_revisions import PlanRevisions
from worker.reconciliation import CannotTell, Drift, Reconciliation


class Sides:
    """What was applied, what is reported, and what was put in force."""

    def __init__(self) -> None:
        self.applied_here: dict[str, int] | None = {}
        self.at_gateways: dict[str, int] | None = {}
        self.newer: set[str] = set()
        self.put: list[tuple[str, int]] = []
        self.part = PlanRevisions(self.applied, self.reported, self.put_in_force)
        self.reconciliation = Reconciliation([self.part], every_seconds=1, wall=lambda: 0)

    async def applied(self) -> Mapping[str, int]:
        if self.applied_here is None:
            raise DatabaseUnavailable("away")
        return self.applied_here

    async def reported(self) -> Mapping[str, int]:
        if self.at_gateways is None:
            raise ControlError(UNREACHABLE, temporary=True)
        return self.at_gateways

    async def put_in_force(self, sandbox_id: str, revision: int) -> None:
        if sandbox_id in self.newer:
            raise StepFailed("revision 9 is in force")
        self.put.append((sandbox_id, revision))

    async def round(self) -> dict[Drift, str | None]:
        await self.reconciliation.go_round(self.part)
        return self.reconciliation.rounds[self.part.name].drift


async def test_what_gateways_report_is_what_was_applied_or_newer() -> None:
    sides = Sides()
    sides.applied_here = {"sbx_1": 2, "sbx_2": 3, "sbx_not_held": 4}
    sides.at_gateways = {"sbx_1": 2, "sbx_2": 4, "sbx_of_others": 1}
    assert await sides.round() == {}


async def test_a_plan_that_was_lost_is_put_in_force_once_more_and_then_waited_for() -> None:
    sides = Sides()
    sides.applied_here, sides.at_gateways = {"sbx_1": 2}, {"sbx_1": 1}
    behind = Drift("sbx_1", "2", "1")
    assert await sides.round() == {behind: None}
    assert await sides.round() == {behind: "revision 2 is in force, and a gateway still reports 1"}
    assert sides.put == [("sbx_1", 2)]
    sides.at_gateways = {"sbx_1": 2}
    assert await sides.round() == {}
    sides.at_gateways = {"sbx_1": 1}
    assert await sides.round() == {behind: None}


async def test_what_cannot_be_put_in_force_is_told() -> None:
    sides = Sides()
    sides.applied_here, sides.at_gateways, sides.newer = {"sbx_1": 2}, {"sbx_1": 1}, {"sbx_1"}
    assert await sides.round() == {Drift("sbx_1", "2", "1"): "revision 9 is in force"}


async def test_neither_side_can_be_missing() -> None:
    sides = Sides()
    sides.at_gateways = None
    with pytest.raises(CannotTell):
        await sides.part.actual()
    sides.at_gateways, sides.applied_here = {"sbx_1": 1}, None
    await sides.part.actual()
    with pytest.raises(CannotTell):
        await sides.part.declared()
