"""Atlassian: what a connection lacks is told, and the form offers what it can do."""

import pytest

from control_plane.definitions.atlassian.default import DEFINITION, BindingConfig, binding_form, validate_binding
from control_plane.definitions.atlassian.oauth import ConnectionConfig
from control_plane.definitions.contract import BindingContext, Connection, FormContext, MethodKind, Nothing, Target

CLOUD_ID = "1a11d016-8984-4c3e-b9ab-142dd06acb1b"


def connection(method: MethodKind, **config: str) -> Connection[ConnectionConfig]:
    return Connection(id="con_1", method=method, config=ConnectionConfig.model_validate(config))


@pytest.mark.parametrize(
    ("found", "binding", "codes"),
    [
        (connection(MethodKind.OAUTH2_AUTHORIZATION_CODE, cloudId=CLOUD_ID), {}, []),
        (connection(MethodKind.OAUTH2_AUTHORIZATION_CODE), {"products": []}, []),
        (connection(MethodKind.OAUTH2_AUTHORIZATION_CODE, site="acme"), {}, ["atlassian.cloud_id_missing"]),
        (connection(MethodKind.API_KEY, site="acme", email="a@b.example"), {}, []),
        (connection(MethodKind.API_KEY), {}, ["atlassian.email_missing", "atlassian.cloud_id_missing"]),
        (connection(MethodKind.OAUTH2_CLIENT_CREDENTIALS, cloudId=CLOUD_ID), {}, ["atlassian.client_id_missing"]),
    ],
)
def test_what_a_connection_lacks_is_told_at_once(
    found: Connection[ConnectionConfig], binding: dict[str, object], codes: list[str]
) -> None:
    context = BindingContext(
        target=Target(key="atlassian-default", config=Nothing()),
        connection=found,
        binding_id="bnd_1",
        config=BindingConfig.model_validate(binding),
    )
    assert [issue.code for issue in validate_binding(context)] == codes


@pytest.mark.parametrize(
    ("method", "hidden"),
    [
        (None, False),
        (MethodKind.API_KEY, False),
        (MethodKind.OAUTH2_AUTHORIZATION_CODE, False),
        (MethodKind.OAUTH2_CLIENT_CREDENTIALS, True),
    ],
)
def test_the_mcp_server_is_offered_where_the_connection_can_use_it(method: MethodKind | None, hidden: bool) -> None:
    found = None if method is None else connection(method)
    fields = {field.name: field for field in binding_form(FormContext(target=None, connection=found, value={}))}
    assert fields["mcp"].hidden is hidden


def test_a_service_accounts_secret_is_not_what_its_routes_inject() -> None:
    method = DEFINITION.method(MethodKind.OAUTH2_CLIENT_CREDENTIALS)
    assert method is not None
    assert method.secret_type not in {secret.secret_type for secret in method.secrets}
