"""Signatures of webhooks, and what definitions read of a request.

Allowed outcomes, for any bytes as fields and body:
- is_signed: no, but for exactly what was signed here;
- resolve_webhook_request: an event, an answer, or WebhookRefused;
- what an event says can be compared, and written as JSON.
"""

import json

from control_plane.definitions.contract import (
    HmacSignature,
    SlackSignature,
    StandardSignature,
    WebhookRefused,
    WebhookRequest,
    WebhookResponse,
)
from control_plane.definitions.github.webhooks import HANDLER as GITHUB
from control_plane.definitions.linear.default import DEFINITION as LINEAR
from control_plane.definitions.slack.webhooks import WEBHOOK_HANDLER as SLACK
from control_plane.webhooks.verification import is_signed
from sallyport.secret import Secret
from tests.support.fuzzing import run
from tests.support.webhook_signatures import STANDARD_SIGNING, signed

NOW = 1_700_000_000.0
SECRET = Secret(STANDARD_SIGNING.encode("ascii"))
SCHEMES = (HmacSignature(header="x-signature", prefix="sha256="), SlackSignature(), StandardSignature())
HANDLERS = tuple(each for each in (GITHUB, LINEAR.webhook_handler, SLACK) if each is not None)
BODY = (
    b'{"action":"opened","type":"Issue","installation":{"id":7},"organizationId":"o","webhookTimestamp":1700000000000}'
)
FIELDS = {
    "x-github-event": "issues",
    "x-github-delivery": "guid",
    "linear-delivery": "guid",
    "content-type": "application/json",
}


def input_of(fields: dict[str, str], body: bytes) -> bytes:
    """Write a request as this target reads it: a line for each field, an empty one, the body."""
    return "".join(f"{name}:{value}\n" for name, value in fields.items()).encode("latin-1") + b"\n" + body


def read(data: bytes) -> WebhookRequest:
    """Read a request from any bytes."""
    head, _, body = data.partition(b"\n\n")
    fields = (line.partition(":") for line in head.decode("latin-1").split("\n"))
    return WebhookRequest(method="POST", headers={name: value for name, _, value in fields}, query={}, body=body)


SEEDS = (
    *(input_of(signed(scheme, BODY, NOW, STANDARD_SIGNING), BODY) for scheme in SCHEMES),
    input_of(FIELDS, BODY),
    input_of(FIELDS | {"x-github-event": "ping"}, b"{}"),
    input_of(
        {}, b'{"type":"event_callback","event_id":"Ev1","team_id":"T1","event":{"type":"message"},"event_time":1}'
    ),
    input_of({"x-slack-request-timestamp": "1700000000", "x-slack-signature": "v0=00"}, b"payload=%7B%7D"),
)


def check(data: bytes) -> None:
    """Check one input."""
    request = read(data)
    for scheme in SCHEMES:
        if is_signed(scheme, SECRET, request, NOW):
            assert request.body == BODY, scheme
    for handler in HANDLERS:
        try:
            found = handler.resolve_webhook_request(request)
        except WebhookRefused:
            continue
        if isinstance(found, WebhookResponse):
            continue
        at = handler.occurred_at(found)
        assert at is None or abs(NOW - at) >= 0
        json.dumps([found.external_id, found.type, found.payload, dict(found.subject)])


if __name__ == "__main__":
    run(check, SEEDS)
