"""The closed unions that admit and classify return."""

import dataclasses

import pytest

from gateway.core.decision import FORWARD, Deny, Forward, Mode
from sallyport.problem import Code


def test_decisions_are_values_that_nobody_changes() -> None:
    assert Forward() == FORWARD
    assert Deny(code=Code.DENIED_BY_PLAN, detail="d") == Deny(code=Code.DENIED_BY_PLAN, detail="d")
    with pytest.raises(dataclasses.FrozenInstanceError):
        FORWARD.rule_id = "other"  # type: ignore[misc]  # that it is frozen is the point


def test_the_words_of_audit_records() -> None:
    assert [mode.value for mode in Mode] == ["intercepted", "plain", "passthrough"]
