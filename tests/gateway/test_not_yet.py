"""What is raised where a plan is missing. How a request waits for one is seen in test_control.py."""

from pathlib import Path

from gateway.core.authority import Refused
from gateway.not_yet import NotYet, missing_plan
from gateway.plan_holder import PlanHolder
from sallyport.problem import Code
from tests.support.control_stage import control_stage


def test_without_a_source_a_missing_plan_is_refused() -> None:
    raised = missing_plan(PlanHolder(max_sandboxes=1, max_plan_bytes=1000), "sbx_1")
    assert isinstance(raised, Refused)
    assert raised.deny.code is Code.PLAN_UNAVAILABLE


async def test_one_that_may_come_is_waited_for(tmp_path: Path) -> None:
    async with control_stage(tmp_path) as stage:
        raised = missing_plan(stage.plans, "sbx_1")
        assert isinstance(raised, NotYet)
        assert raised.otherwise.code is Code.PLAN_UNAVAILABLE
        stage.bodies.replace({})


async def test_nothing_is_waited_for_while_plans_are_withheld(tmp_path: Path) -> None:
    async with control_stage(tmp_path) as stage:
        stage.plans.withhold()
        assert isinstance(missing_plan(stage.plans, "sbx_1"), Refused)
