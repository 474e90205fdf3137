"""The watch on the control plane: events applied in order, the stream resumed where it broke off.

What cannot be read ends the stream, and the next one begins with a snapshot: it is better to ask for everything than
to have understood half. Each end is followed by a pause of random length, longer each time.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, Never

import structlog

from control_client.backoff import pause_seconds
from control_client.errors import UNEXPECTED_ANSWER, ControlError, unexpected
from control_client.plans import (
    IDLE_SECONDS,
    AnnouncedPlan,
    Invalidated,
    PlanRemoved,
    Revoked,
    Snapshot,
    WatchEvent,
    open_watch,
)
from control_client.session import ControlSession
from gateway.core.credential_cache import RevocationsFull
from gateway.core.plan_index import Announced
from gateway.freshness import Freshness
from gateway.metrics import Metrics
from gateway.plan_bodies import PlanBodies
from gateway.plan_store import Contact, PlanStore
from gateway.revocations import Revocation, RevocationLimitError

# How often the time of the last word is written down: a restart may take what is known for that much older.
CONTACT_SECONDS: Final = 30.0

_log = structlog.get_logger(__name__)


class PlanWatcher:
    """Follow the watch stream until cancelled. Used from the event loop only."""

    def __init__(
        self,
        session: ControlSession,
        bodies: PlanBodies,
        store: PlanStore,
        freshness: Freshness,
        metrics: Metrics,
        *,
        revoke: Callable[[str, str, float, str | None], int],
        invalidate: Callable[[str, str | None, str | None], int],
        now: Callable[[], float],
        idle_seconds: float = IDLE_SECONDS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """now is unix time."""
        self._session = session
        self._bodies = bodies
        self._store = store
        self._freshness = freshness
        self._metrics = metrics
        self._revoke = revoke
        self._invalidate = invalidate
        self._now = now
        self._idle_seconds = idle_seconds
        self._sleep = sleep
        self._last_event_id: str | None = None
        # What the stream has revoked and is still in force, for the disk and so that a snapshot repeats nothing.
        self._revoked: dict[tuple[str, str, str | None], float] = {}
        self._saved_at = float("-inf")
        self._was_heard = False

    async def run(self) -> None:
        """Open the stream again and again; never returns."""
        attempt = 0
        while True:
            self._was_heard = False
            try:
                await self._follow()
            except ControlError as error:
                _log.warning("watch_lost", detail=str(error))
                if not error.temporary or (error.code == UNEXPECTED_ANSWER and error.status == 0):
                    # What was not understood is asked for whole; what only broke off goes on where it was.
                    self._last_event_id = None
                told = error.retry_after_seconds if error.status else 0
            except Exception:
                # Our own bug. It must not leave what is known looking fresh for ever.
                _log.exception("watch_failed")
                self._last_event_id, told = None, 0
            self._metrics.watch_connected = False
            self._freshness.lost()
            attempt = 1 if self._was_heard else attempt + 1
            await self._sleep(told + pause_seconds(attempt, random.random()))

    async def _follow(self) -> Never:
        """Follow one stream to its end, which is a ControlError."""
        # Without a place to resume at there has to be a snapshot before anything counts as heard.
        is_behind = self._last_event_id is None
        async with open_watch(self._session, self._last_event_id, idle_seconds=self._idle_seconds) as watch:
            while True:
                for event, event_id in await watch.next():
                    self.apply(event)
                    self._last_event_id = event_id
                    is_behind = is_behind and not isinstance(event, Snapshot)
                if not is_behind:
                    self._heard()

    def restore(self, contact: Contact) -> None:
        """Revoke again what was revoked when an earlier process was last told; expired ones are left out."""
        for revocation in contact.revocations:
            self._apply_revocation(revocation)

    def apply(self, event: WatchEvent) -> None:
        """Act on one event now; what has to be fetched for it is fetched behind."""
        self._metrics.watch_events += 1
        match event:
            case Snapshot(plans=plans, revocations=revocations):
                self._bodies.replace({plan.sandbox_id: Announced(plan.revision, plan.digest) for plan in plans})
                for revoked in revocations:
                    self._apply_revocation(Revocation(*revoked))
                # Whatever was invalidated since the last word is not in a snapshot.
                self._invalidate("all", None, None)
                _log.info("snapshot", plans=len(plans), revocations=len(revocations))
                self._saved_at = float("-inf")
            case AnnouncedPlan(sandbox_id=sandbox_id, revision=revision, digest=digest):
                self._bodies.announce(sandbox_id, Announced(revision, digest))
            case PlanRemoved(sandbox_id=sandbox_id):
                self._bodies.remove(sandbox_id)
            case Revoked():
                self._apply_revocation(Revocation(*event))
                self._saved_at = float("-inf")
            case Invalidated(kind=kind, name=name, organization_id=whose):
                number = self._invalidate(kind, name, whose)
                _log.info("credentials_invalidated", kind=kind, id=name, organization_id=whose, entries=number)

    def _apply_revocation(self, revocation: Revocation) -> None:
        kind, name, until, whose = revocation
        if until <= self._now() or self._revoked.get((kind, name, whose), 0.0) >= until:
            return
        try:
            ended = self._revoke(kind, name, until, whose)
        except (RevocationLimitError, RevocationsFull) as error:
            # What cannot be noted cannot be kept. The stream ends here, and what is known ages until it can be.
            _log.error("revocation_not_noted", kind=kind, id=name, organization_id=whose, detail=str(error))
            raise unexpected("more revocations than can be held") from None
        self._revoked[kind, name, whose] = until
        _log.warning("revoked", kind=kind, id=name, organization_id=whose, until=until, streams_ended=ended)

    def _heard(self) -> None:
        self._was_heard = self._metrics.watch_connected = True
        self._freshness.heard()
        now = self._now()
        if now >= self._saved_at + CONTACT_SECONDS:
            self._saved_at = now
            self._revoked = {named: until for named, until in self._revoked.items() if until > now}
            revocations = tuple(
                Revocation(kind, name, until, whose) for (kind, name, whose), until in self._revoked.items()
            )
            self._store.save_contact(Contact(int(now), revocations))

    def __repr__(self) -> str:
        return f"<PlanWatcher behind {self._last_event_id}, {len(self._revoked)} revoked>"
