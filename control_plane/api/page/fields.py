"""Forms between the API and a browser: what a resolved form shows, and what somebody typed, as a document again.

Pure. A value that cannot be what the schema asks for is passed on as it was typed: the API says what is wrong with it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

_INTEGER: Final = re.compile(r"-?[0-9]{1,15}")
# What stands before the name of each field that was shown: a box that is not ticked is not sent.
SHOWN: Final = "*"

type Posted = Mapping[str, Sequence[str]]
type Issues = Sequence[Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field as a template writes it. `text` is what stands in it, `ticked` which choices are taken."""

    name: str
    label: str
    widget: str
    key: str
    help: str = ""
    text: str = ""
    placeholder: str = ""
    choices: Sequence[str] = ()
    ticked: frozenset[str] = frozenset()
    is_required: bool = False
    issues: Sequence[str] = ()


def fields_of(
    form: Mapping[str, Any], value: Mapping[str, Any], prefix: str, issues: Issues = (), pointer: str = ""
) -> list[Field]:
    """Return the fields of `{schema, fields}` with what is in them; secrets are empty."""
    members: Mapping[str, Mapping[str, Any]] = form["schema"].get("properties", {})
    required = form["schema"].get("required", ())
    return [
        _field(shown, members[shown["name"]], value, prefix, shown["name"] in required, issues, pointer)
        for shown in form["fields"]
        if shown["name"] in members
    ]


def read_fields(schema: Mapping[str, Any], stored: Mapping[str, Any], posted: Posted, prefix: str) -> dict[str, Any]:
    """Return the document that was typed in. What was not shown stays as it is stored; what is empty is absent."""
    members: Mapping[str, Mapping[str, Any]] = schema.get("properties", {})
    shown = [name for name in posted.get(prefix + SHOWN, ()) if name in members]
    found = {name: value for name, value in stored.items() if name not in shown}
    for name in shown:
        value = _read(members[name], posted.get(prefix + name, ()))
        is_default = name not in stored and members[name].get("default") == value
        if value is not None and not is_default:
            found[name] = value
    return found


def without_hidden(form: Mapping[str, Any], value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document without what the form does not ask for at the moment."""
    hidden = {each["name"] for each in form["fields"] if each.get("hidden")}
    return {name: each for name, each in value.items() if name not in hidden}


def unplaced(issues: Issues, pointers: Iterable[str]) -> list[Mapping[str, str]]:
    """Return the issues that are at none of these places, nor below one."""
    places = tuple(pointers)
    return [issue for issue in issues if not any(_is_at(issue["pointer"], place) for place in places)]


def messages_at(issues: Issues, place: str) -> list[str]:
    """Return what is wrong at a place, and below it with the rest of the pointer: `rules/0/id: ...`."""
    found = [
        (issue["pointer"].removeprefix(place)[1:], issue["message"])
        for issue in issues
        if _is_at(issue["pointer"], place)
    ]
    return [f"{below}: {message}" if below else sentence(message) for below, message in found]


def sentence(text: str) -> str:
    """Begin with a capital: what the API says is a part of a line, and here it stands by itself."""
    return text[:1].upper() + text[1:]


def _is_at(pointer: str, place: str) -> bool:
    return pointer == place or pointer.startswith(f"{place}/")


def _field(
    shown: Mapping[str, Any],
    member: Mapping[str, Any],
    value: Mapping[str, Any],
    prefix: str,
    is_required: bool,
    issues: Issues,
    pointer: str,
) -> Field:
    name, default = shown["name"], member.get("default")
    is_secret = member.get("writeOnly") is True
    current = None if is_secret else value.get(name)
    listed = member.get("items", {}).get("enum", ()) if member.get("type") == "array" else member.get("enum", ())
    choices = [str(each) for each in shown.get("choices", listed)]
    taken = default if current is None else current
    ticked = {str(each) for each in taken} if isinstance(taken, list) else {_text(taken)} if taken is not None else ()
    return Field(
        name=name,
        label=shown["label"],
        widget=_widget(shown["widget"], member, choices),
        key=prefix + name,
        help=shown.get("help", ""),
        text="" if current is None else _text(current),
        placeholder="" if is_secret or default is None else _text(default),
        choices=choices,
        ticked=frozenset(ticked),
        is_required=is_required,
        issues=messages_at(issues, f"{pointer}/{name}"),
    )


def _widget(widget: str, member: Mapping[str, Any], choices: Sequence[str]) -> str:
    """A list with choices is a box for each; one without is a line for each."""
    if member.get("type") == "array":
        return "boxes" if choices else "lines"
    if choices and widget not in ("password", "textarea"):
        return "select"
    return widget


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "\n".join(map(str, value))
    return str(value)


def _read(member: Mapping[str, Any], given: Sequence[str]) -> Any:  # noqa: ANN401  JSON
    """Return what one field holds; None where it holds nothing."""
    match member.get("type"):
        case "boolean":
            return "true" in given
        case "array":
            lines = [line.strip() for text in given for line in text.splitlines()]
            return [line for line in lines if line] or ([] if "default" in member else None)
        case "integer":
            text = given[0].strip() if given else ""
            return int(text) if _INTEGER.fullmatch(text) else text or None
        case _:
            return (given[0].replace("\r\n", "\n") if given else "") or None
