from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, BaseModel, Field, ValidationError

from sallyport.plan.issue_codes import IssueCode
from sallyport.plan.model import CompiledRuntimePlan
from sallyport.plan.schema_faults import UNIONS, schema_faults
from sallyport.plan.strict_json import Path


def faults(document: object, *, already: frozenset[Path] = frozenset(), most: int = 100) -> list[tuple[str, Path]]:
    with pytest.raises(ValidationError) as refused:
        CompiledRuntimePlan.model_validate(document)
    found = schema_faults(refused.value, document, already=already, most=most)
    return [(fault.code.value, fault.path) for fault in found if fault.code is not IssueCode.MISSING_FIELD]


def unions_in(schema: dict[str, Any]) -> Iterator[str]:
    if "discriminator" in schema:
        yield schema["discriminator"]["propertyName"]
    for value in schema.values():
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, dict):
                yield from unions_in(inner)


def test_every_union_of_the_schema_is_listed() -> None:
    schema = CompiledRuntimePlan.model_json_schema()
    places = list(unions_in(schema))
    places.remove("op")  # steps stand in three lists of one kind, which one entry covers
    places.remove("op")
    assert sorted(member for _, member in UNIONS) == sorted(places)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"image": {"source": "base", "base": 1}}, ("unknown_field", ("image", "base"))),
        (
            {"artifacts": [{"lifecycle": {"update": [{"op": "exec", "exec": 1}]}}]},
            ("unknown_field", ("artifacts", 0, "lifecycle", "update", 0, "exec")),
        ),
        (
            {"runtimeClients": [{"processes": [{"readiness": {"kind": "tcp", "port": "1"}}]}]},
            ("wrong_type", ("runtimeClients", 0, "processes", 0, "readiness", "port")),
        ),
        (
            {"mcpServers": [{"transport": {"type": "stdio", "env": {"1": "x"}}}]},
            ("malformed", ("mcpServers", 0, "transport", "env", "1")),
        ),
        (
            {"mcpServers": [{"transport": {"type": "stdio", "env": {"[key]": "x"}}}]},
            ("malformed", ("mcpServers", 0, "transport", "env", "[key]")),
        ),
        (
            {"runtimeClients": [{"endpoints": [{"transport": {"type": "ws", "ws": 1}}]}]},
            ("unknown_field", ("runtimeClients", 0, "endpoints", 0, "transport", "ws")),
        ),
        ({"runtime_clients": 1}, ("unknown_field", ("runtime_clients",))),
    ],
)
def test_paths_are_those_of_the_document(document: object, expected: tuple[str, Path]) -> None:
    assert faults(document) == [expected]


def test_a_list_whose_items_are_all_refused_is_not_called_too_short() -> None:
    document = {"egress": {"rules": [{"hosts": ["127.1"]}, {"hosts": []}]}}
    assert faults(document) == [
        ("invalid_host_pattern", ("egress", "rules", 0, "hosts", 0)),
        ("out_of_range", ("egress", "rules", 1, "hosts")),
    ]


def test_what_is_known_to_be_wrong_is_not_said_twice() -> None:
    assert faults({"revision": None, "x": None}, already=frozenset({("revision",), ("x",)})) == [
        ("unknown_field", ("x",))
    ]


def test_faults_are_bounded() -> None:
    assert len(faults({f"k{n}": 1 for n in range(50)}, most=30)) <= 30


def test_an_error_this_table_does_not_know_is_still_a_fault() -> None:
    def refuse(value: int) -> int:
        raise ValueError("some words of a validator")

    class Odd(BaseModel):
        odd: Annotated[int, AfterValidator(refuse)]

    with pytest.raises(ValidationError) as refused:
        Odd.model_validate({"odd": 1})
    (fault,) = schema_faults(refused.value, {"odd": 1}, already=set(), most=9)
    assert (fault.code, fault.path) == (IssueCode.MALFORMED, ("odd",))


class ByKey(BaseModel):
    kind: Literal["key"]
    key: int


class ByName(BaseModel):
    kind: Literal["name"]
    user_name: int


class Config(BaseModel):
    """A document that is no plan, with unions that UNIONS does not list."""

    auth: Annotated[ByKey | ByName, Field(discriminator="kind")]
    either: list[int] | ByKey


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"auth": {"kind": "name", "user_name": "x"}, "either": [1]}, {("auth", "user_name")}),
        ({"auth": {"kind": "key", "key": 1}, "either": ["x"]}, {("either", 0), ("either", "ByKey")}),
    ],
)
def test_paths_of_other_documents_leave_out_the_alternatives_they_took(document: object, expected: set[Path]) -> None:
    with pytest.raises(ValidationError) as refused:
        Config.model_validate(document, strict=True)
    assert {fault.path for fault in schema_faults(refused.value, document, already=frozenset(), most=9)} == expected
