"""Who is told of events that reach the connections of a sandbox profile, and what became of that."""

from collections.abc import Sequence
from typing import Final

import orjson

from control_plane import sandboxes
from control_plane.ids import new_id
from control_plane.outbound.url import url_fault
from control_plane.refusals import ControlCode, FieldIssue, Refused
from control_plane.store import sandboxes as sandbox_rows
from control_plane.store import webhook_deliveries as rows
from control_plane.store.database import Database, Transaction
from control_plane.store.models import WebhookDelivery, WebhookSubscription
from control_plane.vault.envelope import Vault
from control_plane.webhooks.outbox import secret_place
from control_plane.webhooks.signing import new_secret, shown_once
from sallyport.secret import Secret

# Of one profile: a system of the organization's each, not one for each sandbox.
MOST_OF_PROFILE: Final = 20


class WebhookSubscriptions:
    """Makes and changes subscriptions; what they are told with is shown once."""

    def __init__(self, database: Database, vault: Vault, *, give_up_seconds: float) -> None:
        self._database = database
        self._vault = vault
        self._give_up_seconds = give_up_seconds

    async def create(self, profile_id: str, url: str, event_types: Sequence[str], now: float) -> dict[str, object]:
        """Make a subscription, and show its secret. Raises Refused."""
        _refuse_url(url)
        secret = new_secret()
        async with self._database.write() as tx:
            profile = await sandbox_rows.profile(tx, profile_id, lock=True)
            if profile is None:
                raise sandboxes.profile_not_found()
            if await rows.count_subscriptions(tx, profile_id) >= MOST_OF_PROFILE:
                raise Refused(ControlCode.LIMIT_REACHED, f"delete one of its {MOST_OF_PROFILE} subscriptions first")
            subscription = WebhookSubscription(
                id=new_id("whs", now),
                organization_id=profile.organization_id,
                profile_id=profile_id,
                url=url,
                event_types=_types(event_types),
                enabled=True,
                created_at=int(now),
            )
            await self._give(tx, subscription, secret, now)
            await tx.add(subscription)
            return _document(subscription) | {"secret": shown_once(secret)}

    async def get(self, profile_id: str, subscription_id: str) -> dict[str, object]:
        """Return one subscription. Raises Refused."""
        async with self._database.read() as tx:
            return _document(await _own(tx, profile_id, subscription_id))

    async def page(self, profile_id: str, after: str, limit: int) -> list[dict[str, object]]:
        """Return the subscriptions of a profile by id, after one. Raises Refused."""
        async with self._database.read() as tx:
            if await sandbox_rows.profile(tx, profile_id) is None:
                raise sandboxes.profile_not_found()
            return [_document(each) for each in await rows.list_subscriptions(tx, profile_id, after, limit)]

    async def change(
        self,
        profile_id: str,
        subscription_id: str,
        *,
        url: str | None,
        event_types: Sequence[str] | None,
        enabled: bool | None,
        rotate_secret: bool,
        now: float,
    ) -> dict[str, object]:
        """Change what is given; a new secret counts at once, and is shown. Raises Refused."""
        if url is not None:
            _refuse_url(url)
        async with self._database.write() as tx:
            subscription = await _own(tx, profile_id, subscription_id, lock=True)
            if url is not None:
                subscription.url = url
            if event_types is not None:
                subscription.event_types = _types(event_types)
            if enabled is not None:
                subscription.enabled = enabled
            subscription.updated_at = int(now)
            if not rotate_secret:
                return _document(subscription)
            secret = new_secret()
            await self._give(tx, subscription, secret, now)
            return _document(subscription) | {"secret": shown_once(secret)}

    async def remove(self, profile_id: str, subscription_id: str) -> None:
        """Delete a subscription and what was on its way to it. Raises Refused."""
        async with self._database.write() as tx:
            await tx.delete(await _own(tx, profile_id, subscription_id, lock=True))

    async def deliveries(
        self, profile_id: str, subscription_id: str, before: str, limit: int
    ) -> list[dict[str, object]]:
        """Return what became of events, the newest first, before one. Raises Refused."""
        async with self._database.read() as tx:
            await _own(tx, profile_id, subscription_id)
            return [_delivery(each) for each in await rows.list_deliveries(tx, subscription_id, before, limit)]

    async def redeliver(self, profile_id: str, subscription_id: str, event_id: str, now: float) -> dict[str, object]:
        """Tell a subscriber of an event again, whatever became of it; the outbox has to be woken. Raises Refused."""
        async with self._database.write() as tx:
            await _own(tx, profile_id, subscription_id)
            row = await rows.delivery(tx, event_id, subscription_id, lock=True)
            if row is None:
                detail = "it is kept no more, or this subscription was never to be told of it"
                raise Refused(ControlCode.WEBHOOK_EVENT_NOT_FOUND, detail)
            # While it is being told just now it is told once more: its holder's claim is void. Attempts go on counting,
            # because that is what tells one claim from another.
            row.state, row.owner = rows.PENDING, ""
            row.not_before, row.give_up_at = int(now), int(now + self._give_up_seconds)
            row.updated_at = int(now)
            return _delivery(row)

    async def _give(self, tx: Transaction, subscription: WebhookSubscription, secret: Secret, now: float) -> None:
        subscription.secret = await self._vault.seal(tx, secret_place(subscription), secret)
        subscription.updated_at = int(now)


async def _own(tx: Transaction, profile_id: str, subscription_id: str, *, lock: bool = False) -> WebhookSubscription:
    found = await rows.subscription(tx, subscription_id, lock=lock)
    if found is None or found.profile_id != profile_id:
        raise Refused(ControlCode.WEBHOOK_SUBSCRIPTION_NOT_FOUND, "it was never made, or was deleted")
    return found


def _document(subscription: WebhookSubscription) -> dict[str, object]:
    return {
        "subscriptionId": subscription.id,
        "sandboxProfileId": subscription.profile_id,
        "organizationId": subscription.organization_id,
        "url": subscription.url,
        "eventTypes": orjson.loads(subscription.event_types),
        "enabled": subscription.enabled,
        "createdAt": subscription.created_at,
        "updatedAt": subscription.updated_at,
    }


def _delivery(row: WebhookDelivery) -> dict[str, object]:
    shown: dict[str, object] = {"eventId": row.event_id, "state": row.state, "attempts": row.attempts}
    if row.last_status is not None:
        shown["lastStatus"] = row.last_status
    if row.last_error is not None:
        shown["lastError"] = row.last_error
    if row.state == rows.PENDING:
        shown |= {"nextAttemptAt": row.not_before, "givenUpAt": row.give_up_at}
    return shown | {"updatedAt": row.updated_at}


def _types(event_types: Sequence[str]) -> str:
    return orjson.dumps(sorted(set(event_types))).decode()


def _refuse_url(url: str) -> None:
    """Refuse what could never be told; which addresses it leads to is looked at for each delivery."""
    problem = url_fault(url) if url.startswith("https") else "https is expected"
    if problem is not None:
        issue = FieldIssue("invalid_url", "/url", problem)
        raise Refused(ControlCode.INVALID_REQUEST, "the subscriber cannot be told there", issues=[issue])
