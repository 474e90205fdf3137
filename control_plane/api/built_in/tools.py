"""A tool as it is shown, and a call of it as the request that it is. Pure.

What a tool takes and gives back is what the OpenAPI document says of its operation; nothing is written down twice.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from mcp_types import Tool, ToolAnnotations

from control_plane.api.built_in.operations import ARGUMENTS, OPERATIONS, Effect, Operation
from control_plane.api.built_in.schemas import Schema, standalone
from control_plane.api.openapi import path_shape
from control_plane.refusals import ControlCode, FieldIssue, Refused

# What the key says already: no tool takes it.
BOUND: Final = frozenset({"organizationId", "instanceId"})
# Every id of ours; nothing that would lead to another path.
_SEGMENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


class Asked(NamedTuple):
    """The request that a call is."""

    method: str
    path: str
    query: dict[str, str]
    body: dict[str, Any] | None


class BuiltInTool:
    """One tool."""

    def __init__(self, operation: Operation, item: Mapping[str, Any], components: Mapping[str, Schema]) -> None:
        """item is what the OpenAPI document says of the operation."""
        self.operation = operation
        parameters = item.get("parameters", ())
        in_path = re.findall(r"{(\w+)}", operation.path)
        path = [each for each in parameters if each["in"] == "path"]
        query = [each for each in parameters if each["in"] == "query"]
        body = _body(item, components)
        self._in_path = tuple(in_path)
        self._in_query = tuple(each["name"] for each in query)
        # The members of a body, by the argument of each; None where the operation takes none.
        self._in_body = None if body is None else {operation.renamed.get(name, name): name for name in body.members}
        shown = dict(zip(in_path, (each["schema"] for each in path), strict=True))
        shown |= {each["name"]: each["schema"] for each in query}
        required = [*in_path, *(each["name"] for each in query if each["required"])]
        if body is not None and self._in_body is not None:
            shown |= {name: body.members[member] for name, member in self._in_body.items()}
            required += [name for name, member in self._in_body.items() if member in body.required]
        schema = {
            "type": "object",
            "properties": {
                name: each | {"description": ARGUMENTS[name]} for name, each in shown.items() if name not in BOUND
            },
            "required": [name for name in required if name not in BOUND],
            "additionalProperties": False,
        }
        self.shown = Tool(
            name=operation.name,
            title=operation.title,
            description=operation.description,
            input_schema=standalone(schema, components),
            output_schema=_output(item, components),
            annotations=_annotations(operation),
        )

    def asked(self, arguments: Mapping[str, Any], bound: Mapping[str, str]) -> Asked:
        """Return the request of a call; bound are the values of BOUND. Raises Refused."""
        known = {*self.shown.input_schema["properties"]}
        issues = [
            *(FieldIssue("unknown_field", f"/{name}", "no such argument") for name in arguments if name not in known),
            *(_missing(name) for name in self.shown.input_schema["required"] if name not in arguments),
        ]
        path = self.operation.path
        for name in (each for each in self._in_path if each in arguments):
            segment = _text(arguments[name])
            if segment is None or _SEGMENT.fullmatch(segment) is None:
                issues.append(_malformed(name))
            else:
                path = path.replace(f"{{{name}}}", segment)
        given = {**arguments, **bound}
        query = {}
        for name in (each for each in self._in_query if each in given):
            text = _text(given[name])
            if text is None:
                issues.append(_malformed(name))
            else:
                query[name] = text
        if issues:
            raise Refused(ControlCode.INVALID_REQUEST, f"{len(issues)} issues; nothing changed", issues=issues)
        body = None
        if self._in_body is not None:
            body = {member: given[name] for name, member in self._in_body.items() if name in given}
        return Asked(self.operation.method, path, query, body)


class _Body(NamedTuple):
    members: Mapping[str, Schema]
    required: frozenset[str]


def built_in_tools(document: Mapping[str, Any]) -> dict[str, BuiltInTool]:
    """Return the tools by name, of an OpenAPI document."""
    items = {path_shape(path): item for path, item in document["paths"].items()}
    components = document["components"]["schemas"]
    return {
        each.name: BuiltInTool(each, items[path_shape(each.path)][each.method.lower()], components)
        for each in OPERATIONS
    }


def _body(item: Mapping[str, Any], components: Mapping[str, Schema]) -> _Body | None:
    body = item.get("requestBody")
    if body is None:
        return None
    schema = body["content"]["application/json"]["schema"]
    while "$ref" in schema:
        schema = components[schema["$ref"].rpartition("/")[2]]
    return _Body(schema["properties"], frozenset(schema.get("required", ())))


def _output(item: Mapping[str, Any], components: Mapping[str, Schema]) -> Schema | None:
    """Return the schema of what is answered; None where nothing is."""
    good = next(answer for status, answer in item["responses"].items() if status.startswith("2"))
    if "content" not in good:
        return None
    return standalone(good["content"]["application/json"]["schema"], components)


def _annotations(operation: Operation) -> ToolAnnotations:
    return ToolAnnotations(
        read_only_hint=operation.effect is Effect.READS,
        destructive_hint=operation.effect is Effect.ENDS,
        # What has started or ended is left as it is.
        idempotent_hint=True,
        open_world_hint=False,
    )


def _missing(name: str) -> FieldIssue:
    return FieldIssue("missing_field", f"/{name}", "this argument is required")


def _malformed(name: str) -> FieldIssue:
    return FieldIssue("malformed", f"/{name}", "not a value this argument can have")


def _text(value: object) -> str | None:
    """Return a value as it stands in a URL; None where it cannot."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int) else None
