"""What is still to be done about events: make out who is told, and tell them until they say 2xx, or for too long.

One of these runs in every replica. Work is found in the database and taken there: an event by the transaction that
makes its deliveries out, a delivery by a lease in its row, which ends by itself where its holder has died. So what was
written is done at least once, by whichever replica is there; nobody is asked within a transaction.
"""

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple

import orjson
import structlog

from control_plane.outbound.checked_session import CheckedSession
from control_plane.outbound.delivery import Message, Outcome, attempt
from control_plane.outbound.retry import Pace, pause_seconds
from control_plane.rounds import work_in_rounds
from control_plane.store import webhook_deliveries as deliveries
from control_plane.store import webhooks as rows
from control_plane.store.database import Database, DatabaseUnavailable, Transaction
from control_plane.store.models import WebhookDelivery, WebhookEvent, WebhookSubscription
from control_plane.vault.envelope import Place, Vault
from control_plane.webhooks.fair_share import Place as Taken
from control_plane.webhooks.fair_share import Waiting, share
from control_plane.webhooks.signing import signed_headers
from sallyport.net.tasks import TaskSet

# How soon a replica notices what another one has taken in, or a retry that is due.
LOOK_SECONDS: Final = 1.0
# Events whose deliveries are made out in one transaction.
EVENTS_A_ROUND: Final = 50
# Subscribers who are looked at in one round; more are served in the next ones.
SUBSCRIBERS_A_ROUND: Final = 256
# On top of an attempt's own time: until its result is written, on a database that is slow.
LEASE_SECONDS: Final = 30.0
# Some 30 attempts in a day; whoever is back is told within the hour.
PACE: Final = Pace(5, 3_600)
# A result that cannot be written because the database is away; after that the attempt is made again.
STORE_AGAIN_SECONDS: Final = (1.0, 5.0)

_log = structlog.get_logger(__name__)


class _Claim(NamedTuple):
    """A delivery that is this replica's until its lease ends; `attempts` tells this claim from any later one."""

    event_id: str
    subscription_id: str
    attempts: int
    place: Taken


