"""How far denials have been read, of each gateway process that was asked: one text, given back as it is.

A process has a name of its own from its start on, and numbers its denials; a cursor is `<name>-<number>` of each,
joined by dots. So it needs no clock, holds through a restart, and can be shown to every gateway: each finds its own.
"""

import re
from collections.abc import Sequence
from typing import Final

MAX_PROCESSES: Final = 64
PATTERN: Final = rf"[0-9a-f]{{8}}-[0-9]{{1,16}}(\.[0-9a-f]{{8}}-[0-9]{{1,16}}){{0,{MAX_PROCESSES - 1}}}"
MAX_LENGTH: Final = MAX_PROCESSES * len("01234567-0123456789012345.")

_WHOLE: Final = re.compile(PATTERN)


def is_cursor(text: str) -> bool:
    """Whether a text is one of ours."""
    return len(text) <= MAX_LENGTH and _WHOLE.fullmatch(text) is not None


def number_of(cursor: str, name: str) -> int:
    """Return how far a process was read, 0 where it was not."""
    for each in cursor.split("."):
        found, _, number = each.partition("-")
        if found == name and number:
            return int(number)
    return 0


def merge(before: str, latest: Sequence[str]) -> str:
    """Return a cursor with what was read last; processes that have not answered keep theirs while there is room."""
    places = [*before.split("."), *(each for cursor in latest for each in cursor.split("."))]
    numbers: dict[str, str] = {}
    for name, _, number in (place.partition("-") for place in places if place):
        numbers.pop(name, None)  # the newest stand last
        numbers[name] = number
    return ".".join(f"{name}-{number}" for name, number in [*numbers.items()][-MAX_PROCESSES:])
