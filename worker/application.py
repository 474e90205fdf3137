"""One application of a plan: its steps, their states, and what may follow what.

The shapes are those of contracts section 8. While it is carried out an application is a record that its steps write;
what is kept of it and how it stands in the end is in `durable/workflows.py`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

# What the steps are called, in their order. Applications that were begun before a restart go on in this order after it:
# whoever changes it raises STEPS_VERSION in durable/workflows.py.
STEPS: Final = (
    "read_plan",
    "start_integrations",
    "write_plan",
    "wait_for_gateways",
    "push_setup",
    "confirm_setup",
)


class ApplicationState(Enum):
    """Where an application is. The last four are ends."""

    QUEUED = "queued"
    RUNNING = "running"
    APPLIED = "applied"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


ENDS: Final = frozenset(
    {ApplicationState.APPLIED, ApplicationState.FAILED, ApplicationState.CANCELLED, ApplicationState.SUPERSEDED}
)


class StepState(Enum):
    """Where a step is."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(slots=True, kw_only=True)
class Step:
    """One step; times are unix seconds. issue says what it waits for or why it failed, and what to do."""

    name: str
    state: StepState = StepState.PENDING
    attempt: int = 0
    started_at: int | None = None
    ended_at: int | None = None
    issue: str | None = None

    def to_document(self) -> dict[str, object]:
        """Return the step as the API tells it and the database keeps it."""
        return {
            "name": self.name,
            "state": self.state.value,
            "attempt": self.attempt,
            "startedAt": self.started_at,
            "endedAt": self.ended_at,
            "issue": self.issue,
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Step":
        """Return the step of a document of `to_document`."""
        return cls(
            name=document["name"],
            state=StepState(document["state"]),
            attempt=document["attempt"],
            started_at=document["startedAt"],
            ended_at=document["endedAt"],
            issue=document["issue"],
        )


def _steps() -> dict[str, Step]:
    return {name: Step(name=name) for name in STEPS}


@dataclass(slots=True, kw_only=True, eq=False)
class Application:
    """One application."""

    application_id: str
    sandbox_id: str
    revision: int
    state: ApplicationState = ApplicationState.QUEUED
    steps: dict[str, Step] = field(default_factory=_steps)

    @property
    def has_ended(self) -> bool:
        """Say whether nothing more will happen."""
        return self.state in ENDS

    def begin(self, name: str, now: float) -> None:
        """A step begins, or is tried again."""
        step = self.steps[name]
        step.state = StepState.RUNNING
        step.attempt += 1
        if step.started_at is None:
            step.started_at = int(now)

    def note(self, name: str, issue: str | None) -> None:
        """Say what a running step waits for."""
        self.steps[name].issue = issue

    def end(self, name: str, now: float, state: StepState, issue: str | None = None) -> None:
        """A step is over."""
        step = self.steps[name]
        step.state = state
        step.issue = issue
        step.ended_at = int(now)

    def restore(self, steps: Iterable[Mapping[str, Any]]) -> None:
        """Go on from what was kept of the steps."""
        for document in steps:
            self.steps[document["name"]] = Step.from_document(document)

    def step_documents(self) -> list[dict[str, object]]:
        """Return what is to be kept of the steps."""
        return [step.to_document() for step in self.steps.values()]

    def to_document(self) -> dict[str, object]:
        """Return the application as the API tells it."""
        return {
            "applicationId": self.application_id,
            "sandboxId": self.sandbox_id,
            "revision": self.revision,
            "state": self.state.value,
            "steps": self.step_documents(),
        }

    def __repr__(self) -> str:
        return f"<Application {self.application_id} of {self.sandbox_id} revision {self.revision}: {self.state.value}>"