class Outbox:
    """Works off what is written. `owner` is another word in each process."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        session: CheckedSession,
        now: Callable[[], float],
        owner: str,
        *,
        delivery_seconds: float,
        give_up_seconds: float,
    ) -> None:
        self._database = database
        self._vault = vault
        self._session = session
        self._now = now
        self._owner = owner
        self._delivery_seconds = delivery_seconds
        self._give_up_seconds = give_up_seconds
        self._woken = asyncio.Event()
        self._under_way: set[_Claim] = set()
        self._tasks = TaskSet(self._failed)

    def wake(self) -> None:
        """Look at once: something was written."""
        self._woken.set()

    async def run(self) -> None:
        """Work for ever; cancelled, end the attempts that are under way, which others make again."""
        try:
            await work_in_rounds(self.work, self._woken, LOOK_SECONDS, "webhooks_database_unavailable")
        finally:
            await self._tasks.close()

    async def work(self) -> None:
        """Do what is due now: every event, and a fair share of the deliveries. Raises DatabaseUnavailable."""
        while await self._make_out():
            pass
        for claim in await self._claim():
            self._under_way.add(claim)
            self._tasks.spawn(self._deliver(claim), name="webhook delivery")

    @property
    def is_idle(self) -> bool:
        """Whether no attempt is under way."""
        return len(self._tasks) == 0

    # --- events -------------------------------------------------------------------------------------------------------

    async def _make_out(self) -> bool:
        """Write the deliveries of some events; say whether there may be more."""
        async with self._database.read() as tx:
            if not await rows.has_pending(tx):
                return False
        now = self._now()
        async with self._database.write() as tx:
            events = await rows.take_pending(tx, EVENTS_A_ROUND)
            for event in events:
                for subscription in await rows.subscribers(tx, event.organization_id, event.connection_id):
                    types = orjson.loads(subscription.event_types)
                    if not types or event.type in types:
                        await deliveries.make_out(tx, event.id, subscription.id, now, now + self._give_up_seconds)
                event.state = "processed"
        return len(events) == EVENTS_A_ROUND

    # --- deliveries ---------------------------------------------------------------------------------------------------

    async def _claim(self) -> list[_Claim]:
        now = self._now()
        async with self._database.read() as tx:
            waiting = [Waiting(*each) for each in await deliveries.due(tx, now, SUBSCRIBERS_A_ROUND)]
        organization_of = {each.subscription_id: each.organization_id for each in waiting}
        shares = share(waiting, [claim.place for claim in self._under_way])
        if not shares:
            return []
        until = now + self._delivery_seconds + LEASE_SECONDS
        claims: list[_Claim] = []
        async with self._database.write() as tx:
            for subscription_id, count in shares.items():
                place = Taken(organization_of[subscription_id], subscription_id)
                for row in await deliveries.claim(tx, subscription_id, self._owner, now, until, count):
                    claims.append(_Claim(row.event_id, subscription_id, row.attempts, place))
        return claims

    async def _deliver(self, claim: _Claim) -> None:
        try:
            message = await self._message(claim)
            if message is None:
                return
            outcome = await attempt(self._session, message, self._delivery_seconds)
            await self._note(claim, outcome)
        except DatabaseUnavailable:
            _log.warning("webhook_result_not_written", event_id=claim.event_id, subscription_id=claim.subscription_id)
        finally:
            self._under_way.discard(claim)
            self.wake()

    async def _message(self, claim: _Claim) -> Message | None:
        """Return what is sent; None where event or subscription are gone."""
        async with self._database.read() as tx:
            event = await rows.event(tx, claim.event_id)
            subscription = await deliveries.subscription(tx, claim.subscription_id)
            if event is None or subscription is None:
                return None
            secret = await self._vault.open(tx, secret_place(subscription), subscription.secret)
        body = message_body(event, subscription.profile_id)
        return Message(subscription.url, body, signed_headers(secret, event.id, self._now(), body))

    async def _note(self, claim: _Claim, outcome: Outcome) -> None:
        for pause in STORE_AGAIN_SECONDS:
            try:
                await self._write(claim, outcome)
                return
            except DatabaseUnavailable:
                await asyncio.sleep(pause)
        await self._write(claim, outcome)

    async def _write(self, claim: _Claim, outcome: Outcome) -> None:
        now = self._now()
        async with self._database.write() as tx:
            if outcome.is_gone:
                await self._disable(tx, claim, now)
            row = await deliveries.delivery(tx, claim.event_id, claim.subscription_id, lock=True)
            if row is None or (row.owner, row.attempts) != (self._owner, claim.attempts):
                return  # it was deleted, or its lease ended and another one tells the subscriber too
            note(row, outcome, now, random.random())
            state, attempts = row.state, row.attempts
        if not outcome.is_delivered:
            _log.warning(
                "webhook_not_delivered",
                event_id=claim.event_id,
                subscription_id=claim.subscription_id,
                status=outcome.status,
                reason=outcome.error,
                attempts=attempts,
                state=state,
            )

    async def _disable(self, tx: Transaction, claim: _Claim, now: float) -> None:
        subscription = await deliveries.subscription(tx, claim.subscription_id, lock=True)
        if subscription is not None and subscription.enabled:
            subscription.enabled, subscription.updated_at = False, int(now)
            _log.warning("webhook_subscription_gone", subscription_id=subscription.id)

    def _failed(self, name: str, error: BaseException) -> None:
        # Its lease ends, and it is tried again.
        _log.error("webhook_delivery_failed", exc_info=error)


def note(row: WebhookDelivery, outcome: Outcome, now: float, chance: float) -> None:
    """Write down in a claimed delivery what came of its attempt, and when the next one is."""
    row.owner, row.last_status, row.last_error, row.updated_at = "", outcome.status, outcome.error, int(now)
    row.not_before = int(now) + pause_seconds(PACE, row.attempts, chance, outcome.retry_after)
    if outcome.is_delivered:
        row.state = deliveries.DELIVERED
    elif outcome.is_gone or row.not_before > row.give_up_at:
        row.state = deliveries.FAILED


def message_body(event: WebhookEvent, profile_id: str) -> bytes:
    """Return what a subscriber is sent: the same bytes in every attempt. `data.payload` is the provider's own."""
    at = datetime.fromtimestamp(event.received_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    data = {
        "eventId": event.id,
        "organizationId": event.organization_id,
        "sandboxProfileId": profile_id,
        "targetKey": event.target_key,
        "connectionId": event.connection_id,
        "payload": orjson.Fragment(event.payload),
    }
    return orjson.dumps({"type": event.type, "timestamp": at, "data": data})


def secret_place(subscription: WebhookSubscription) -> Place:
    """Return what the ciphertext of a subscription's secret is bound to."""
    return Place(subscription.organization_id, "webhook_subscriptions", (subscription.id,), "secret")
