"""Variables: no value leads out of the place it is written in."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from control_plane.definitions.contract import Nothing
from control_plane.definitions.generic_http.variables import Variable, faults_of, fields_of, model_of


def variable(kind: str, **members: object) -> Variable:
    return Variable.model_validate({"name": "it", "type": kind, "label": "It", **members})


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("host", "api.example.com"),
        ("host", "127.0.0.1"),
        ("dns-label", "acme-7"),
        ("segment", "a.b_c-d~e"),
        ("segments", ["a", "b"]),
        ("text", "a b: c"),
        ("email", "ada+x@example.com"),
    ],
)
def test_a_value_of_each_type(kind: str, value: object) -> None:
    found = TypeAdapter(variable(kind).value_type).validate_python(value)
    assert found == (tuple(value) if isinstance(value, list) else value)
    sample = variable(kind).sample
    assert TypeAdapter(variable(kind).value_type).validate_python(sample) == sample


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("host", "API.example.com"),
        ("host", "api.example.com."),
        ("host", "api.example.com:443"),
        ("host", "*.example.com"),
        ("host", "a/b"),
        ("host", "0x7f.1"),
        ("dns-label", "a.b"),
        ("dns-label", "-a"),
        ("dns-label", ""),
        ("segment", ".."),
        ("segment", "."),
        ("segment", ".a"),
        ("segment", "a/b"),
        ("segment", "a%2Fb"),
        ("segment", "a?b"),
        ("segment", "a\n"),
        ("segments", ["a", ".."]),
        ("segments", "ab"),
        ("text", "a\r\nX: y"),
        ("text", " a"),
        ("text", "é"),
        ("text", 7),
        ("email", "ada"),
        ("email", "a:b@example.com"),
        ("email", "a@b@c"),
    ],
)
def test_what_would_lead_elsewhere_is_refused(kind: str, value: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(variable(kind).value_type).validate_python(value)


@pytest.mark.parametrize(
    ("found", "members"),
    [
        (variable("segment", default="a"), []),
        (variable("segment", default="a/b"), ["default"]),
        (variable("choice", choices=["a", "b"], default="b"), []),
        (variable("choice", choices=["a", "b"], default="c"), ["default"]),
        (variable("choice"), ["choices"]),
        (variable("text", choices=["a"]), ["choices"]),
        (variable("segments", default="a"), ["default"]),
    ],
)
def test_what_a_variable_contradicts_itself_in(found: Variable, members: list[str]) -> None:
    assert [member for member, _ in faults_of(found)] == members


@pytest.mark.parametrize(
    ("found", "is_label"),
    [
        (variable("dns-label"), True),
        (variable("choice", choices=["eu", "us-1"]), True),
        (variable("choice", choices=["eu", "a.b"]), False),
        (variable("choice", choices=["EU"]), False),
        (variable("segment"), False),
    ],
)
def test_a_choice_is_a_label_where_every_word_is_one(found: Variable, is_label: bool) -> None:
    assert found.is_label is is_label


def test_a_model_has_a_member_for_each_variable() -> None:
    variables = [
        variable("segment"),
        variable("choice", choices=["a", "b"], default="a").model_copy(update={"name": "copy"}),
        variable("segments").model_copy(update={"name": "json"}),
    ]
    model = model_of("Config", variables, {})
    found: Any = model.model_validate({"it": "x", "json": ["1"]}).model_dump(by_alias=True)
    assert found == {"it": "x", "copy": "a", "json": ("1",)}
    with pytest.raises(ValidationError):
        model.model_validate({})
    with pytest.raises(ValidationError):
        model.model_validate({"it": "x", "copy": "c"})
    assert model_of("Config", [], {}) is Nothing


def test_each_type_has_its_widget() -> None:
    fields = fields_of([variable("text", help="Why."), variable("choice", choices=["a"]), variable("segments")])
    assert [(field.widget, field.choices) for field in fields] == [("text", None), ("select", ("a",)), ("list", None)]
    assert fields[0].help == "Why."
