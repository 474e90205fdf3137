"""Forms: every definition's in every context, and each rule by itself."""

import json
from dataclasses import replace
from typing import Annotated, Any, Literal

import pytest

from control_plane.definitions.catalog import CATALOG
from control_plane.definitions.contract import (
    AnyDefinition,
    Connection,
    Form,
    FormContext,
    FormField,
    MethodKind,
    Nothing,
    Target,
    provider_owned,
)
from control_plane.definitions.fields import FromProvider, SecretPem, SecretText
from control_plane.definitions.forms import resolve_form, schema_of
from sallyport.plan.fields import Listed, Model, Text
from tests.support.integrations import example_definitions

DEFINITIONS = (*CATALOG, *example_definitions())
EMPTY: FormContext[Any, Any] = FormContext(target=None, connection=None, value={})


class Everything(Model):
    """A member of each kind."""

    name: Text
    base_url: Text | None = None
    count: int = 3
    on: bool = True
    mode: Literal["a", "b"] = "a"
    items: Listed[Literal["x", "y", "z"]] = ()
    secret: SecretText | None = None
    pem: SecretPem | None = None
    account: Annotated[Text | None, FromProvider] = None


def resolved(form: Form[Any, Any] | None, value: dict[str, object] | None = None) -> tuple[dict[str, Any], list[Any]]:
    found: Any = resolve_form(Everything, form, replace(EMPTY, value=value or {}))
    return found["schema"], found["fields"]


def test_without_a_form_every_member_is_shown() -> None:
    schema, fields = resolved(None)
    assert [(field["name"], field["label"], field["widget"]) for field in fields if not field.get("hidden")] == [
        ("name", "Name", "text"),
        ("baseUrl", "Base url", "text"),
        ("count", "Count", "number"),
        ("on", "On", "checkbox"),
        ("mode", "Mode", "select"),
        ("items", "Items", "list"),
        ("secret", "Secret", "password"),
        ("pem", "Pem", "password"),
    ]
    assert next(field for field in fields if field["name"] == "mode")["choices"] == ["a", "b"]
    assert schema["required"] == ["name"]
    assert "null" not in json.dumps(schema)


def test_a_form_hides_and_narrows_the_schema_too() -> None:
    schema, fields = resolved(
        lambda context: [
            FormField(name="baseUrl", label="Address", help="Where.", choices=("https://a.example",)),
            FormField(name="items", label="Items", widget="list", choices=("x",)),
            FormField(name="mode", label="Mode", hidden=True),
            FormField(name="nothing", label="Of another model"),
        ]
    )
    assert schema["properties"]["baseUrl"]["enum"] == ["https://a.example"]
    assert schema["properties"]["items"]["items"]["enum"] == ["x"]
    assert "mode" not in schema["properties"]
    assert "count" in schema["properties"], "what a form does not name stays valid"
    assert fields == [
        {
            "name": "baseUrl",
            "label": "Address",
            "widget": "text",
            "help": "Where.",
            "choices": ["https://a.example"],
        },
        {"name": "items", "label": "Items", "widget": "list", "choices": ["x"]},
        {"name": "mode", "label": "Mode", "widget": "text", "hidden": True},
    ]


def test_a_hidden_member_is_required_of_nobody() -> None:
    schema, _ = resolved(lambda context: [FormField(name="name", label="Name", hidden=True)])
    assert schema["required"] == []


def test_what_only_a_provider_says_is_asked_of_nobody() -> None:
    schema, fields = resolved(lambda context: [FormField(name="account", label="Account")])
    assert "account" not in schema["properties"]
    assert fields == [{"name": "account", "label": "Account", "widget": "text", "hidden": True}]


def test_a_secret_is_typed_unseen_and_told_to_no_form() -> None:
    def form(context: FormContext[Any, Any]) -> list[FormField]:
        return [
            FormField(name="secret", label="Secret", help=repr(context.value), choices=("canary",)),
            FormField(name="pem", label="Key", widget="textarea"),
        ]

    schema, fields = resolved(form, {"secret": "canary", "pem": "canary", "name": "n"})
    assert [field["widget"] for field in fields] == ["password", "textarea"]
    assert fields[0]["help"] == "{'name': 'n'}"
    assert "canary" not in json.dumps([schema, fields])


def test_a_model_without_members_is_an_empty_form() -> None:
    assert resolve_form(Nothing, None, EMPTY)["fields"] == []
    assert "properties" in schema_of(Nothing)


# --- of the catalog ---------------------------------------------------------------------------------------------------


def parts_of(definition: AnyDefinition) -> dict[str, tuple[type[Model], Form[Any, Any] | None]]:
    return {
        "target": (definition.target_config, definition.target_form),
        "secret": (definition.target_secrets, definition.target_secret_form),
        "connection": (definition.connection_config, definition.connection_form),
        "binding": (definition.binding_config, definition.binding_form),
    }


def contexts_of(definition: AnyDefinition) -> list[FormContext[Any, Any]]:
    """With nothing known, with a target, and with a connection of each kind; a required target config is left out."""
    target: Target[Any] | None = None
    if not definition.target_config.model_json_schema().get("required"):
        target = Target(key=definition.target_key, config=definition.target_config.model_validate({}))
    config = definition.connection_config.model_validate({})
    connections: list[Connection[Any]] = [
        Connection(id="con_1", method=method.kind, config=config) for method in definition.connection_methods
    ]
    return [
        EMPTY,
        replace(EMPTY, target=target),
        *(FormContext(target=target, connection=connection, value={}) for connection in connections),
    ]


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda each: each.variant_id)
@pytest.mark.parametrize("part", ["target", "secret", "connection", "binding"])
def test_every_form_of_the_catalog_resolves_in_every_context(definition: AnyDefinition, part: str) -> None:
    model, form = parts_of(definition)[part]
    whole = schema_of(model)
    for context in contexts_of(definition):
        found: Any = resolve_form(model, form, context)
        properties, fields = found["schema"].get("properties", {}), found["fields"]
        names = [field["name"] for field in fields]
        assert len(set(names)) == len(names)
        shown = {field["name"] for field in fields if not field.get("hidden")}
        assert shown <= set(properties)
        assert not provider_owned(model) & set(properties)
        assert set(whole.get("required", [])) <= shown, "what has to be given can be given"
        for field in fields:
            assert field["label"]
            if whole["properties"][field["name"]].get("writeOnly"):
                assert field["widget"] in ("password", "textarea")
                assert "default" not in whole["properties"][field["name"]]
        json.dumps(found)


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda each: each.variant_id)
def test_a_connection_by_key_is_asked_no_scopes(definition: AnyDefinition) -> None:
    if "scopes" not in definition.connection_config.model_fields or definition.method(MethodKind.API_KEY) is None:
        return
    config = definition.connection_config.model_validate({})
    connection: Connection[Any] = Connection(id="con_1", method=MethodKind.API_KEY, config=config)
    context = replace(EMPTY, connection=connection)
    found: Any = resolve_form(definition.connection_config, definition.connection_form, context)
    assert "scopes" not in found["schema"]["properties"]
