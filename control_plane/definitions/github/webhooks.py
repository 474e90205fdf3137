"""GitHub's events, as the operator's App gets them.

From GitHub's documentation: "Webhook events and payloads" (X-GitHub-Event, X-GitHub-Delivery, `action`,
`installation`, "ping event"), "Validating webhook deliveries" (X-Hub-Signature-256, `sha256=` and hex). Payloads have
no common time, so none is judged by its age; a redelivery keeps its delivery's id.

The source is the target's: an App has one webhook for all its installations, and the installation in the payload names
the connection. Connections by a personal access token get no events. A webhook of a single repository would be theirs,
with a secret of its own, and a definition has one kind of source.
"""

from collections.abc import Mapping
from typing import Final

import orjson

from control_plane.definitions.contract import (
    Connection,
    HmacSignature,
    MethodKind,
    WebhookEvent,
    WebhookHandler,
    WebhookRefused,
    WebhookRequest,
    WebhookResponse,
    WebhookSource,
)
from control_plane.definitions.github.app import ConnectionConfig

EVENT_TYPES: Final = (
    *("push", "create", "delete", "issues.opened", "issues.edited", "issues.closed", "issue_comment.created"),
    *("pull_request.opened", "pull_request.synchronize", "pull_request.closed", "pull_request_review.submitted"),
    *("pull_request_review_comment.created", "check_suite.completed", "workflow_run.completed", "release.published"),
    *("installation.created", "installation.deleted", "installation_repositories.added"),
    "installation_repositories.removed",
)


def resolve_webhook_request(request: WebhookRequest) -> WebhookResponse | WebhookEvent:
    """An event is named by its kind and, where it has one, its action; a ping is answered."""
    kind, delivery = request.headers.get("x-github-event"), request.headers.get("x-github-delivery")
    if not kind or not delivery:
        raise WebhookRefused("the fields X-GitHub-Event and X-GitHub-Delivery are expected")
    if kind == "ping":
        return WebhookResponse(status=200, body=b"{}")
    try:
        payload = orjson.loads(request.body)
    except orjson.JSONDecodeError:
        raise WebhookRefused("the body is not JSON: choose application/json as content type of the webhook") from None
    if not isinstance(payload, dict):
        raise WebhookRefused("an object is expected")
    action = payload.get("action")
    return WebhookEvent(
        external_id=delivery,
        type=f"{kind}.{action}" if isinstance(action, str) else kind,
        payload=payload,
        subject=_subject(payload),
    )


def _subject(payload: Mapping[str, object]) -> dict[str, str]:
    installation = payload.get("installation")
    number = installation.get("id") if isinstance(installation, dict) else None
    return {"installation_id": str(number)} if type(number) is int else {}


def resolve_connection(event: WebhookEvent, connection: Connection[ConnectionConfig]) -> bool:
    """The connection by the App whose installation sent the event."""
    installation_id = event.subject.get("installation_id")
    by_app = connection.method is MethodKind.GITHUB_APP_INSTALLATION
    return installation_id is not None and by_app and connection.config.installation_id == installation_id


HANDLER: Final = WebhookHandler(
    resolve_webhook_request=resolve_webhook_request,
    verification=HmacSignature(header="x-hub-signature-256", prefix="sha256="),
    resolve_connection=resolve_connection,
)
SOURCE: Final = WebhookSource(
    ownership="target",
    routing="payload",
    registration="implicit",
    event_types=EVENT_TYPES,
    describe="Enter this URL as webhook URL in the App's settings, with application/json; keep its secret here.",
)
