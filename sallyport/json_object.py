"""One JSON object, read strictly: each member once, nothing that JSON does not know (RFC 8259)."""

import json


def json_object(document: bytes) -> dict[str, object]:
    """Parse one JSON object; raises ValueError for anything else, however deep or odd."""
    try:
        value = json.loads(document.decode("utf-8"), object_pairs_hook=unique_members, parse_constant=_refuse_constant)
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


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
