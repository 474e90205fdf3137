"""Schemas of the OpenAPI document as a tool has to show them: each with everything that it refers to. Pure."""

from collections.abc import Mapping
from typing import Any, Final

_COMPONENTS: Final = "#/components/schemas/"
_OWN: Final = "#/$defs/"

type Schema = dict[str, Any]


def standalone(schema: Mapping[str, Any], components: Mapping[str, Schema]) -> Schema:
    """Return a schema that needs no document around it; one that is a reference alone becomes what it refers to."""
    while set(schema) == {"$ref"}:
        schema = components[_component(schema["$ref"])]
    needed: dict[str, Schema] = {}
    root: Schema = _rewritten(schema, components, needed)
    return root | ({"$defs": needed} if needed else {})


def _rewritten(value: Any, components: Mapping[str, Schema], needed: dict[str, Schema]) -> Any:  # noqa: ANN401  JSON
    """Point references at `needed`, those of a discriminator too, and put there what they lead to."""
    if isinstance(value, list):
        return [_rewritten(each, components, needed) for each in value]
    if isinstance(value, dict):
        return {name: _rewritten(each, components, needed) for name, each in value.items()}
    if not isinstance(value, str) or not value.startswith(_COMPONENTS):
        return value
    name = _component(value)
    if name not in needed:
        needed[name] = {}  # before it is looked into: it may refer to itself
        needed[name] = _rewritten(components[name], components, needed)
    return _OWN + name


def _component(reference: str) -> str:
    return reference.removeprefix(_COMPONENTS)
