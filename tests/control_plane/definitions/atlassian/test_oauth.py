"""Atlassian's authorization server: a token that can be refreshed, for a site that is spelled as one."""

import pytest
from pydantic import ValidationError

from control_plane.definitions.atlassian.oauth import (
    CLIENT_CREDENTIALS,
    ConnectionConfig,
    client_token_call,
    connection_form,
    start,
    token_call,
)
from control_plane.definitions.contract import Connection, FormContext, MethodKind, Nothing, OAuthContext, Target


def context(config: dict[str, object]) -> OAuthContext[Nothing, ConnectionConfig]:
    target = Target(key="atlassian-default", config=Nothing())
    return OAuthContext(target=target, config=ConnectionConfig.model_validate(config))


@pytest.mark.parametrize("scopes", [["read:jira-work"], ["offline_access", "read:jira-work"]])
def test_a_refresh_token_is_always_asked_for(scopes: list[str]) -> None:
    request = start(context({"scopes": scopes}))
    assert request.scopes == ["read:jira-work", "offline_access"]
    assert request.parameters == {"audience": "api.atlassian.com", "prompt": "consent"}
    assert start(context({})).scopes[-1] == "offline_access"


def test_tokens_are_asked_for_in_json() -> None:
    for call in (token_call(context({})), client_token_call(context({}))):
        assert (call.url, call.client_authentication, call.encoding) == (
            "https://auth.atlassian.com/oauth/token",
            "post",
            "json",
        )


def test_a_service_accounts_client_is_the_connections() -> None:
    assert CLIENT_CREDENTIALS.client_id(ConnectionConfig.model_validate({"clientId": "c1"})) == "c1"
    assert CLIENT_CREDENTIALS.client_id(ConnectionConfig()) == ""
    assert CLIENT_CREDENTIALS.scopes(context({"clientId": "c1"})) == ()


@pytest.mark.parametrize(
    "config",
    [
        {"cloudId": "1a11d016-8984-4c3e-b9ab-142dd06acb1b/../x"},
        {"cloudId": "acme"},
        {"site": "acme.example"},
        {"site": "-acme"},
        {"site": "ACME"},
        {"site": ""},
        {"email": "a:b@c.example"},
        {"scopes": ["a b"]},
        {"scopes": ["a,b"]},
    ],
)
def test_what_would_lead_elsewhere_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ConnectionConfig.model_validate(config)


@pytest.mark.parametrize(
    ("method", "shown"),
    [
        (None, ["cloudId", "site", "email", "clientId", "scopes"]),
        (MethodKind.API_KEY, ["cloudId", "site", "email"]),
        (MethodKind.OAUTH2_CLIENT_CREDENTIALS, ["cloudId", "clientId"]),
        (MethodKind.OAUTH2_AUTHORIZATION_CODE, ["cloudId", "scopes"]),
    ],
)
def test_each_way_to_connect_is_asked_what_it_needs(method: MethodKind | None, shown: list[str]) -> None:
    found = None if method is None else Connection(id="con_1", method=method, config=ConnectionConfig())
    fields = connection_form(FormContext(target=None, connection=found, value={}))
    assert [field.name for field in fields if not field.hidden] == shown
