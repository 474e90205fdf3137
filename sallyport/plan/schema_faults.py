"""Pydantic's errors as faults of the document: our codes, our words, paths in the document's own names."""

from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, Final

from pydantic import ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from sallyport.plan.issue_codes import IssueCode
from sallyport.plan.strict_json import Fault, Path

# Where a value is one of several objects told apart by one member. Pydantic adds the chosen alternative to an
# error's location, which is no part of the document's path. `None` stands for any step.
type Unions = Sequence[tuple[tuple[str | None, ...], str]]
UNIONS: Final[Unions] = (
    (("image",), "source"),
    (("egressRoutes", None, "authInjection"), "type"),
    (("artifacts", None, "lifecycle", None, None), "op"),
    (("runtimeClients", None, "processes", None, "readiness"), "kind"),
    (("mcpServers", None, "transport"), "type"),
)

_TYPE_NAMES: Final = {
    "string_type": "a string",
    "int_type": "an integer",
    "bool_type": "true or false",
    "tuple_type": "an array",
    "mapping_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}


def schema_faults(
    error: ValidationError, document: object, *, already: Set[Path], most: int, unions: Unions = UNIONS
) -> list[Fault]:
    """Translate at most `most` errors. What is wrong at a path in `already` has been said.

    `unions` are those of the document, where it is no plan.
    """
    faults: list[Fault] = []
    for details in error.errors(include_url=False, include_input=False):
        path = _document_path(details["loc"], document, unions)
        fault = _fault(details, path, document)
        is_echo = path in already and fault.code is not IssueCode.UNKNOWN_FIELD
        if not is_echo and not _is_aftermath(details, path, document):
            faults.append(fault)
        if len(faults) == most:
            break
    return faults


def _fault(details: ErrorDetails, path: Path, document: object) -> Fault:
    kind = details["type"]
    context: Mapping[str, Any] = details.get("ctx", {})
    if kind in _TYPE_NAMES:
        return Fault(IssueCode.WRONG_TYPE, path, f"{_TYPE_NAMES[kind]} is expected")
    if kind == "union_tag_not_found":
        return Fault(IssueCode.MISSING_FIELD, (*path, _discriminator(context)), "this field is required")
    if kind == "union_tag_invalid":
        return Fault(
            IssueCode.UNKNOWN_VALUE, (*path, _discriminator(context)), f"one of {context['expected_tags']} is expected"
        )
    if kind in _WORDS:
        code, words = _WORDS[kind]
        return Fault(code, path, words(context))
    if "message" in context:
        return Fault(IssueCode(kind), path, str(context["message"]))  # made by sallyport.plan.fields.refusal
    return Fault(IssueCode.MALFORMED, path, "not a value this field can have")


_WORDS: Final[Mapping[str, tuple[IssueCode, Callable[[Mapping[str, Any]], str]]]] = {
    "missing": (IssueCode.MISSING_FIELD, lambda _: "this field is required"),
    "extra_forbidden": (IssueCode.UNKNOWN_FIELD, lambda _: "no such field"),
    "literal_error": (IssueCode.UNKNOWN_VALUE, lambda context: f"{context['expected']} is expected"),
    "greater_than_equal": (IssueCode.OUT_OF_RANGE, lambda context: f"at least {context['ge']} is expected"),
    "less_than_equal": (IssueCode.OUT_OF_RANGE, lambda context: f"at most {context['le']} is expected"),
    "too_short": (IssueCode.OUT_OF_RANGE, lambda context: f"at least {context['min_length']} item is expected"),
    "too_long": (IssueCode.OUT_OF_RANGE, lambda context: f"at most {context['max_length']} items are expected"),
    "string_too_long": (IssueCode.OUT_OF_RANGE, lambda context: f"at most {context['max_length']} characters"),
    "string_pattern_mismatch": (IssueCode.MALFORMED, lambda context: f"does not match {context['pattern']}"),
}


def _discriminator(context: Mapping[str, Any]) -> str:
    return str(context["discriminator"]).strip("'")


def _is_aftermath(details: ErrorDetails, path: Path, document: object) -> bool:
    """Whether a list is called too short only because its items were refused, each with an error of its own."""
    return details["type"] == "too_short" and bool(_value_at(document, path))


def _value_at(document: object, path: Path) -> object:
    for step in path:
        document = document[step]  # type: ignore[index]  # the path was walked when it was made
    return document


def _document_path(location: tuple[int | str, ...], document: object, unions: Unions) -> Path:
    """Take the alternatives of unions, and the mark of a refused member name, out of an error's location."""
    path: list[int | str] = []
    at_union = False
    for index, step in enumerate(location):
        if at_union:
            at_union = False
            continue
        if step == "[key]" and not _holds(document, path, step):
            continue
        if isinstance(step, str) and "_" in step and not _holds(document, path, step):
            step = to_camel(step)  # a default that failed is located by its attribute's name
        if isinstance(step, str) and index + 1 < len(location) and not _holds(document, path, step):
            continue  # the alternative of a union that UNIONS does not know: other documents have their own
        path.append(step)
        at_union = any(_is_at(path, place) for place, _ in unions)
    return tuple(path)


def _is_at(path: list[int | str], place: tuple[str | None, ...]) -> bool:
    return len(path) == len(place) and all(expected in (None, step) for step, expected in zip(path, place, strict=True))


def _holds(document: object, path: list[int | str], name: str) -> bool:
    parent = _value_at(document, tuple(path))
    return isinstance(parent, Mapping) and name in parent
