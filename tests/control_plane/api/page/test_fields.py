import pytest

from control_plane.api.page.fields import SHOWN, fields_of, messages_at, read_fields, unplaced, without_hidden

SCHEMA = {
    "properties": {
        "name": {"type": "string"},
        "size": {"type": "integer"},
        "kind": {"type": "string", "enum": ["a", "b"], "default": "a"},
        "on": {"type": "boolean", "default": True},
        "lines": {"type": "array", "items": {"type": "string"}},
        "boxes": {"type": "array", "items": {"enum": ["x", "y"]}, "default": ["x"]},
        "key": {"type": "string", "writeOnly": True},
        "unnamed": {"type": "string"},
    },
    "required": ["name"],
}
NAMED = ["name", "size", "kind", "on", "lines", "boxes", "key"]
WIDGETS = {"size": "number", "kind": "select", "on": "checkbox", "lines": "list", "boxes": "list", "key": "password"}
FORM = {
    "schema": SCHEMA,
    "fields": [{"name": name, "label": name.title(), "widget": WIDGETS.get(name, "text")} for name in NAMED],
}


def test_fields_show_what_is_stored_and_never_a_secret() -> None:
    value = {"name": "<b>", "size": 3, "on": False, "lines": ["1", "2"], "key": "sk-secret"}
    found = {field.name: field for field in fields_of(FORM, value, "c.")}
    assert [field.key for field in found.values()] == [f"c.{name}" for name in NAMED]
    assert (found["name"].text, found["name"].is_required) == ("<b>", True)
    assert (found["size"].text, found["lines"].text, found["lines"].widget) == ("3", "1\n2", "lines")
    assert (set(found["kind"].ticked), list(found["kind"].choices)) == ({"a"}, ["a", "b"])
    assert (set(found["on"].ticked), set(found["boxes"].ticked)) == ({"false"}, {"x"})
    assert found["boxes"].widget == "boxes"
    assert "sk-secret" not in repr(found)


def test_issues_stand_at_their_fields_and_the_rest_apart() -> None:
    issues = [
        {"pointer": "/config/name", "message": "one", "code": "x"},
        {"pointer": "/config/lines/1", "message": "two", "code": "x"},
        {"pointer": "/config/named", "message": "three", "code": "x"},
    ]
    found = {field.name: field.issues for field in fields_of(FORM, {}, "c.", issues, "/config")}
    assert (found["name"], found["lines"], found["size"]) == (["One"], ["1: two"], [])
    assert unplaced(issues, ["/config/name", "/config/lines"]) == [issues[2]]
    assert messages_at(issues, "/config") == ["name: one", "lines/1: two", "named: three"]


def typed(**values: str | list[str]) -> dict[str, list[str]]:
    given = {f"c.{name}": [value] if isinstance(value, str) else value for name, value in values.items()}
    return {f"c.{SHOWN}": NAMED, **given}


@pytest.mark.parametrize(
    ("posted", "document"),
    [
        (typed(on="true", kind="a", boxes=["x"]), {}),
        (typed(name=" a b", kind="b"), {"name": " a b", "kind": "b", "on": False, "boxes": []}),
        (typed(size="12", on="true", boxes=["x", "y"]), {"size": 12, "boxes": ["x", "y"]}),
        (typed(size="twelve", on="true", boxes=["x"]), {"size": "twelve"}),
        (typed(lines=" one \r\n\r\ntwo", on="true", boxes=["x"]), {"lines": ["one", "two"]}),
        ({"c.name": ["not shown"]}, {}),
        ({f"c.{SHOWN}": ["other"], "c.other": ["not of the schema"]}, {}),
    ],
)
def test_what_was_typed_is_a_document_again(posted: dict[str, list[str]], document: dict[str, object]) -> None:
    assert read_fields(SCHEMA, {}, posted, "c.") == document


def test_what_was_not_shown_stays_and_a_default_that_was_stored_too() -> None:
    stored = {"unnamed": "kept", "kind": "a", "size": 1}
    assert read_fields(SCHEMA, stored, typed(kind="a", on="true", boxes=["x"]), "c.") == {
        "unnamed": "kept",
        "kind": "a",
    }


def test_what_a_form_hides_is_left_out() -> None:
    form = {"schema": {}, "fields": [{"name": "a", "hidden": True}, {"name": "b"}]}
    assert without_hidden(form, {"a": 1, "b": 2, "c": 3}) == {"b": 2, "c": 3}
