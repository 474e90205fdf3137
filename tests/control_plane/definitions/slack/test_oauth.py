"""Slack's refusals have status 200, and some of them are for good."""

import pytest

from control_plane.definitions.contract import (
    Connection,
    FormContext,
    Grant,
    GrantRefused,
    MethodKind,
    Nothing,
    OAuthContext,
    Target,
    provider_owned,
)
from control_plane.definitions.slack.oauth import (
    DEFAULT_SCOPES,
    ConnectionConfig,
    connection_form,
    read_grant,
    start,
    token_call,
)


def context(config: dict[str, object]) -> OAuthContext[Nothing, ConnectionConfig]:
    target = Target(key="slack-default", config=Nothing())
    return OAuthContext(target=target, config=ConnectionConfig.model_validate(config))


def test_scopes_are_joined_by_commas() -> None:
    assert start(context({})).parameters["scope"] == ",".join(DEFAULT_SCOPES)
    chosen = start(context({"scopes": ["chat:write", "users:read"]}))
    assert (chosen.parameters["scope"], chosen.scopes) == ("chat:write,users:read", ())


def test_the_client_is_told_by_basic() -> None:
    call = token_call(context({}))
    assert (call.url, call.client_authentication) == ("https://slack.com/api/oauth.v2.access", "basic")


@pytest.mark.parametrize(
    ("where", "config"),
    [
        ({"team": {"id": "T1", "name": "a"}, "enterprise": None}, {"teamId": "T1"}),
        ({"team": {"id": "T1"}, "enterprise": {"id": "E1"}}, {"teamId": "T1", "enterpriseId": "E1"}),
        ({"team": None, "enterprise": {"id": "E1"}, "is_enterprise_install": True}, {"enterpriseId": "E1"}),
        ({"team": {"id": 7}}, {}),
    ],
)
def test_a_grant_says_where_the_app_was_installed(where: dict[str, object], config: dict[str, object]) -> None:
    assert read_grant({"ok": True, "access_token": "xoxb-canary", **where}) == Grant(config=config)


def test_where_it_was_installed_is_slacks_word() -> None:
    assert provider_owned(ConnectionConfig) == {"teamId", "enterpriseId"}


@pytest.mark.parametrize(
    ("answer", "reason", "permanent"),
    [
        ({"ok": False, "error": "invalid_code"}, "invalid_code", True),
        ({"ok": False, "error": "token_revoked"}, "token_revoked", True),
        ({"ok": False, "error": "ratelimited"}, "ratelimited", False),
        ({"ok": False, "error": "canary"}, "Slack refused for a reason it does not document", False),
        ({"ok": False, "error": {"canary": 1}}, "Slack refused for a reason it does not document", False),
        ({}, "Slack refused for a reason it does not document", False),
        ({"ok": True, "authed_user": {"access_token": "xoxp-canary"}}, "Slack gave no token of a bot", True),
    ],
)
def test_a_refusal_says_whether_to_ask_again(answer: dict[str, object], reason: str, permanent: bool) -> None:
    with pytest.raises(GrantRefused) as caught:
        read_grant(answer)
    assert caught.value.reason.startswith(reason)
    assert caught.value.permanent is permanent
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("method", "hidden"),
    [(None, False), (MethodKind.API_KEY, True), (MethodKind.OAUTH2_AUTHORIZATION_CODE, False)],
)
def test_scopes_are_asked_where_slack_asks(method: MethodKind | None, hidden: bool) -> None:
    connection = None if method is None else Connection(id="con_1", method=method, config=ConnectionConfig())
    [field] = connection_form(FormContext(target=None, connection=connection, value={}))
    assert field.hidden is hidden
