"""The variables of a manifest: what each may hold, where it may stand, and how it is asked for.

A variable's type keeps its value within the place it is written in: no slash, no dots for a segment, no line break.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, StringConstraints, TypeAdapter, ValidationError, create_model

from control_plane.definitions.contract import FormField, Nothing
from sallyport.host import HostError, normalize_host
from sallyport.plan.fields import Model, Text, refusal
from sallyport.plan.issue_codes import IssueCode

MAX_ITEMS: Final = 100
MAX_CHOICES: Final = 100

_LABEL: Final = r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$"


def _check_host(text: str) -> str:
    try:
        if normalize_host(text) == text:
            return text
    except HostError as error:
        raise refusal(IssueCode.MALFORMED, str(error)) from None
    raise refusal(IssueCode.MALFORMED, "a host is written in lower case, without a dot at its end")


# It begins with no dot, so it is never one that leads elsewhere.
Segment = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,127}$")]

VariableType = Literal["host", "dns-label", "segment", "segments", "text", "email", "choice"]

_TYPES: Final[Mapping[str, Any]] = {
    "host": Annotated[str, AfterValidator(_check_host)],
    "dns-label": Annotated[str, StringConstraints(pattern=_LABEL)],
    "segment": Segment,
    "segments": Annotated[tuple[Segment, ...], Field(strict=False, max_length=MAX_ITEMS)],
    "text": Annotated[str, StringConstraints(pattern=r"^[!-~](?:[ -~]{0,510}[!-~])?$")],
    "email": Annotated[str, StringConstraints(pattern=r"^[!-9;-?A-~]{1,128}@[A-Za-z0-9.-]{1,120}$")],
}
_SAMPLES: Final[Mapping[str, str | tuple[str, ...]]] = {
    "host": "host.example",
    "dns-label": "label",
    "segment": "segment",
    "segments": ("one", "two"),
    "text": "text",
    "email": "name@host.example",
}


class Variable(Model):
    """One member of a configuration. Without a default it has to be given; `segments` are none by default."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][A-Za-z0-9]{0,39}$")]
    type: VariableType
    label: Text
    help: Text | None = None
    choices: Annotated[tuple[Segment, ...], Field(strict=False, min_length=1, max_length=MAX_CHOICES)] | None = None
    default: str | None = None

    @property
    def sample(self) -> str | tuple[str, ...]:
        """A value it may have, for a manifest to be checked with."""
        return _SAMPLES[self.type] if self.choices is None else self.choices[0]

    @property
    def is_label(self) -> bool:
        """Whether it can only be a label of a host."""
        return self.type == "dns-label" or all(re.fullmatch(_LABEL, choice) for choice in self.choices or ("",))

    @property
    def value_type(self) -> Any:  # noqa: ANN401  an annotation
        """The type of its value."""
        return _TYPES[self.type] if self.choices is None else Literal[self.choices]


def faults_of(variable: Variable) -> list[tuple[str, str]]:
    """Return (member, message) of what no single member can say."""
    if (variable.type == "choice") != (variable.choices is not None):
        return [("choices", "a variable of type choice has choices, and no other has")]
    if variable.default is None:
        return []
    if variable.type == "segments":
        return [("default", "segments have no default: where none is given there are none")]
    try:
        TypeAdapter(variable.value_type).validate_python(variable.default)
    except ValidationError:
        return [("default", f"not a value of type {variable.type}")]
    return []


def model_of(title: str, variables: Sequence[Variable], further: Mapping[str, Any]) -> type[Model]:
    """Make the model of a configuration: a member for each variable, and further ones as they are."""
    if not variables and not further:
        return Nothing
    members: dict[str, Any] = {}
    for variable in variables:
        default = () if variable.type == "segments" else variable.default
        # Called in JSON as it is; as an attribute it must not hide one that every model has.
        field = Field(alias=variable.name) if default is None else Field(default, alias=variable.name)
        members[f"of_{variable.name}"] = (variable.value_type, field)
    return create_model(title, __base__=Model, **members, **further)


def fields_of(variables: Sequence[Variable]) -> list[FormField]:
    """Return how a configuration is asked for."""
    return [_field(variable) for variable in variables]


def _field(variable: Variable) -> FormField:
    label, help_text = variable.label, variable.help or ""
    match variable.type:
        case "choice":
            return FormField(name=variable.name, label=label, help=help_text, widget="select", choices=variable.choices)
        case "segments":
            return FormField(name=variable.name, label=label, help=help_text, widget="list")
        case _:
            return FormField(name=variable.name, label=label, help=help_text)
