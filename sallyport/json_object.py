"""One JSON object, read strictly: each member once, nothing that JSON does not know (RFC 8259)."""

import json
import math


def json_object(document: bytes) -> dict[str, object]:
    """Parse one JSON object; raises ValueError for anything else, however deep or odd."""
    try:
        value = json.loads(
            document.decode("utf-8"),
            object_pairs_hook=unique_members,
            parse_constant=_refuse_constant,
            parse_float=_read_float,
        )
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def unique_members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Refuse an object that names a member twice (json's object_pairs_hook): readers differ in which one they take."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member appears twice")
    return members


def _read_float(text: str) -> float:
    # Python would read it as infinity, and write that down as no JSON at all.
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
