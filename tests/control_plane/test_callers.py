"""Roles, as values; that the table is whole is tested in api/test_caller.py, over the API itself."""

import pytest

from control_plane.callers import PERMISSIONS, Caller, Role, may


def caller(*roles: Role) -> Caller:
    return Caller(id="key_1", roles=frozenset(roles))


@pytest.mark.parametrize(
    ("method", "path", "roles"),
    [
        ("GET", "/v1/sandboxes", {Role.OPERATOR, Role.MEMBER}),
        ("POST", "/v1/api-keys", {Role.OPERATOR}),
        ("POST", "/v1/sandboxes/{sandbox_id}/plans", {Role.OPERATOR}),
        ("POST", "/v1/revocations", {Role.OPERATOR}),
        ("POST", "/internal/integration-credentials/resolve", {Role.SERVICE}),
        ("GET", "/v1/nowhere", set()),
        ("PUT", "/v1/sandboxes", set()),
    ],
)
def test_who_may(method: str, path: str, roles: set[Role]) -> None:
    assert {role for role in Role if may(caller(role), method, path)} == roles


def test_a_part_of_the_environment_is_operator_and_service() -> None:
    token = caller(Role.OPERATOR, Role.SERVICE)
    assert (token.is_operator, token.is_service) == (True, True)
    assert may(token, "GET", "/v1/api-keys")
    assert may(token, "GET", "/internal/gateways")
    assert not caller(Role.MEMBER).is_operator


def test_what_is_internal_is_for_services_alone() -> None:
    for (_, path), roles in PERMISSIONS.items():
        assert (roles == {Role.SERVICE}) == path.startswith("/internal/"), path
        assert path.startswith("/internal/") or Role.OPERATOR in roles, path
