"""Templates: texts between variables, and nothing in braces that is not one."""

import pytest

from control_plane.definitions.generic_http.template import Template, TemplateError, parse_template


def test_a_text_without_variables_is_itself() -> None:
    assert parse_template("/v1").one({}) == "/v1"
    assert parse_template("") == Template(("",), ())


def test_variables_are_replaced_where_they_stand() -> None:
    template = parse_template("https://{target.host}/{binding.a}{connection.b}")
    assert template.names == ("target.host", "binding.a", "connection.b")
    assert template.one({"target.host": "h", "binding.a": "x", "connection.b": "y"}) == "https://h/xy"


def test_a_list_makes_a_text_of_each_item() -> None:
    template = parse_template("/{binding.a}/{binding.list}")
    assert template.render({"binding.a": "x", "binding.list": ("1", "2")}) == ["/x/1", "/x/2"]
    assert template.render({"binding.a": "x", "binding.list": ()}) == []


def test_a_value_is_never_read_again() -> None:
    assert parse_template("{binding.a}").one({"binding.a": "{target.host}"}) == "{target.host}"


@pytest.mark.parametrize(
    "text",
    ["{", "}", "{}", "{host}", "{target}", "{target.}", "{other.a}", "{target.A}", "{target.a.b}", "{{target.a}}"],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(TemplateError):
        parse_template(text)
