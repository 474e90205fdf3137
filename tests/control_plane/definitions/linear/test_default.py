"""Linear: scopes are asked as Linear wants them, and an event finds its workspace."""

import json

import pytest

from control_plane.definitions.contract import (
    Connection,
    FormContext,
    MethodKind,
    Nothing,
    OAuthContext,
    Target,
    WebhookEvent,
    WebhookRefused,
    WebhookRequest,
)
from control_plane.definitions.linear.default import (
    ConnectionConfig,
    binding_form,
    connection_form,
    resolve_connection,
    resolve_webhook_request,
    start,
    token_call,
)

WORKSPACE = "2b1c"


def connection(method: MethodKind, workspace: str | None = None) -> Connection[ConnectionConfig]:
    return Connection(id="con_1", method=method, config=ConnectionConfig.model_validate({"organizationId": workspace}))


def request(body: object, delivery: str | None = "d1") -> WebhookRequest:
    headers = {} if delivery is None else {"linear-delivery": delivery}
    return WebhookRequest(method="POST", headers=headers, query={}, body=json.dumps(body).encode())


@pytest.mark.parametrize(
    ("method", "hidden"), [(MethodKind.API_KEY, True), (MethodKind.OAUTH2_AUTHORIZATION_CODE, False)]
)
def test_scopes_are_asked_where_linear_asks(method: MethodKind, hidden: bool) -> None:
    [field] = connection_form(FormContext(target=None, connection=connection(method), value={}))
    assert field.hidden is hidden


def test_the_mcp_server_is_offered_to_every_connection() -> None:
    [field] = binding_form(FormContext(target=None, connection=connection(MethodKind.API_KEY), value={}))
    assert (field.name, field.hidden) == ("mcp", False)


def test_scopes_are_joined_by_commas_and_a_token_is_asked_for_in_a_form() -> None:
    target = Target(key="linear-default", config=Nothing())
    config = ConnectionConfig.model_validate({"scopes": ["read", "issues:create"]})
    assert start(OAuthContext(target=target, config=config)).parameters["scope"] == "read,issues:create"
    context = OAuthContext(target=target, config=ConnectionConfig())
    assert start(context).parameters["scope"] == "read,write"
    assert (token_call(context).url, token_call(context).client_authentication) == (
        "https://api.linear.app/oauth/token",
        "post",
    )


def test_an_event_has_its_type_its_time_and_its_workspace() -> None:
    body = {"type": "Issue", "action": "create", "webhookTimestamp": 1_700_000_000_123, "organizationId": WORKSPACE}
    event = resolve_webhook_request(request(body))
    assert isinstance(event, WebhookEvent)
    assert (event.external_id, event.type, event.occurred_at) == ("d1", "Issue.create", 1_700_000_000)
    assert resolve_connection(event, connection(MethodKind.OAUTH2_AUTHORIZATION_CODE, WORKSPACE))
    assert not resolve_connection(event, connection(MethodKind.OAUTH2_AUTHORIZATION_CODE, "other"))
    assert not resolve_connection(event, connection(MethodKind.OAUTH2_AUTHORIZATION_CODE))


@pytest.mark.parametrize("broken", [request([1]), request({}, None), request("x")])
def test_what_is_no_event_is_refused(broken: WebhookRequest) -> None:
    with pytest.raises(WebhookRefused):
        resolve_webhook_request(broken)


def test_a_body_that_is_no_json_is_refused() -> None:
    with pytest.raises(WebhookRefused):
        resolve_webhook_request(WebhookRequest(method="POST", headers={}, query={}, body=b"{"))
