"""A form as somebody is shown it: the schema narrowed to what can be chosen here and now, and how each member looks.

A model decides what is valid, a definition's form only what is shown of it; where there is none, every member is. No
form holds a value: a secret's least of all, which no form is even told.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, Literal

from control_plane.definitions.contract import Form, FormContext, FormField
from sallyport.plan.fields import Model

type Schema = dict[str, Any]

_WORD_START: Final = re.compile("[A-Z]")


def resolve_form[T: Model, C: Model](
    model: type[Model], form: Form[T, C] | None, context: FormContext[T, C]
) -> dict[str, object]:
    """Return `{schema, fields}`. A hidden field is not in the schema; what a form does not name is only there."""
    schema = schema_of(model)
    members: dict[str, Schema] = schema.get("properties", {})
    told = {name: value for name, value in context.value.items() if not _is_secret(members.get(name, {}))}
    named = _default_fields(members) if form is None else form(replace(context, value=told))
    fields = [_as_shown(field, members[field.name]) for field in named if field.name in members]
    # Whose account it is, a provider says and no form asks.
    asked_of_nobody = {name for name, member in members.items() if member.get("readOnly") is True}
    hidden = asked_of_nobody | {field.name for field in fields if field.hidden}
    kept = {name: member for name, member in members.items() if name not in hidden}
    for field in fields:
        if field.choices is not None and field.name in kept:
            kept[field.name] = _narrowed(kept[field.name], list(field.choices))
    if members:
        schema["properties"] = kept
    if "required" in schema:
        schema["required"] = [name for name in schema["required"] if name in kept]
    shown = [_document(replace(field, hidden=field.name in hidden)) for field in fields]
    return {"schema": schema, "fields": shown}


def schema_of(model: type[Model]) -> Schema:
    """Return a model's JSON Schema. It has no `null`, which no document may hold: what is optional may be left out."""
    schema: Schema = without_null(model.model_json_schema(by_alias=True))
    return schema


def without_null(schema: Any) -> Any:  # noqa: ANN401  JSON
    """Return a schema in which what may be left out may not be null."""
    if isinstance(schema, list):
        return [without_null(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {name: without_null(value) for name, value in schema.items() if (name, value) != ("default", None)}
    alternatives = kept.get("anyOf")
    if isinstance(alternatives, list):
        left = [each for each in alternatives if each != {"type": "null"}]
        kept["anyOf"] = left
        if len(left) == 1:
            del kept["anyOf"]
            kept = left[0] | kept
    return kept


def _is_secret(member: Mapping[str, Any]) -> bool:
    return member.get("writeOnly") is True


def _default_fields(members: Mapping[str, Schema]) -> list[FormField]:
    return [
        FormField(
            name=name,
            label=_WORD_START.sub(r" \g<0>", name).capitalize(),
            widget=_widget(member),
            choices=tuple(map(str, member["enum"])) if "enum" in member else None,
        )
        for name, member in members.items()
    ]


type Widget = Literal["text", "password", "textarea", "select", "checkbox", "list", "number"]


def _widget(member: Mapping[str, Any]) -> Widget:
    if "enum" in member:
        return "select"
    match member.get("type"):
        case "boolean":
            return "checkbox"
        case "integer" | "number":
            return "number"
        case "array":
            return "list"
        case _:
            return "text"


def _as_shown(field: FormField, member: Mapping[str, Any]) -> FormField:
    """A secret is typed unseen, unless it has lines, as a private key has: those need an area."""
    if not _is_secret(member) or field.widget == "textarea":
        return field
    return replace(field, widget="password", choices=None)


def _narrowed(member: Schema, choices: list[str]) -> Schema:
    """Say what can be chosen: of a list each item, of anything else the value."""
    if member.get("type") == "array":
        return member | {"items": {**member.get("items", {}), "enum": choices}}
    return member | {"enum": choices}


def _document(field: FormField) -> dict[str, object]:
    shown: dict[str, object] = {"name": field.name, "label": field.label, "widget": field.widget}
    if field.help:
        shown["help"] = field.help
    if field.choices is not None:
        shown["choices"] = list(field.choices)
    return shown | ({"hidden": True} if field.hidden else {})
