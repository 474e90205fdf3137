"""The steps of one revision and how far each has come: what `setup.status` says."""

import enum
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

MAX_ISSUE_CHARACTERS: Final = 300
# Issues of one refused document that a status tells; a document has up to 100.
MAX_TOLD_ISSUES: Final = 20
# A control message has at most 64 KiB (contracts section 2); the rest is for what stands round the status in it.
MAX_STATUS_BYTES: Final = 60 * 1024


class StepFailed(Exception):
    """A step could not be done; says why in words for a status."""


class StepState(enum.StrEnum):
    """How far a step has come. A process that fails later moves its step from DONE to FAILED."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(slots=True)
class _Step:
    state: StepState = StepState.PENDING
    issue: str | None = None


class Steps:
    """The steps of one revision in their order."""

    def __init__(self, revision: int, names: Iterable[str]) -> None:
        self.revision = revision
        self._steps = {name: _Step() for name in names}
        self.is_finished = False

    def move(self, name: str, state: StepState, issue: str | None = None) -> None:
        """Set the state of a step; a failed and a skipped one say why."""
        step = self._steps[name]
        step.state = state
        step.issue = None if issue is None else issue[:MAX_ISSUE_CHARACTERS]

    def fail(self, name: str, issue: str) -> None:
        """Say of a step that has come to its end, or of one not known yet, that it failed."""
        self._steps.setdefault(name, _Step())
        self.move(name, StepState.FAILED, issue)

    def state_of(self, name: str) -> StepState | None:
        """How far a step has come; None for one that this revision does not have."""
        step = self._steps.get(name)
        return None if step is None else step.state

    @property
    def state(self) -> str:
        """`applying`, `applied`, or `failed` when any step is not done at the end."""
        if not self.is_finished:
            return "applying"
        return "applied" if all(step.state is StepState.DONE for step in self._steps.values()) else "failed"

    def to_document(self) -> Mapping[str, object]:
        """Write the status; where it would not fit a control message, what needs no attention is left out first."""
        items = [_item(name, step) for name, step in self._steps.items()]
        for leave_out in (StepState.DONE, StepState.PENDING, StepState.SKIPPED, StepState.RUNNING, StepState.FAILED):
            while _size(items) > MAX_STATUS_BYTES and any(item["state"] == leave_out for item in items):
                items = _without_half(items, leave_out)
        return {"revision": self.revision, "state": self.state, "steps": items}

    def __repr__(self) -> str:
        done = sum(step.state is StepState.DONE for step in self._steps.values())
        return f"<Steps of revision {self.revision} {self.state}: {done} of {len(self._steps)} done>"


def refusal(revision: int, issues: Sequence[str], *, step: str = "document") -> Mapping[str, object]:
    """Write the status of a revision that was not begun with."""
    told = [issue[:MAX_ISSUE_CHARACTERS] for issue in issues[:MAX_TOLD_ISSUES]]
    steps = [{"name": step, "state": StepState.FAILED.value, "issue": issue} for issue in told]
    return {"revision": revision, "state": "failed", "steps": steps}


def _item(name: str, step: _Step) -> dict[str, str]:
    item = {"name": name, "state": step.state.value}
    if step.issue is not None:
        item["issue"] = step.issue
    return item


def _size(items: list[dict[str, str]]) -> int:
    return len(json.dumps(items))


def _without_half(items: list[dict[str, str]], state: StepState) -> list[dict[str, str]]:
    """Leave out the first half of the items in a state: a status is not measured once for each item."""
    places = [place for place, item in enumerate(items) if item["state"] == state]
    left_out = set(places[: (len(places) + 1) // 2])
    return [item for place, item in enumerate(items) if place not in left_out]
