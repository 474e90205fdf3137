"""Notion has two authorization servers, and a token of one is not for what the other guards."""

import re
from typing import Literal

import pytest
from pydantic import ValidationError

from control_plane.definitions.contract import Connection, FormContext, MethodKind, OAuthContext, Target, provider_owned
from control_plane.definitions.notion.default import (
    DEFINITION,
    TOKEN_PLACEHOLDER,
    BindingConfig,
    ConnectionConfig,
    TargetConfig,
    binding_form,
    read_grant,
    start,
    target_secret_form,
    token_call,
    validate_target,
)


def target(oauth: Literal["api", "mcp"], *secrets: str) -> Target[TargetConfig]:
    return Target(key="notion-default", config=TargetConfig(oauth=oauth), secrets=frozenset(secrets))


def context(oauth: Literal["api", "mcp"], *secrets: str) -> OAuthContext[TargetConfig, ConnectionConfig]:
    return OAuthContext(target=target(oauth, *secrets), config=ConnectionConfig())


def test_the_apis_server_wants_basic_json_and_a_version() -> None:
    assert start(context("api")).parameters == {"owner": "user"}
    call = token_call(context("api", "client_id", "client_secret"))
    assert (call.url, call.client_authentication, call.encoding) == (
        "https://api.notion.com/v1/oauth/token",
        "basic",
        "json",
    )
    assert set(call.headers) == {"Notion-Version"}


@pytest.mark.parametrize(("secrets", "how"), [((), "none"), (("client_secret",), "basic")])
def test_a_client_of_the_mcp_server_need_have_no_secret(secrets: tuple[str, ...], how: str) -> None:
    assert start(context("mcp")).url == "https://mcp.notion.com/authorize"
    call = token_call(context("mcp", *secrets))
    assert (call.url, call.client_authentication, call.headers) == ("https://mcp.notion.com/token", how, {})


@pytest.mark.parametrize(
    ("oauth", "secrets", "pointers"),
    [
        ("api", (), []),
        ("api", ("client_id",), ["/secrets/clientSecret"]),
        ("api", ("client_id", "client_secret"), []),
        ("mcp", ("client_id",), []),
    ],
)
def test_a_client_of_the_api_has_a_secret(
    oauth: Literal["api", "mcp"], secrets: tuple[str, ...], pointers: list[str]
) -> None:
    assert [issue.pointer for issue in validate_target(target(oauth, *secrets))] == pointers


def test_the_workspace_is_notions_word() -> None:
    answer = {"access_token": "ntn_canary", "workspace_id": "w1", "bot_id": "b1", "workspace_name": "A"}
    assert read_grant(answer).config == {"workspaceId": "w1", "botId": "b1"}
    assert read_grant({"access_token": "canary", "workspace_id": None}).config == {}
    assert provider_owned(ConnectionConfig) == {"workspaceId", "botId"}


@pytest.mark.parametrize("version", ["2022-06-28", "2026-03-11"])
def test_a_version_is_a_date(version: str) -> None:
    assert BindingConfig.model_validate({"version": version}).version == version


@pytest.mark.parametrize("version", ["latest", "2022-6-28", "2022-06-28\r\nX: y", ""])
def test_what_is_no_version_is_refused(version: str) -> None:
    with pytest.raises(ValidationError):
        BindingConfig.model_validate({"version": version})


@pytest.mark.parametrize(
    ("oauth", "method", "hidden"),
    [
        ("api", MethodKind.OAUTH2_AUTHORIZATION_CODE, False),
        ("mcp", MethodKind.OAUTH2_AUTHORIZATION_CODE, True),
        ("mcp", MethodKind.API_KEY, False),
    ],
)
def test_a_version_is_offered_where_there_is_an_api(
    oauth: Literal["api", "mcp"], method: MethodKind, hidden: bool
) -> None:
    connection = Connection(id="con_1", method=method, config=ConnectionConfig())
    [field] = binding_form(FormContext(target=target(oauth), connection=connection, value={}))
    assert field.hidden is hidden


@pytest.mark.parametrize(("oauth", "said"), [("api", False), ("mcp", True)])
def test_the_secret_form_says_that_a_client_may_have_none(oauth: Literal["api", "mcp"], said: bool) -> None:
    fields = target_secret_form(FormContext(target=target(oauth), connection=None, value={}))
    assert bool(fields[1].help) is said


def test_the_placeholder_looks_like_a_token() -> None:
    method = DEFINITION.method(MethodKind.API_KEY)
    assert method is not None
    assert re.fullmatch(method.secrets[0].pattern or "", TOKEN_PLACEHOLDER)
