"""One application of a plan: its steps, their states, and what may follow what.

The shapes are those of contracts section 8. An application is a record that its steps write and the API reads; every
change is told to whoever watches it.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

# What the steps are called, in their order.
STEPS: Final = ("read_plan", "write_plan", "wait_for_gateways", "push_setup", "confirm_setup")


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
        """Return the step as the API tells it."""
        return {
            "name": self.name,
            "state": self.state.value,
            "attempt": self.attempt,
            "startedAt": self.started_at,
            "endedAt": self.ended_at,
            "issue": self.issue,
        }


def _steps() -> dict[str, Step]:
    return {name: Step(name=name) for name in STEPS}


@dataclass(slots=True, kw_only=True, eq=False)
class Application:
    """One application. `wall` tells unix seconds. Once in an end state it never changes again."""

    application_id: str
    sandbox_id: str
    revision: int
    wall: Callable[[], float]
    state: ApplicationState = ApplicationState.QUEUED
    steps: dict[str, Step] = field(default_factory=_steps)
    version: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def has_ended(self) -> bool:
        """Say whether nothing more will happen."""
        return self.state in ENDS

    def move(self, state: ApplicationState) -> None:
        """Go to another state, unless an end was reached before."""
        if not self.has_ended:
            self.state = state
            self._tell()

    def begin(self, name: str) -> None:
        """A step begins, or is tried again."""
        step = self.steps[name]
        step.state = StepState.RUNNING
        step.attempt += 1
        if step.started_at is None:
            step.started_at = int(self.wall())
        self._tell()

    def note(self, name: str, issue: str | None) -> None:
        """Say what a running step waits for."""
        if self.steps[name].issue != issue:
            self.steps[name].issue = issue
            self._tell()

    def end(self, name: str, state: StepState, issue: str | None = None) -> None:
        """A step is over."""
        step = self.steps[name]
        step.state = state
        step.issue = issue
        step.ended_at = int(self.wall())
        self._tell()

    async def changed_since(self, version: int) -> None:
        """Wait until the application is no longer at that version."""
        while self.version == version:
            await self._changed.wait()

    def to_document(self) -> dict[str, object]:
        """Return the application as the API tells it."""
        return {
            "applicationId": self.application_id,
            "sandboxId": self.sandbox_id,
            "revision": self.revision,
            "state": self.state.value,
            "steps": [step.to_document() for step in self.steps.values()],
        }

    def _tell(self) -> None:
        self.version += 1
        # Those who wait now are woken; the next wait is for the next change.
        self._changed.set()
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Application {self.application_id} of {self.sandbox_id} revision {self.revision}: {self.state.value}>"
