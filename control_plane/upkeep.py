"""What every replica does now and then: forget what is over. Two that do it at once do it once."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from control_plane.idempotency import KEPT_SECONDS
from control_plane.minting import REPEAT_SECONDS
from control_plane.store import (
    api_keys,
    authorizations,
    connections,
    events,
    feed,
    idempotent_answers,
    keys,
    leases,
    page_sessions,
    webhook_deliveries,
    webhooks,
    workers,
)
from control_plane.store.database import Database, DatabaseUnavailable
from control_plane.workers import WorkerState

EVERY_SECONDS: Final = 60.0
# A gateway that was away for longer, or missed more, begins with a snapshot again.
EVENT_SECONDS: Final = 3_600
EVENTS_KEPT: Final = 10_000
# Clocks of replicas differ; a lease is forgotten when no replica can think it alive.
LEASE_SECONDS: Final = 3_600
# Who asked for which credential: a quarter, as audits look back.
RESOLUTION_SECONDS: Final = 90 * 86_400
# So that a record of that time still says whose key it was.
ENDED_KEY_SECONDS: Final = 90 * 86_400
# A made credential that nobody asked for again since it ended; it can be made at any time.
MADE_SECONDS: Final = 3_600
# Events with their deliveries, forgotten in one transaction; others are taken in meanwhile.
WEBHOOK_EVENTS_A_ROUND: Final = 1_000

_log = structlog.get_logger(__name__)


async def forget_what_is_over(database: Database, now: float, webhook_seconds: float) -> None:
    """Forget once. Raises DatabaseUnavailable."""
    async with database.write() as tx:
        await events.forget_events(tx, keep=EVENTS_KEPT, before=now - EVENT_SECONDS)
        await events.forget_revocations(tx, now)
    async with database.write() as tx:
        await keys.forget_expired(tx, renewals_before=now, answers_before=now - REPEAT_SECONDS)
        await leases.forget_leases(tx, now - LEASE_SECONDS)
        await workers.forget_workers(tx, (WorkerState.LOST, WorkerState.WITHDRAWN), now - LEASE_SECONDS)
    async with database.write() as tx:
        await connections.forget_resolutions(tx, now - RESOLUTION_SECONDS)
        await api_keys.forget_ended(tx, now - ENDED_KEY_SECONDS)
        await feed.forget_revoked(tx, now - ENDED_KEY_SECONDS)
        await idempotent_answers.forget(tx, now - KEPT_SECONDS)
        await connections.forget_made_before(tx, now - MADE_SECONDS)
        await authorizations.forget_authorizations(tx, now)
        await page_sessions.forget_sessions(tx, now)
    async with database.write() as tx:
        await webhook_deliveries.give_up(tx, now)
    forgotten = WEBHOOK_EVENTS_A_ROUND
    while forgotten == WEBHOOK_EVENTS_A_ROUND:
        async with database.write() as tx:
            forgotten = await webhooks.forget_events(tx, now - webhook_seconds, WEBHOOK_EVENTS_A_ROUND)


async def keep_up(database: Database, now: Callable[[], float], webhook_seconds: float) -> None:
    """Forget every minute, for ever."""
    while True:
        await asyncio.sleep(EVERY_SECONDS)
        try:
            await forget_what_is_over(database, now(), webhook_seconds)
        except DatabaseUnavailable:
            _log.warning("upkeep_database_unavailable")
