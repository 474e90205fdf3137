"""The contract's own small rules."""

from control_plane.definitions.catalog import CATALOG
from control_plane.definitions.contract import (
    Grant,
    GrantRefused,
    MethodKind,
    Nothing,
    provider_owned,
    standard_grant,
)
from control_plane.definitions.linear.default import ConnectionConfig


def test_a_method_is_found_by_its_kind() -> None:
    definition = next(each for each in CATALOG if each.variant_id == "linear-default")
    found = definition.method(MethodKind.API_KEY)
    assert found is not None
    assert found.kind is MethodKind.API_KEY
    assert definition.method(MethodKind.REDIRECT) is None
    assert definition.target_key == "linear-default"


def test_a_standard_answer_has_standard_names() -> None:
    grant = standard_grant({"access_token": "x"})
    assert grant == Grant()
    assert (grant.access_token, grant.refresh_token, grant.expires_in) == (
        "access_token",
        "refresh_token",
        "expires_in",
    )


def test_a_refused_grant_says_whether_to_ask_again() -> None:
    assert GrantRefused("invalid_grant", permanent=True).permanent


def test_what_only_a_provider_says_is_told_from_what_a_member_may() -> None:
    assert provider_owned(ConnectionConfig) == {"organizationId"}, "the scopes are the member's to choose"
    assert provider_owned(Nothing) == frozenset()
