"""Rounds: what differs is repaired item by item, counted and shown, and what cannot be is tried again."""

from collections.abc import Mapping
from typing import Any

import pytest

from sallyport.net.tasks import TaskSet
from tests.support.until import until
from worker.reconciliation import CannotTell, Drift, NotRepaired, Reconciliation, differences


class Things:
    """A kind of things in two dictionaries; what is `stuck` cannot be repaired."""

    def __init__(self, name: str = "things", *, is_local: bool = True) -> None:
        self.name = name
        self.is_local = is_local
        self.meant: dict[str, str] = {}
        self.there: dict[str, str] = {}
        self.stuck: set[str] = set()
        self.blind: str | None = None
        self.rounds = 0

    async def actual(self) -> Mapping[str, str]:
        return dict(self.there)

    async def declared(self) -> Mapping[str, str]:
        self.rounds += 1
        if self.blind is not None:
            raise CannotTell(self.blind)
        return dict(self.meant)

    async def repair(self, item: str, declared: str | None, actual: str | None) -> None:
        if item in self.stuck:
            raise NotRepaired(f"{item} is stuck")
        if declared is None:
            del self.there[item]
        else:
            self.there[item] = declared


def reconciling(*parts: Things) -> Reconciliation:
    return Reconciliation(parts, every_seconds=3600, wall=lambda: 1_800_000_000.5)


def shown(reconciliation: Reconciliation, part: int = 0) -> dict[str, Any]:
    document: dict[str, Any] = reconciliation.to_document()
    found: dict[str, Any] = document["parts"][part]
    return found


def test_what_differs() -> None:
    found = differences({"same": "a", "other": "a", "missing": "a"}, {"same": "a", "other": "b", "strange": "c"})
    assert found == [Drift("missing", "a", None), Drift("other", "a", "b"), Drift("strange", None, "c")]
    assert differences({}, {}) == []


async def test_what_differs_is_repaired_and_shown() -> None:
    things = Things()
    things.meant, things.there = {"a": "1", "b": "2"}, {"b": "3", "c": "4"}
    reconciliation = reconciling(things)
    await reconciliation.prepare()
    assert things.there == things.meant
    found = shown(reconciliation)
    assert (found["runs"], found["lastRunAt"], found["issue"]) == (1, 1_800_000_000, None)
    assert (found["found"], found["repaired"], found["failed"]) == (3, 3, 0)
    assert found["drift"][0] == {"item": "a", "declared": "1", "actual": None, "outcome": "repaired"}
    await reconciliation.prepare()
    assert (shown(reconciliation)["drift"], shown(reconciliation)["found"]) == ([], 3)


async def test_what_cannot_be_repaired_is_tried_again_and_keeps_nobody_else() -> None:
    things = Things()
    things.meant, things.stuck = {"a": "1", "b": "1"}, {"a"}
    reconciliation = reconciling(things)
    for _ in range(2):
        await reconciliation.prepare()
    found = shown(reconciliation)
    assert (found["found"], found["repaired"], found["failed"]) == (3, 1, 2)
    issue = {"item": "a", "declared": "1", "actual": None, "outcome": "failed", "issue": "a is stuck"}
    assert found["drift"] == [issue]
    things.stuck.clear()
    await reconciliation.prepare()
    assert things.there == things.meant
    assert reconciliation.rounds["things"].failing == frozenset()


async def test_what_cannot_be_told_changes_nothing() -> None:
    things = Things()
    things.there, things.blind = {"a": "1"}, "nobody answers"
    reconciliation = reconciling(things)
    await reconciliation.prepare()
    assert (things.there, shown(reconciliation)["issue"]) == ({"a": "1"}, "nobody answers")
    things.blind = None
    await reconciliation.prepare()
    assert (things.there, shown(reconciliation)["issue"]) == ({}, None)


async def test_before_anything_is_served_only_what_needs_nobody_else_is_looked_at() -> None:
    near, far = Things("near"), Things("far", is_local=False)
    await reconciling(near, far).prepare()
    assert (near.rounds, far.rounds) == (1, 0)


@pytest.mark.parametrize("every", [3600.0, 0.001])
async def test_it_goes_on_and_a_wake_does_not_wait(every: float) -> None:
    things = Things(is_local=False)
    reconciliation = Reconciliation([things], every_seconds=every, wall=lambda: 0)
    failed: list[str] = []
    tasks = TaskSet(lambda name, _: failed.append(name))
    reconciliation.begin(tasks)
    await until(lambda: things.rounds >= 1)
    if every > 1:
        reconciliation.wake("things")
    await until(lambda: things.rounds >= 2)
    await tasks.close()
    assert failed == []
    assert repr(reconciliation) == "<Reconciliation of things>"
