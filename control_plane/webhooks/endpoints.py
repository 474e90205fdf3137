"""The URLs that providers send events to: of a target, or of one of its connections."""

import secrets
from typing import Final

from control_plane import connections
from control_plane.definitions.contract import WebhookSource
from control_plane.definitions.registry import Registry
from control_plane.offered import enabled_offer, find_offer
from control_plane.refusals import ControlCode, FieldIssue, Refused
from control_plane.store import connections as connection_rows
from control_plane.store import targets
from control_plane.store import webhooks as rows
from control_plane.store.database import Database, Transaction
from control_plane.store.models import WebhookEndpoint
from control_plane.webhooks.ingest import endpoint_not_found

# Below the public URL.
PATH: Final = "/p/integration/webhooks/"
# One is needed; a second one while a provider is told of a new URL.
MOST_OF_ONE: Final = 4
# Nobody finds one by trying; what proves an event is its signature all the same.
_KEY_BYTES: Final = 24


class WebhookEndpoints:
    """Makes, shows and deletes endpoints. An organization sees those of its connections; None is an operator."""

    def __init__(self, database: Database, registry: Registry, public_url: str) -> None:
        self._database = database
        self._registry = registry
        self._public_url = public_url

    async def create(
        self, target_key: str, connection_id: str | None, organization_id: str | None, now: float
    ) -> dict[str, object]:
        """Make an endpoint. Raises Refused."""
        async with self._database.write() as tx:
            offer = await enabled_offer(tx, self._registry, target_key)
            source = offer.definition.webhook_source
            if source is None or offer.definition.webhook_handler is None:
                raise Refused(ControlCode.WEBHOOKS_NOT_OFFERED, "its definition describes none")
            _refuse_wrong_owner(source, connection_id)
            if connection_id is None:
                if organization_id is not None:
                    raise Refused(ControlCode.FORBIDDEN, "an endpoint of a whole target is for operators to make")
                await targets.target(tx, target_key, lock=True)
            else:
                await self._own_connection(tx, target_key, connection_id, organization_id)
            if await rows.count_endpoints(tx, target_key, connection_id) >= MOST_OF_ONE:
                raise Refused(ControlCode.LIMIT_REACHED, f"delete one of its {MOST_OF_ONE} endpoints first")
            endpoint = WebhookEndpoint(
                key=f"whk_{secrets.token_hex(_KEY_BYTES)}",
                target_key=target_key,
                connection_id=connection_id,
                created_at=int(now),
            )
            await tx.add(endpoint)
            return self._document(endpoint, source)

    async def get(self, key: str, organization_id: str | None) -> dict[str, object]:
        """Return one endpoint. Raises Refused."""
        async with self._database.read() as tx:
            return await self._shown(tx, await self._own(tx, key, organization_id))

    async def page(self, organization_id: str | None, after: str, limit: int) -> list[dict[str, object]]:
        """Return endpoints by key, after one."""
        async with self._database.read() as tx:
            found = await rows.list_endpoints(tx, organization_id, after, limit)
            return [await self._shown(tx, each) for each in found]

    async def remove(self, key: str, organization_id: str | None) -> None:
        """Delete an endpoint; what came by it stays. Raises Refused."""
        async with self._database.write() as tx:
            await tx.delete(await self._own(tx, key, organization_id, lock=True))

    async def _own(
        self, tx: Transaction, key: str, organization_id: str | None, *, lock: bool = False
    ) -> WebhookEndpoint:
        endpoint = await rows.endpoint(tx, key, lock=lock)
        if endpoint is None:
            raise endpoint_not_found()
        if organization_id is not None:
            connection_id = endpoint.connection_id
            connection = None if connection_id is None else await connection_rows.connection(tx, connection_id)
            if connection is None or connection.organization_id != organization_id:
                raise endpoint_not_found()
        return endpoint

    async def _own_connection(
        self, tx: Transaction, target_key: str, connection_id: str, organization_id: str | None
    ) -> None:
        connection = await connection_rows.connection(tx, connection_id, lock=True)
        if connection is None or connection.target_key != target_key:
            raise connections.not_found()
        if organization_id not in (None, connection.organization_id):
            raise connections.not_found()
        if connection.status == connections.REVOKED:
            raise Refused(ControlCode.CONNECTION_NOT_ACTIVE, "it was revoked")

    async def _shown(self, tx: Transaction, endpoint: WebhookEndpoint) -> dict[str, object]:
        offer = await find_offer(tx, self._registry, endpoint.target_key)
        return self._document(endpoint, None if offer is None else offer.definition.webhook_source)

    def _document(self, endpoint: WebhookEndpoint, source: WebhookSource | None) -> dict[str, object]:
        """Return an endpoint as the API shows it; what its definition says is absent where that is gone."""
        shown: dict[str, object] = {
            "endpointKey": endpoint.key,
            "url": f"{self._public_url}{PATH}{endpoint.key}",
            "targetKey": endpoint.target_key,
        }
        if endpoint.connection_id is not None:
            shown["connectionId"] = endpoint.connection_id
        if source is not None:
            shown |= {"describe": source.describe, "eventTypes": list(source.event_types)}
        return shown | {"createdAt": endpoint.created_at}


def _refuse_wrong_owner(source: WebhookSource, connection_id: str | None) -> None:
    """By path the URL names the connection; by payload the event does."""
    if source.routing == "path" and connection_id is None:
        issue = FieldIssue("missing_field", "/connectionId", "its events are told apart by the URL: name a connection")
    elif source.routing == "payload" and connection_id is not None:
        issue = FieldIssue("unknown_field", "/connectionId", "one URL serves all its connections: name none")
    else:
        return
    raise Refused(ControlCode.INVALID_REQUEST, "this integration's endpoints belong elsewhere", issues=[issue])
