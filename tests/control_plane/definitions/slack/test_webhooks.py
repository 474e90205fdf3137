"""Slack's events: the challenge comes back, and an event finds the one installation that may see it."""

import json

import pytest

from control_plane.definitions.contract import (
    Connection,
    MethodKind,
    WebhookEvent,
    WebhookRefused,
    WebhookRequest,
    WebhookResponse,
)
from control_plane.definitions.slack.oauth import ConnectionConfig
from control_plane.definitions.slack.webhooks import resolve_connection, resolve_webhook_request

EVENT = {
    "token": "canary-of-old",
    "type": "event_callback",
    "team_id": "T1",
    "event_id": "Ev1",
    "event_time": 1_700_000_000,
    "event": {"type": "app_mention", "text": "hello"},
    "authorizations": [{"team_id": "T2", "enterprise_id": "E1", "is_enterprise_install": False}],
}


def request(body: object) -> WebhookRequest:
    return WebhookRequest(method="POST", headers={}, query={}, body=json.dumps(body).encode())


def connection(**config: str) -> Connection[ConnectionConfig]:
    return Connection(
        id="con_1", method=MethodKind.OAUTH2_AUTHORIZATION_CODE, config=ConnectionConfig.model_validate(config)
    )


def event_of(**members: object) -> WebhookEvent:
    event = resolve_webhook_request(request(EVENT | members))
    assert isinstance(event, WebhookEvent)
    return event


def test_a_challenge_is_given_back_once_it_is_proved() -> None:
    answer = resolve_webhook_request(request({"type": "url_verification", "challenge": "c1", "token": "canary"}))
    assert isinstance(answer, WebhookResponse)
    assert (answer.status, json.loads(answer.body), answer.needs_verification) == (200, {"challenge": "c1"}, True)


def test_an_event_has_its_id_its_type_and_its_time_and_no_token() -> None:
    event = event_of()
    assert (event.external_id, event.type, event.occurred_at) == ("Ev1", "app_mention", 1_700_000_000)
    assert event.payload["event"] == EVENT["event"]
    assert "canary" not in repr(event)


def test_an_event_is_the_authorized_workspaces_and_not_the_one_where_it_happened() -> None:
    event = event_of()
    assert resolve_connection(event, connection(teamId="T2", enterpriseId="E1"))
    assert not resolve_connection(event, connection(teamId="T1"))
    assert not resolve_connection(event, connection(enterpriseId="E1")), "a workspace's event is not its enterprise's"
    assert not resolve_connection(event, connection())


def test_an_event_of_a_whole_enterprise_is_not_one_workspaces() -> None:
    where = {"team_id": "T2", "enterprise_id": "E1", "is_enterprise_install": True}
    event = event_of(authorizations=[where])
    assert resolve_connection(event, connection(enterpriseId="E1"))
    assert not resolve_connection(event, connection(teamId="T2", enterpriseId="E1"))


@pytest.mark.parametrize("authorizations", [None, [], ["x"], 7])
def test_without_authorizations_the_envelope_names_the_workspace(authorizations: object) -> None:
    assert resolve_connection(event_of(authorizations=authorizations), connection(teamId="T1"))


def test_a_limit_that_was_met_is_an_event_without_an_id() -> None:
    event = resolve_webhook_request(
        request({"type": "app_rate_limited", "team_id": "T1", "minute_rate_limited": 1_700_000_040})
    )
    assert isinstance(event, WebhookEvent)
    assert (event.external_id, event.type) == ("app_rate_limited-T1-1700000040", "app_rate_limited")
    assert resolve_connection(event, connection(teamId="T1"))


@pytest.mark.parametrize(
    "body",
    [
        [1],
        {},
        {"type": "url_verification"},
        EVENT | {"event_id": ""},
        EVENT | {"event_id": 7},
        EVENT | {"event": {}},
        {"type": "view_submission"},
    ],
)
def test_what_is_no_event_is_refused(body: object) -> None:
    with pytest.raises(WebhookRefused):
        resolve_webhook_request(request(body))


def test_a_body_that_is_no_json_is_refused() -> None:
    with pytest.raises(WebhookRefused):
        resolve_webhook_request(WebhookRequest(method="POST", headers={}, query={}, body=b"payload=%7B%7D"))
