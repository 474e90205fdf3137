"""Plans fetched from the control plane: those of the sandboxes held here, and others when a stream asks for one.

Always: a plan is put in force only if it is the one that is announced at that moment, by revision and by digest, and
is for its sandbox. The plan before it serves until then. Of sandboxes that nobody holds plans are dropped after a
while, but never while the control plane is away, which could not give them back.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final, Protocol

import structlog

from control_client.backoff import pause_seconds
from control_client.errors import ControlError
from control_client.plans import fetch_plan
from control_client.session import ControlSession
from gateway.core.plan_index import Announced, PlanIndex
from gateway.fetches import Fetches
from gateway.metrics import Metrics
from gateway.plan_holder import PlanConflict, PlanHolder, PlanLimitError, PreparedPlan
from gateway.plan_store import PlanStore
from sallyport.net.tasks import TaskSet
from sallyport.plan.codec import PlanError

# A sandbox may be used in the moment it is made; its announcement is on its way then.
ANNOUNCEMENT_SECONDS: Final = 1.0
# At once, of those that replace a plan and of the others: compiling is one at a time anyway, and this keeps the control
# plane's answers coming.
CONCURRENT_FETCHES: Final = 8
# A burst of plans is fetched by then; a control plane that hangs holds up none that is here for longer.
OTHERS_SECONDS: Final = 1.0
# Nobody has held the sandbox for so long: an agent that pauses to think comes back sooner.
UNHELD_SECONDS: Final = 600.0
# A sandbox nobody holds is not fetched for ever.
UNHELD_ATTEMPTS: Final = 3

_log = structlog.get_logger(__name__)


class Holdings(Protocol):
    """Who holds which sandbox here."""

    def is_held(self, sandbox_id: str) -> bool:
        """Whether the sandbox has a tunnel or an open stream here."""

    def sandboxes(self) -> Collection[str]:
        """Return the sandboxes that are held."""


class PlanBodies:
    """Keep the loaded plans what the index says. Used from the event loop only."""

    def __init__(
        self,
        session: ControlSession,
        plans: PlanHolder,
        store: PlanStore,
        holdings: Holdings,
        tasks: TaskSet,
        metrics: Metrics,
        *,
        wait_seconds: float,
        max_plan_bytes: int,
        now: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.index = PlanIndex()
        self._session = session
        self._plans = plans
        self._store = store
        self._holdings = holdings
        self._metrics = metrics
        self._wait_seconds = wait_seconds
        self._max_plan_bytes = max_plan_bytes
        self._now = now
        self._sleep = sleep
        self._fetches = Fetches(tasks, "plan")
        # What is to replace a plan may take something away: it does not wait for plans of sandboxes that come.
        self._slots = {loaded: asyncio.Semaphore(CONCURRENT_FETCHES) for loaded in (False, True)}
        self._announcements: dict[str, asyncio.Event] = {}
        # When each loaded plan's sandbox was last seen held, the longest ago first.
        self._held_at: dict[str, float] = {}
        # When each plan that is being fetched was first known to be lacking.
        self._lacking_since: dict[str, float] = {}

    # What the watch stream says ---------------------------------------------------------------------

    def replace(self, announced: Mapping[str, Announced]) -> None:
        """Take a snapshot: drop what is gone, fetch what is other, keep what is right."""
        self.index.replace(announced.items())
        for table in list(self._plans.tables()):
            if table.sandbox_id not in announced:
                self._drop(table.sandbox_id)
        for sandbox_id in {*self._held_at, *self._holdings.sandboxes()} & announced.keys():
            self._follow(sandbox_id)
        for sandbox_id in list(self._announcements):
            self._tell(sandbox_id)

    def announce(self, sandbox_id: str, announced: Announced) -> None:
        """Take an announcement: fetch the plan if it is loaded, held or waited for."""
        if self.index.announce(sandbox_id, announced):
            self._tell(sandbox_id)
            self._follow(sandbox_id)

    def remove(self, sandbox_id: str) -> None:
        """The sandbox has no plan any more."""
        self.index.remove(sandbox_id)
        self._drop(sandbox_id)

    def _follow(self, sandbox_id: str) -> None:
        if self._lacks(sandbox_id) and (self._is_loaded(sandbox_id) or self._holdings.is_held(sandbox_id)):
            self._join(sandbox_id)

    def _tell(self, sandbox_id: str) -> None:
        event = self._announcements.pop(sandbox_id, None)
        if event is not None:
            event.set()

    def _drop(self, sandbox_id: str) -> None:
        self._held_at.pop(sandbox_id, None)
        self._store.drop_plan(sandbox_id)
        if self._plans.remove(sandbox_id):
            self._metrics.plan_applied("removed")

    # What is asked for here -------------------------------------------------------------------------

    def want(self, sandbox_id: str) -> Awaitable[object] | None:
        """Begin to fetch the plan of a sandbox that has none here (gateway.plan_holder.PlanSource)."""
        return self._join(sandbox_id)

    def held(self, sandbox_id: str) -> None:
        """A sandbox is held from now on: have its plan before it is asked for."""
        if not self._is_loaded(sandbox_id) or self._lacks(sandbox_id):
            self._join(sandbox_id)

    def restore(self, documents: tuple[bytes, ...]) -> None:
        """Put plans of an earlier process in force; one that cannot be is passed over."""
        for document in documents:
            try:
                applied = self._plans.apply(document)
            except (PlanError, PlanConflict, PlanLimitError) as error:
                _log.error("plan_not_restored", detail=str(error)[:500])
                continue
            self._held_at[applied.sandbox_id] = self._now()
            self._metrics.plan_applied("applied")

    def sweep(self) -> None:
        """Drop the plans of sandboxes that nobody has held for long. For while the control plane is heard."""
        now = self._now()
        for sandbox_id in [table.sandbox_id for table in self._plans.tables()]:
            if self._holdings.is_held(sandbox_id):
                self._touch(sandbox_id)
            elif now - self._held_at.setdefault(sandbox_id, now) >= UNHELD_SECONDS:
                _log.info("plan_dropped", sandbox_id=sandbox_id, detail="nobody holds the sandbox")
                self._drop(sandbox_id)

    def _touch(self, sandbox_id: str) -> None:
        self._held_at.pop(sandbox_id, None)
        self._held_at[sandbox_id] = self._now()

    # Fetching ---------------------------------------------------------------------------------------

    def _join(self, sandbox_id: str) -> Awaitable[None]:
        return self._fetches.join(sandbox_id, lambda: self._fetch(sandbox_id), wait_seconds=self._wait_seconds)

    async def _fetch(self, sandbox_id: str) -> None:
        """Fetch until what is in force is what is announced, or until trying again cannot help."""
        if self.index.get(sandbox_id) is None:
            await self._await_announcement(sandbox_id)
        self._lacking_since[sandbox_id] = self._now()
        try:
            await self._fetch_announced(sandbox_id)
        finally:
            del self._lacking_since[sandbox_id]

    async def _fetch_announced(self, sandbox_id: str) -> None:
        attempt = 0
        while (announced := self.index.get(sandbox_id)) is not None and self._lacks(sandbox_id):
            if await self._try(sandbox_id, announced):
                if self.index.get(sandbox_id) == announced:
                    return
                continue  # another one was announced meanwhile
            attempt += 1
            if attempt >= UNHELD_ATTEMPTS and not (self._is_loaded(sandbox_id) or self._holdings.is_held(sandbox_id)):
                return
            await self._sleep(pause_seconds(attempt, random.random()))

    async def _try(self, sandbox_id: str, announced: Announced) -> bool:
        """Fetch once; say whether that settles it, well or badly, for what was announced."""
        try:
            async with self._slots[self._is_loaded(sandbox_id)]:
                body = await fetch_plan(self._session, sandbox_id, most_bytes=self._max_plan_bytes)
        except ControlError as error:
            self._metrics.plan_fetched("temporary" if error.temporary else "permanent")
            _log.warning("plan_not_fetched", sandbox_id=sandbox_id, detail=str(error))
            return not error.temporary
        return await self._apply(sandbox_id, body)

    async def _await_announcement(self, sandbox_id: str) -> None:
        event = self._announcements.setdefault(sandbox_id, asyncio.Event())
        seconds = ANNOUNCEMENT_SECONDS if self.index.is_known else self._wait_seconds
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            self._announcements.pop(sandbox_id, None)

    async def _apply(self, sandbox_id: str, body: bytes) -> bool:
        """Put a fetched plan in force if it is what is announced; False where another fetch may bring the right one."""
        if not self._plans.takes_away(sandbox_id, body):
            await self._let_others_be_fetched()
        try:
            prepared = await self._plans.compile(body, sandbox_id)
        except PlanError as error:
            self._metrics.plan_fetched("invalid")
            self._metrics.plan_applied("invalid")
            _log.error("plan_invalid", sandbox_id=sandbox_id, detail=str(error)[:500])
            return True
        # Looked at only now, because the stream went on while we waited.
        announced, table = self.index.get(sandbox_id), prepared.table
        if table.sandbox_id != sandbox_id or (table.revision, table.digest) != announced:
            self._metrics.plan_fetched("mismatch")
            _log.warning("plan_not_as_announced", sandbox_id=sandbox_id, revision=table.revision)
            return False
        self._metrics.plan_fetched("ok")
        self._commit(prepared, sandbox_id)
        return True

    async def _let_others_be_fetched(self) -> None:
        """Come behind the plans that are still to be fetched: one of them may take something away."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(OTHERS_SECONDS), self._slots[True]:
                pass

    def _commit(self, prepared: PreparedPlan, sandbox_id: str) -> None:
        if not self._is_loaded(sandbox_id):
            self._make_room()
        try:
            applied = self._plans.commit(prepared, sandbox_id=sandbox_id)
        except (PlanConflict, PlanLimitError) as error:
            self._metrics.plan_applied("conflict" if isinstance(error, PlanConflict) else "refused")
            _log.error("plan_refused", sandbox_id=sandbox_id, detail=str(error))
            return
        self._metrics.plan_applied("applied" if applied.changed else "unchanged")
        self._metrics.plan_propagation.observe(self._now() - self._lacking_since[sandbox_id])
        self._touch(sandbox_id)
        self._store.save_plan(sandbox_id, prepared.document)

    def _make_room(self) -> None:
        """Give up the plan that nobody has held for longest, where there is no room for another."""
        if not self._plans.is_full:
            return
        for sandbox_id in self._held_at:
            if not self._holdings.is_held(sandbox_id):
                _log.info("plan_dropped", sandbox_id=sandbox_id, detail="its place is needed")
                self._drop(sandbox_id)
                return

    @property
    def lacking_seconds(self) -> float:
        """How long the plan that has been lacking for longest has been; 0 when none is being fetched."""
        return self._now() - min(self._lacking_since.values(), default=self._now())

    def _is_loaded(self, sandbox_id: str) -> bool:
        return self._plans.loaded(sandbox_id) is not None

    def _lacks(self, sandbox_id: str) -> bool:
        """Whether another plan is announced than the one that is loaded."""
        announced, table = self.index.get(sandbox_id), self._plans.loaded(sandbox_id)
        if announced is None:
            return table is None
        return table is None or (table.revision, table.digest) != announced

    def __repr__(self) -> str:
        return f"<PlanBodies {len(self._plans)} loaded of {len(self.index)} announced>"
