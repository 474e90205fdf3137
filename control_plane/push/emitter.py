"""Tells subscribers what has changed, each in order, until they say 2xx. Whoever changes something waits for nobody.

One of these runs in every replica. Work is found in the database: a subscriber who is behind is taken by a lease in
its row, so that one replica at a time tells it, and each push is written down before the next. A replica that dies
leaves a lease that ends by itself; what it had told last may be told once more, which receivers know by its `seq`.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Final, NamedTuple

import orjson
import structlog

from control_client.push_signature import ID, SIGNATURE, TIMESTAMP, sign
from control_plane.feed.changes import changes_after
from control_plane.feed.tiers import Tier
from control_plane.outbound.checked_session import CheckedSession
from control_plane.outbound.delivery import Message, Outcome, attempt
from control_plane.outbound.retry import Pace, pause_seconds
from control_plane.push.steps import Cursor, Push, Step, Terms, next_step
from control_plane.push.subscribers import secret_place
from control_plane.rounds import work_in_rounds
from control_plane.store import push as rows
from control_plane.store.database import Database, DatabaseUnavailable
from control_plane.vault.envelope import Vault
from sallyport.net.tasks import TaskSet
from sallyport.secret import Secret

# How soon a replica notices what another one has written, or a retry that is due.
LOOK_SECONDS: Final = 1.0
# Subscribers that one replica serves at once. One that hangs holds its place for a timeout each time.
MOST_AT_ONCE: Final = 64
# Instances of one subscriber in a round, a push each; and pushes in a turn, after which another may have its place.
INSTANCES_A_ROUND: Final = 64
PUSHES_A_TURN: Final = 64
# Changes read at once, to find the next one that is something to a subscriber.
CHANGES_A_STEP: Final = 100
# On top of an attempt's own time: until its result is written, on a database that takes as long as it may.
LEASE_SECONDS: Final = 15.0
# A change is of use while it is new; whoever is back is told within the minute, and polls anyway.
PACE: Final = Pace(1, 60)

_log = structlog.get_logger(__name__)


# What comes of an attempt, as it is counted.
DELIVERED: Final = "delivered"
ATTEMPT_RESULTS: Final = (DELIVERED, "refused", "gone", "unanswered")


class _Told(NamedTuple):
    """One step of one subscriber with one instance, ready to be sent where there is something to send.

    since is when the oldest change was recorded that it tells of, as far as that is kept.
    """

    instance_id: str
    cursor: Cursor
    step: Step
    message: Message | None
    since: int | None


class Emitter:
    """Works off what is written. `owner` is another word in each process.

    `on_attempt` is called after each with one of ATTEMPT_RESULTS, and the seconds from change to delivery.
    """

    def __init__(
        self,
        database: Database,
        vault: Vault,
        session: CheckedSession,
        now: Callable[[], float],
        owner: str,
        on_attempt: Callable[[str, float | None], None],
        *,
        timeout_seconds: float,
        collapse_after: int,
    ) -> None:
        self._database = database
        self._vault = vault
        self._session = session
        self._now = now
        self._owner = owner
        self._on_attempt = on_attempt
        self._timeout_seconds = timeout_seconds
        self._collapse_after = collapse_after
        self._woken = asyncio.Event()
        self._served: set[str] = set()
        self._tasks = TaskSet(self._failed)
        database.subscribe(self.wake)

    def wake(self) -> None:
        """Look at once: something was written."""
        self._woken.set()

    @property
    def is_idle(self) -> bool:
        """Whether nobody is being told anything."""
        return len(self._tasks) == 0

    async def run(self) -> None:
        """Work for ever; cancelled, end what is under way and let go of it, so that others take it up at once."""
        try:
            await work_in_rounds(self.work, self._woken, LOOK_SECONDS, "push_database_unavailable")
        finally:
            await self._tasks.close()
            with contextlib.suppress(DatabaseUnavailable):
                async with self._database.write() as tx:
                    await rows.let_go_of_all(tx, self._owner)

    async def work(self) -> None:
        """Begin to tell everybody who is behind, as far as there are places. Raises DatabaseUnavailable."""
        free = MOST_AT_ONCE - len(self._served)
        if free <= 0:
            return
        now = self._now()
        async with self._database.read() as tx:
            due = await rows.due(tx, now, free)
        for subscriber_id in due:
            if subscriber_id in self._served:
                continue
            async with self._database.write() as tx:
                is_ours = await rows.claim(tx, subscriber_id, self._owner, now, self._lease_end())
            if is_ours:
                self._served.add(subscriber_id)
                self._tasks.spawn(self._serve(subscriber_id), name="push")

    # --- one subscriber -----------------------------------------------------------------------------------------------

    async def _serve(self, subscriber_id: str) -> None:
        """Tell a subscriber what it has not heard, one push about each instance in turn, and let go of it."""
        try:
            pushes = 0
            while pushes < PUSHES_A_TURN and (count := await self._round(subscriber_id)):
                pushes += count
            async with self._database.write() as tx:
                await rows.let_go(tx, subscriber_id, self._owner)
        except DatabaseUnavailable:
            # The lease ends by itself, and what was told last is told once more.
            _log.warning("push_result_not_written", subscriber_id=subscriber_id)
        finally:
            self._served.discard(subscriber_id)
            self.wake()

    async def _round(self, subscriber_id: str) -> int:
        """Go one step with each instance; return how many there were, 0 where this turn is over."""
        async with self._database.read() as tx:
            subscriber = await rows.subscriber(tx, subscriber_id)
            behind = [] if subscriber is None else await rows.behind(tx, subscriber, INSTANCES_A_ROUND)
        for each in behind:
            told = await self._prepare(subscriber_id, each)
            if told is None or not await self._tell(subscriber_id, told):
                return 0
        return len(behind)

    async def _prepare(self, subscriber_id: str, behind: rows.Behind) -> _Told | None:
        """Return what comes next about an instance; None where the subscriber is not ours any more."""
        instance_id, newest, *_ = behind
        cursor = Cursor(behind.told, behind.seen)
        async with self._database.read() as tx:
            subscriber = await rows.subscriber(tx, subscriber_id)
            if subscriber is None or subscriber.owner != self._owner or not subscriber.enabled:
                return None
            changes = await changes_after(tx, instance_id, cursor.seen, CHANGES_A_STEP)
            terms = Terms(Tier(subscriber.tier), frozenset(orjson.loads(subscriber.events)))
            collapses = subscriber.attempts >= self._collapse_after
            step = next_step(cursor, changes, newest, terms, collapses=collapses)
            if step.push is None:
                return _Told(instance_id, cursor, step, None, None)
            secret = await self._vault.open(tx, secret_place(subscriber), subscriber.secret)
        message = _message(step.push, subscriber.url, instance_id, secret, self._now())
        told = step.push.change or (changes[0] if changes else None)
        return _Told(instance_id, cursor, step, message, None if told is None else told.at)

    async def _tell(self, subscriber_id: str, told: _Told) -> bool:
        """Send what there is to send and write down what came of it; say whether to go on."""
        outcome = None
        if told.message is not None:
            outcome = await attempt(self._session, told.message, self._timeout_seconds)
            self._count(outcome, told.since)
        return await self._note(subscriber_id, told, outcome)

    def _count(self, outcome: Outcome, since: int | None) -> None:
        if outcome.is_delivered:
            self._on_attempt(DELIVERED, None if since is None else max(0.0, self._now() - since))
        elif outcome.is_gone:
            self._on_attempt("gone", None)
        else:
            self._on_attempt("unanswered" if outcome.status is None else "refused", None)

    async def _note(self, subscriber_id: str, told: _Told, outcome: Outcome | None) -> bool:
        now, step = self._now(), told.step
        async with self._database.write() as tx:
            row = await rows.subscriber(tx, subscriber_id, lock=True)
            if row is None or row.owner != self._owner:
                return False  # deleted, or another replica thought us dead and has it
            row.lease_until = int(self._lease_end())
            if outcome is None or outcome.is_delivered:
                last = told.cursor.told if step.push is None else step.push.seq
                await rows.put_cursor(tx, subscriber_id, told.instance_id, told=last, seen=step.seen)
            if outcome is None:
                return True
            row.last_status, row.last_error, row.updated_at = outcome.status, outcome.error, int(now)
            row.attempts = 0 if outcome.is_delivered else row.attempts + 1
            row.enabled = row.enabled and not outcome.is_gone
            row.not_before = 0
            if not outcome.is_delivered:
                row.not_before = int(now) + pause_seconds(PACE, row.attempts, random.random(), outcome.retry_after)
            attempts = row.attempts
        if not outcome.is_delivered:
            _log.warning(
                "push_not_delivered",
                subscriber_id=subscriber_id,
                instance_id=told.instance_id,
                status=outcome.status,
                reason=outcome.error,
                attempts=attempts,
            )
        return outcome.is_delivered

    def _lease_end(self) -> float:
        return self._now() + self._timeout_seconds + LEASE_SECONDS

    def _failed(self, name: str, error: BaseException) -> None:
        # The lease ends, and it is tried again.
        _log.error("push_failed", exc_info=error)

    def __repr__(self) -> str:
        return f"<Emitter {len(self._served)} subscribers being told>"


def _message(push: Push, url: str, instance_id: str, secret: Secret, now: float) -> Message:
    message_id, body = push.message_id(instance_id), push.body(instance_id)
    shown = secret.reveal().decode("ascii")  # as bearer: contracts section 7 has both proofs
    headers = {
        "Authorization": f"Bearer {shown}",
        ID: message_id,
        TIMESTAMP: str(int(now)),
        SIGNATURE: sign(secret, message_id, int(now), body),
    }
    return Message(url, body, headers)
