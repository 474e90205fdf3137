"""What a check found: a state, what was seen, and what to do about it."""

import enum
from dataclasses import dataclass


class State(enum.StrEnum):
    """How a check ended. Only FAILED makes `sallyport doctor` fail."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One row of the doctor's table. Nothing in it is secret."""

    check: str
    state: State
    seen: str
    remedy: str = ""

    def to_document(self) -> dict[str, str]:
        """The finding as JSON carries it."""
        fields = {"check": self.check, "state": self.state.value, "seen": self.seen, "remedy": self.remedy}
        return {name: value for name, value in fields.items() if value}


def ok(check: str, seen: str) -> Finding:
    """Return a finding that needs nothing done."""
    return Finding(check=check, state=State.OK, seen=seen)


def failed(check: str, seen: str, remedy: str) -> Finding:
    """Return a finding that fails the examination."""
    return Finding(check=check, state=State.FAILED, seen=seen, remedy=remedy)


def warning(check: str, seen: str, remedy: str) -> Finding:
    """Return a finding that somebody should know of."""
    return Finding(check=check, state=State.WARNING, seen=seen, remedy=remedy)


def skipped(check: str, seen: str, remedy: str = "") -> Finding:
    """Return the finding of a check that could not be made."""
    return Finding(check=check, state=State.SKIPPED, seen=seen, remedy=remedy)
