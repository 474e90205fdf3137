"""What a deputy tells of a set-up, read strictly: it goes on to the gateway in sandboxd's name."""

from collections.abc import Mapping
from typing import Final

from sallyport.wire.errors import RemoteProtocolError
from sandboxd.setup.steps import MAX_ISSUE_CHARACTERS, StepState

STATES: Final = ("applying", "applied", "failed")
_STEP_STATES: Final = frozenset(StepState)
# A document comes to some 400 steps at most; a name has a path or two ids in it.
MAX_STEPS: Final = 1024
MAX_NAME_CHARACTERS: Final = 4200
_MAX_REVISION: Final = 2**53


def read_status(message: Mapping[str, object]) -> Mapping[str, object]:
    """Return the status that a control message holds, written anew; raises RemoteProtocolError for anything else."""
    match message:
        case {"type": _, "revision": int(revision), "state": str(state), "steps": list(steps), **rest} if (
            not rest and type(revision) is int and 0 < revision <= _MAX_REVISION and state in STATES
        ):
            if len(steps) <= MAX_STEPS:
                return {"revision": revision, "state": state, "steps": [_step(each) for each in steps]}
    raise RemoteProtocolError("a status that is none")


def _step(step: object) -> Mapping[str, str]:
    match step:
        case {"name": str(name), "state": str(state), **rest} if (
            len(name) <= MAX_NAME_CHARACTERS and state in _STEP_STATES and rest.keys() <= {"issue"}
        ):
            told = {"name": _printable(name), "state": state}
            issue = rest.get("issue")
            if issue is None and not rest:
                return told
            if isinstance(issue, str) and len(issue) <= MAX_ISSUE_CHARACTERS:
                return {**told, "issue": _printable(issue)}
    raise RemoteProtocolError("a step of a status that is none")


def _printable(text: str) -> str:
    """Operators read it on terminals, and half a surrogate pair cannot be sent on."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else " " for letter in text)
