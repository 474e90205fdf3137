"""The events of the operator's app at Slack, which find their connection by the workspace or the enterprise.

From Slack's documentation: "The Events API" (the envelope; `event_id` is unique in all workspaces; `authorizations`
names an installation that may see the event, which in a shared channel need not be of the workspace where it happened),
url_verification (the challenge comes back), app_rate_limited (without an id), "Verifying requests from Slack".
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from control_plane.definitions.contract import (
    Connection,
    SlackSignature,
    WebhookEvent,
    WebhookHandler,
    WebhookRefused,
    WebhookRequest,
    WebhookResponse,
    WebhookSource,
)
from control_plane.definitions.slack.oauth import ConnectionConfig


def resolve_webhook_request(request: WebhookRequest) -> WebhookResponse | WebhookEvent:
    """Read Slack's envelope, or give its challenge back."""
    try:
        payload = orjson.loads(request.body)
    except orjson.JSONDecodeError:
        raise WebhookRefused("the body is not JSON") from None
    if not isinstance(payload, dict):
        raise WebhookRefused("an object is expected")
    match payload:
        case {"type": "url_verification", "challenge": str(challenge)}:
            return WebhookResponse(status=200, body=orjson.dumps({"challenge": challenge}))
        case {"type": "event_callback", "event_id": str(event_id), "event": {"type": str(kind)}} if event_id:
            at = payload.get("event_time")
            return _event(payload, event_id, kind, at if isinstance(at, int) else None)
        case {"type": "app_rate_limited", "team_id": str(team), "minute_rate_limited": int(minute)}:
            return _event(payload, f"app_rate_limited-{team}-{minute}", "app_rate_limited", minute)
    raise WebhookRefused("an event_callback with event_id and event is expected")


def _event(payload: dict[str, Any], external_id: str, kind: str, at: int | None) -> WebhookEvent:
    return WebhookEvent(
        external_id=external_id,
        type=kind,
        # `token` is Slack's older proof of origin: a secret, and nobody's business behind this door.
        payload={name: value for name, value in payload.items() if name != "token"},
        occurred_at=at,
        subject=_subject(payload),
    )


def _subject(payload: Mapping[str, Any]) -> dict[str, str]:
    """Name the installation by one id: an event of a workspace is never one of the enterprise it belongs to."""
    authorizations = payload.get("authorizations")
    first = authorizations[0] if isinstance(authorizations, list) and authorizations else None
    installation = first if isinstance(first, dict) else payload
    name = "enterprise_id" if installation.get("is_enterprise_install") is True else "team_id"
    value = installation.get(name)
    return {name: value} if isinstance(value, str) and value else {}


def resolve_connection(event: WebhookEvent, connection: Connection[ConnectionConfig]) -> bool:
    """The connection to the event's workspace, or to its enterprise where the app is in all of it."""
    config = connection.config
    if config.team_id is not None:
        return event.subject.get("team_id") == config.team_id
    return config.enterprise_id is not None and event.subject.get("enterprise_id") == config.enterprise_id


WEBHOOK_HANDLER: Final = WebhookHandler(
    resolve_webhook_request=resolve_webhook_request,
    verification=SlackSignature(),
    resolve_connection=resolve_connection,
)

WEBHOOK_SOURCE: Final = WebhookSource(
    ownership="target",
    routing="payload",
    registration="implicit",
    event_types=(
        "app_mention",
        "message",
        "reaction_added",
        "member_joined_channel",
        "app_uninstalled",
        "tokens_revoked",
    ),
    describe="Enter this URL as request URL under Event Subscriptions of the app; keep its signing secret here.",
)
