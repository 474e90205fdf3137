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
    connection_form,
    resolve_connection,
    resolve_webhook_request,
    start,
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


def test_scopes_are_joined_by_commas() -> None:
    target = Target(key="linear-default", config=Nothing())
    config = ConnectionConfig.model_validate({"scopes": ["read", "issues:create"]})
    assert start(OAuthContext(target=target, config=config)).parameters["scope"] == "read,issues:create"
    assert start(OAuthContext(target=target, config=ConnectionConfig())).parameters["scope"] == "read,write"


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
