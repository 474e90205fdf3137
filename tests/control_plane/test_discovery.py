"""What is shown of a target, and how it does; pure values."""

import orjson
import pytest

from control_plane.definitions.catalog import CATALOG
from control_plane.definitions.contract import AnyDefinition
from control_plane.discovery import (
    DEGRADED,
    DISABLED,
    HEALTHY,
    UNHEALTHY,
    health,
    secret_names,
    target_document,
)
from control_plane.store.models import Target, TargetSecret
from control_plane.targets import new_row
from tests.support.control_plane import NOW
from tests.support.definitions import FORGE

[LINEAR] = [each for each in CATALOG if each.target_key == "linear-default"]
GOOD = {"baseUrl": "https://forge.example"}
OAUTH = frozenset({"client_id", "client_secret"})


def row(definition: AnyDefinition = FORGE, *, config: object = GOOD, enabled: bool = True) -> Target:
    made = new_row(definition.target_key, definition, NOW)
    made.config, made.enabled = orjson.dumps(config).decode(), enabled
    return made


def listed(value: object) -> list[dict[str, object]]:
    assert isinstance(value, list)
    return value


@pytest.mark.parametrize(
    ("config", "enabled", "secrets", "status", "issues"),
    [
        (GOOD, True, OAUTH, HEALTHY, []),
        (GOOD, False, OAUTH, DISABLED, [("target.disabled", "/enabled")]),
        (
            GOOD,
            True,
            frozenset(),
            UNHEALTHY,
            [("target.missing_secret", "/secrets/clientId"), ("target.missing_secret", "/secrets/clientSecret")],
        ),
        (GOOD, True, frozenset({"client_id"}), UNHEALTHY, [("target.missing_secret", "/secrets/clientSecret")]),
        ({}, True, OAUTH, UNHEALTHY, [("target.invalid_config", "/config/baseUrl")]),
        ({"baseUrl": "x"}, True, OAUTH, UNHEALTHY, [("target.invalid_config", "/config/baseUrl")]),
        ({"baseUrl": "http://x.example"}, True, OAUTH, UNHEALTHY, [("forge.cleartext", "/config/baseUrl")]),
        (
            {"x": 1},
            False,
            OAUTH,
            DISABLED,
            [
                ("target.disabled", "/enabled"),
                ("target.invalid_config", "/config/baseUrl"),
                ("target.invalid_config", "/config/x"),
            ],
        ),
    ],
)
def test_health(
    config: object, enabled: bool, secrets: frozenset[str], status: str, issues: list[tuple[str, str]]
) -> None:
    found = health(row(config=config, enabled=enabled), secrets, FORGE)
    assert (found[0], [(issue.code, issue.pointer) for issue in found[1]]) == (status, issues)


def test_another_way_to_connect_leaves_it_degraded() -> None:
    status, issues = health(row(LINEAR, config={}), frozenset(), LINEAR)
    assert status == DEGRADED
    assert {issue.code for issue in issues} == {"target.missing_secret"}
    assert health(row(LINEAR, config={}), OAUTH, LINEAR) == (HEALTHY, [])


def test_a_definition_that_is_gone() -> None:
    status, [issue] = health(row(), frozenset(), None)
    assert (status, issue.code) == (UNHEALTHY, "target.definition_not_found")
    secret = TargetSecret(target_key="forge-server", name="client_id", value=b"", updated_at=7)
    shown = target_document(row(), [secret], None, for_operator=True)
    assert shown["displayName"] == "forge-server"
    assert shown["secrets"] == [{"name": "client_id", "isSet": True, "updatedAt": 7}]
    assert "kind" not in shown


def test_an_operator_sees_what_is_set_and_a_member_does_not() -> None:
    target = row()
    target.display_name = "Ours"
    secret = TargetSecret(target_key=target.key, name="client_id", value=b"", updated_at=7)
    shown = target_document(target, [secret], FORGE, for_operator=True)
    assert (shown["displayName"], shown["description"], shown["logoKey"]) == (
        "Ours",
        "Repositories of a forge.",
        "forge",
    )
    assert shown["overrides"] == {"displayName": "Ours"}
    assert shown["secrets"] == [
        {"name": "clientId", "isSet": True, "updatedAt": 7},
        {"name": "clientSecret", "isSet": False},
        {"name": "webhookSecret", "isSet": False},
    ]
    assert [method["kind"] for method in listed(shown["connectionMethods"])] == ["oauth2-authorization-code"]
    member = target_document(target, [secret], FORGE, for_operator=False)
    assert set(shown) - set(member) == {"overrides", "secrets"}
    assert member["targetHealth"] == {"status": "unhealthy"}
    assert member["webhookSource"] == shown["webhookSource"]


def test_secrets_have_a_name_in_json() -> None:
    assert secret_names(FORGE)["clientSecret"] == "client_secret"
