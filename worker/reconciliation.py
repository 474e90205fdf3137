"""Declared against actual: what differs is repaired, told in the log, counted, and shown at `/v1/reconciliation`.

Each kind of things is a part of its own, with its own rounds, so that an installation that takes minutes keeps nobody
else waiting. A part says what is declared and what is there, as item to state; it repairs one item at a time.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from sallyport.net.tasks import TaskSet

# Repairs of one part at once: some are installations.
REPAIRS_AT_ONCE: Final = 4
# What of one round is shown; all of it is counted.
SHOWN: Final = 100

_log = structlog.get_logger(__name__)


class CannotTell(Exception):
    """What is declared or what is there cannot be asked now; str() says why."""


class NotRepaired(Exception):
    """A difference is still there; str() says why and what to do."""


class Reconciled(Protocol):
    """One kind of things. An item that stands in one of the two alone is missing, or is there without being meant to.

    What is, is asked first. So what is declared before it is there, and is undeclared after it is gone, is never taken
    for something that nobody means to be there.
    """

    @property
    def name(self) -> str:
        """What it is called where it is told of."""

    @property
    def is_local(self) -> bool:
        """Whether it needs nobody but this machine: then its first round is over before anything is served."""

    async def actual(self) -> Mapping[str, str]:
        """Return what is, by item; raises CannotTell."""

    async def declared(self) -> Mapping[str, str]:
        """Return what is meant to be, by item; raises CannotTell."""

    async def repair(self, item: str, declared: str | None, actual: str | None) -> None:
        """Make what is declared of one item come true; raises NotRepaired."""


@dataclass(frozen=True, slots=True)
class Drift:
    """One difference; None: it stands in the other alone."""

    item: str
    declared: str | None
    actual: str | None


def differences(declared: Mapping[str, str], actual: Mapping[str, str]) -> list[Drift]:
    """Return what differs, by item."""
    return [
        Drift(item, declared.get(item), actual.get(item))
        for item in sorted({*declared, *actual})
        if declared.get(item) != actual.get(item)
    ]


@dataclass(slots=True)
class Rounds:
    """What the rounds of one part came to. issue says why the last one could not tell; `failing` is what it left."""

    runs: int = 0
    last_run_at: float | None = None
    issue: str | None = None
    counts: Counter[str] = field(default_factory=Counter)
    drift: dict[Drift, str | None] = field(default_factory=dict)
    failing: frozenset[Drift] = frozenset()

    def to_document(self, name: str) -> dict[str, object]:
        """Return it as the API tells it."""
        return {
            "name": name,
            "runs": self.runs,
            "lastRunAt": None if self.last_run_at is None else int(self.last_run_at),
            "issue": self.issue,
            **{outcome: self.counts[outcome] for outcome in OUTCOMES},
            "drift": [_shown(drift, issue) for drift, issue in list(self.drift.items())[:SHOWN]],
        }


OUTCOMES: Final = ("found", "repaired", "failed")


class Reconciliation:
    """The rounds of all parts. `wall` tells unix seconds."""

    def __init__(self, parts: Sequence[Reconciled], *, every_seconds: float, wall: Callable[[], float]) -> None:
        self._parts = {part.name: part for part in parts}
        self._every_seconds = every_seconds
        self._wall = wall
        self._wakes = {part.name: asyncio.Event() for part in parts}
        self.rounds = {part.name: Rounds() for part in parts}

    async def prepare(self) -> None:
        """Go one round of what needs nobody else."""
        for part in self._parts.values():
            if part.is_local:
                await self.go_round(part)

    def begin(self, tasks: TaskSet) -> "list[asyncio.Task[None]]":
        """Go round after round, each part in a task of its own, until those are cancelled."""
        return [
            tasks.spawn(self._keep_going(part), name=f"reconciliation of {part.name}") for part in self._parts.values()
        ]

    def wake(self, name: str) -> None:
        """Go a round of one part now: something has changed that it is about."""
        self._wakes[name].set()

    async def go_round(self, part: Reconciled) -> None:
        """Compare once, and repair what differs."""
        rounds = self.rounds[part.name]
        rounds.runs, rounds.last_run_at = rounds.runs + 1, self._wall()
        try:
            actual = await part.actual()
            drift = differences(await part.declared(), actual)
        except CannotTell as error:
            if rounds.issue != str(error):
                _log.warning("reconciliation_cannot_tell", part=part.name, detail=str(error))
            rounds.issue = str(error)
            return
        rounds.issue = None
        rounds.counts["found"] += len(drift)
        at_once = asyncio.Semaphore(REPAIRS_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            repairs = {each: group.create_task(self._repair(part, each, at_once)) for each in drift}
        rounds.drift = {each: repair.result() for each, repair in repairs.items()}
        rounds.failing = frozenset(each for each, issue in rounds.drift.items() if issue is not None)

    async def _keep_going(self, part: Reconciled) -> None:
        wake = self._wakes[part.name]
        while True:
            wake.clear()
            await self.go_round(part)
            try:
                # Some workers started together; they need not ask together.
                async with asyncio.timeout(self._every_seconds * random.uniform(0.9, 1.0)):
                    await wake.wait()
            except TimeoutError:
                pass

    async def _repair(self, part: Reconciled, drift: Drift, at_once: asyncio.Semaphore) -> str | None:
        """Repair one difference; return why that failed, if it did."""
        rounds = self.rounds[part.name]
        told = {"part": part.name, "item": drift.item, "declared": drift.declared, "actual": drift.actual}
        # What fails again and again is told once.
        tell = _log.debug if drift in rounds.failing else _log.warning
        try:
            async with at_once:
                await part.repair(drift.item, drift.declared, drift.actual)
        except NotRepaired as error:
            rounds.counts["failed"] += 1
            tell("drift_not_repaired", **told, detail=str(error))
            return str(error)
        rounds.counts["repaired"] += 1
        _log.info("drift_repaired", **told)
        return None

    def to_document(self) -> dict[str, object]:
        """Return it as the API tells it."""
        return {"parts": [rounds.to_document(name) for name, rounds in self.rounds.items()]}

    def __repr__(self) -> str:
        return f"<Reconciliation of {', '.join(self._parts)}>"


def _shown(drift: Drift, issue: str | None) -> dict[str, object]:
    shown: dict[str, object] = {"item": drift.item, "declared": drift.declared, "actual": drift.actual}
    return shown | ({"outcome": "repaired"} if issue is None else {"outcome": "failed", "issue": issue})
