"""Events as the API lists them: where each came from and how far it is, without what its provider wrote."""

from control_plane.store import webhooks as rows
from control_plane.store.database import Database
from control_plane.store.models import WebhookEvent


async def events_page(
    database: Database, organization_id: str | None, before: str, limit: int
) -> list[dict[str, object]]:
    """Return events, the newest first, before one."""
    async with database.read() as tx:
        return [_document(each) for each in await rows.list_events(tx, organization_id, before, limit)]


def _document(event: WebhookEvent) -> dict[str, object]:
    return {
        "eventId": event.id,
        "organizationId": event.organization_id,
        "targetKey": event.target_key,
        "connectionId": event.connection_id,
        "type": event.type,
        "state": event.state,
        "receivedAt": event.received_at,
    }
