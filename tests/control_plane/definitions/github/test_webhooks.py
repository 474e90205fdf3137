"""An event names its installation, and only a connection by the App is found by it."""

import json

import pytest

from control_plane.definitions.contract import (
    Connection,
    HmacSignature,
    MethodKind,
    WebhookEvent,
    WebhookRefused,
    WebhookRequest,
    WebhookResponse,
)
from control_plane.definitions.github.app import ConnectionConfig
from control_plane.definitions.github.webhooks import HANDLER, resolve_connection, resolve_webhook_request

HEADERS = {"x-github-event": "issues", "x-github-delivery": "72d3162e"}
BODY = {"action": "opened", "installation": {"id": 4711}, "issue": {"number": 1}}


def request(body: object = BODY, headers: dict[str, str] = HEADERS) -> WebhookRequest:
    return WebhookRequest(method="POST", headers=headers, query={}, body=json.dumps(body).encode())


def event(body: object = BODY, headers: dict[str, str] = HEADERS) -> WebhookEvent:
    found = resolve_webhook_request(request(body, headers))
    assert isinstance(found, WebhookEvent)
    return found


def connection(
    installation_id: str | None, method: MethodKind = MethodKind.GITHUB_APP_INSTALLATION
) -> Connection[ConnectionConfig]:
    config = ConnectionConfig.model_validate({"installationId": installation_id})
    return Connection(id="con_1", method=method, config=config)


def test_an_event_has_its_delivery_its_type_and_its_installation() -> None:
    found = event()
    assert (found.external_id, found.type, found.subject) == (
        "72d3162e",
        "issues.opened",
        {"installation_id": "4711"},
    )
    assert found.payload == BODY
    assert event({"ref": "refs/heads/main"}, {**HEADERS, "x-github-event": "push"}).type == "push"


def test_the_event_goes_to_its_installation_s_connection() -> None:
    assert resolve_connection(event(), connection("4711"))
    assert not resolve_connection(event(), connection("4712"))
    assert not resolve_connection(event(), connection(None))
    assert not resolve_connection(event(), connection("4711", MethodKind.API_KEY))


@pytest.mark.parametrize("installation", [None, {}, {"id": "4711"}, {"id": True}, {"id": None}, [4711]])
def test_an_event_without_an_installation_is_nobody_s(installation: object) -> None:
    found = event({**BODY, "installation": installation})
    assert found.subject == {}
    assert not resolve_connection(found, connection("4711"))
    assert not resolve_connection(found, connection(None))


def test_a_ping_is_answered_once_it_is_verified() -> None:
    found = resolve_webhook_request(request({"zen": "Design for failure."}, {**HEADERS, "x-github-event": "ping"}))
    assert isinstance(found, WebhookResponse)
    assert (found.status, found.needs_verification) == (200, True)


@pytest.mark.parametrize(
    "broken",
    [
        request([1]),
        request(headers={"x-github-event": "issues"}),
        request(headers={"x-github-delivery": "72d3162e"}),
        WebhookRequest(method="POST", headers=HEADERS, query={}, body=b"payload=%7B%7D"),
    ],
)
def test_what_is_no_event_is_refused(broken: WebhookRequest) -> None:
    with pytest.raises(WebhookRefused):
        resolve_webhook_request(broken)


def test_events_are_signed_as_github_signs_them() -> None:
    assert HANDLER.verification == HmacSignature(header="x-hub-signature-256", prefix="sha256=")
