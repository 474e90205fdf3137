"""One validator for both times: every issue at once, at its place, and none that tells of another organization."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

import pytest
from pydantic import AfterValidator

from control_plane.compiler.inputs import Inputs
from control_plane.compiler.validate import validate
from control_plane.definitions.contract import AnyDefinition, Issue, Target
from control_plane.definitions.registry import Registry
from sallyport.plan.fields import Model
from tests.support.made_integrations import Context, bound, inputs_of, made_definition

DEFINITION = made_definition()


def issues(inputs: Inputs, *definitions: AnyDefinition) -> list[tuple[str, str]]:
    found = validate(inputs, Registry(definitions or (DEFINITION,)))
    assert [each.context.binding_id for each in found.bindings] == [] if found.issues else True
    return [(each.code.removeprefix("compile."), each.pointer) for each in found.issues]


def inputs(**changes: object) -> Inputs:
    """One good binding; changes are of its binding, connection or target, by `binding_kind` and the like."""
    given = inputs_of([DEFINITION], bound("bnd_1"))

    def of(part: str) -> dict[str, object]:
        return {name.removeprefix(f"{part}_"): value for name, value in changes.items() if name.startswith(f"{part}_")}

    return replace(
        given,
        bindings=[replace(each, **of("binding")) for each in given.bindings],  # type: ignore[arg-type]  # as given
        connections={key: replace(each, **of("connection")) for key, each in given.connections.items()},  # type: ignore[arg-type]  # as given
        targets={key: replace(each, **of("target")) for key, each in given.targets.items()},  # type: ignore[arg-type]  # as given
    )


def test_a_good_binding_comes_with_its_parsed_configuration() -> None:
    found = validate(inputs(binding_config={"host": "b.example"}), Registry([DEFINITION]))
    [binding] = found.bindings
    assert (found.issues, binding.pointer, binding.definition) == ((), "/bindings/0", DEFINITION)
    assert (binding.context.config.host, binding.context.target.key) == ("b.example", "place")
    assert binding.context.connection.secret_types == {"api_key"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"binding_connection_id": "con_none"}, [("connection_mismatch", "/connectionId")]),
        ({"connection_organization_id": "org_two"}, [("connection_mismatch", "/connectionId")]),
        ({"connection_target_key": "none"}, [("definition_not_found", "/connectionId")]),
        ({"target_variant_id": "none"}, [("definition_not_found", "/connectionId")]),
        ({"target_enabled": False}, [("target_disabled", "/connectionId")]),
        ({"connection_status": "error"}, [("connection_not_active", "/connectionId")]),
        ({"binding_kind": "git"}, [("kind_mismatch", "/kind")]),
        ({"target_config": {"x": 1}}, [("invalid_target_config", "/connectionId")]),
        ({"target_secrets": frozenset({"client_id", "x"})}, [("invalid_target_secrets", "/connectionId")]),
        ({"connection_config": {"x": 1}}, [("connection_mismatch", "/connectionId")]),
        ({"connection_method": "redirect"}, [("connection_mismatch", "/connectionId")]),
        ({"connection_method": "<b>"}, [("connection_mismatch", "/connectionId")]),
        (
            {"binding_config": {"host": 1, "prefixes": ["v1", "/a/"], "a/b": 1}},
            [
                ("invalid_binding_config", "/config/host"),
                ("invalid_binding_config", "/config/prefixes/0"),
                ("invalid_binding_config", "/config/prefixes/1"),
                ("invalid_binding_config", "/config/a~1b"),
            ],
        ),
    ],
)
def test_each_thing_that_can_be_wrong(changes: dict[str, object], expected: list[tuple[str, str]]) -> None:
    assert issues(inputs(**changes)) == [(code, f"/bindings/0{pointer}") for code, pointer in expected]


def test_all_that_is_wrong_is_told_at_once() -> None:
    wrong = inputs(
        binding_kind="git",
        binding_config={"x": 1},
        connection_status="revoked",
        target_enabled=False,
        target_config={"y": 1},
        target_secrets=frozenset({"z"}),
    )
    assert [code for code, _ in issues(wrong)] == [
        *("target_disabled", "connection_not_active", "kind_mismatch"),
        *("invalid_target_config", "invalid_target_secrets", "invalid_binding_config"),
    ]


def test_another_organization_s_connection_is_told_as_one_that_is_not_there() -> None:
    foreign, missing = inputs(connection_organization_id="org_two"), inputs(binding_connection_id="con_none")
    registry = Registry([DEFINITION])
    assert validate(foreign, registry) == validate(missing, registry)


def test_a_definition_adds_issues_of_its_own_where_they_belong() -> None:
    def check_target(target: Target[Model]) -> list[Issue]:
        return [Issue("place.target", "/region", "closed")]

    def check_binding(context: Context) -> list[Issue]:
        return [Issue("place.binding", "/host", f"{context.config.host} is not this target's")]

    definition = made_definition(validate_target=check_target, validate_binding_write_context=check_binding)
    found = validate(inputs_of([definition], bound("bnd_1")), Registry([definition])).issues
    assert found == (
        Issue("place.target", "/bindings/0/connectionId", "target place, /region: closed"),
        Issue("place.binding", "/bindings/0/config/host", "api.example.com is not this target's"),
    )


def test_a_message_shows_no_value() -> None:
    class Secretive(Model):
        token: Annotated[str, AfterValidator(lambda text: text)]

    definition = made_definition(binding_config=Secretive)
    wrong = inputs_of([definition], bound("bnd_1", config={"token": ["canary"], "canary2": 1}))
    found = validate(wrong, Registry([definition])).issues
    assert len(found) == 2
    assert not any("canary" in each.message for each in found)


def test_a_good_binding_stands_beside_faulty_ones() -> None:
    given = inputs_of([DEFINITION], bound("bnd_1"), bound("bnd_2", config={"x": 1}), bound("bnd_3"))
    found = validate(given, Registry([DEFINITION]))
    assert [each.pointer for each in found.bindings] == ["/bindings/0", "/bindings/2"]
    assert [each.pointer for each in found.issues] == ["/bindings/1/config/x"]


def test_the_order_of_members_reaches_no_definition() -> None:
    class Named(Model):
        names: Mapping[str, Mapping[str, int]]

    definition = made_definition(binding_config=Named)
    config = {"names": {"b": {"y": 1, "x": 2}, "a": {}}}
    [binding] = validate(inputs_of([definition], bound("bnd_1", config=config)), Registry([definition])).bindings
    assert str(binding.context.config.names) == "{'a': {}, 'b': {'x': 2, 'y': 1}}"
