"""Keep what one tier sees in step with its feed: by push where pushes come, and by asking (contracts section 7).

One task decides in order: pushes as they came in, and between them the feed's own answers. Nothing here speaks to a
server; whoever does is told of each set through `apply`.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog

from control_client.backoff import pause_seconds
from control_client.errors import ControlError
from control_client.feed import fetch_feed
from control_client.feed_documents import read_push
from control_client.feed_state import Ignored, Known, Owed, Servers, take_answer, take_push
from control_client.feed_store import FeedStore
from control_client.session import ControlSession

# Contracts section 7: a push may be lost, and nobody would know.
POLL_SECONDS: Final = 900.0
# More than this at once, and the feed is asked instead: it answers for any number of changes.
MAX_WAITING_PUSHES: Final = 256

_log = structlog.get_logger(__name__)


class Follower:
    """Follow the feed of one tier. run() is its task; take() may be called at any time."""

    def __init__(
        self,
        session: ControlSession,
        apply: Callable[[Servers], None],
        *,
        instance_id: str,
        user_id: str | None = None,
        store: FeedStore | None = None,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        """apply(servers) hears of each set, the first one from the store if there is one."""
        self.known = Known()
        self._session = session
        self._apply = apply
        self._instance_id = instance_id
        self._user_id = user_id
        self._store = store
        self._poll_seconds = poll_seconds
        self._waiting: deque[bytes] = deque()
        self._arrived = asyncio.Event()
        self._has_asked = asyncio.Event()
        # Why the feed has to be asked, if it has to.
        self._owed: str | None = "beginning"

    def take(self, push: bytes) -> None:
        """Take a push whose sender was checked; it is read and applied later."""
        if len(self._waiting) >= MAX_WAITING_PUSHES:
            self._waiting.clear()
            self._owed = "too many pushes at once"
        else:
            self._waiting.append(push)
        self._arrived.set()

    async def has_asked(self) -> None:
        """Wait until the feed has answered once."""
        await self._has_asked.wait()

    async def run(self) -> None:
        """Follow until cancelled."""
        await self._begin()
        failures, ask_at = 0, self._now()
        while True:
            if self._now() >= ask_at:
                failed = await self._ask()
                failures = 0 if failed is None else failures + 1
                ask_at = self._now() + (self._poll_seconds if failed is None else _pause(failures, failed))
            # Pushes that came while the feed was asked are looked at now: what it answered may be older than they are.
            await self._take_waiting()
            if self._owed is not None and not failures:
                ask_at = self._now()
                continue
            await self._wait(ask_at)

    async def _begin(self) -> None:
        servers = None if self._store is None else await self._store.load()
        if servers is not None:
            self._show(Known(servers, is_stale=True))

    async def _ask(self) -> ControlError | None:
        reason, self._owed = self._owed or "time", None
        try:
            answer = await fetch_feed(self._session, self.known, instance_id=self._instance_id, user_id=self._user_id)
        except ControlError as error:
            _log.warning("feed_not_read", reason=reason, detail=str(error))
            self._owed = reason
            return error
        known = take_answer(self.known, answer)
        _log.info("feed_read", reason=reason, servers=len(known.servers), revision=known.at, stale=known.is_stale)
        await self._keep(known)
        self._has_asked.set()
        return None

    async def _take_waiting(self) -> None:
        known = self.known
        while self._waiting:
            try:
                push = read_push(self._waiting.popleft())
            except ControlError as error:
                # Its sender knows the secret, so something has changed; what, is not to be read from this.
                _log.warning("push_not_read", detail=error.detail)
                self._owed = "a push that cannot be read"
                continue
            outcome = take_push(known, push, instance_id=self._instance_id, user_id=self._user_id)
            match outcome:
                case Known():
                    known = outcome
                case Owed(why):
                    self._owed = why
                case Ignored():
                    pass
        if known is not self.known:
            await self._keep(known)

    async def _keep(self, known: Known) -> None:
        is_new = known.servers != self.known.servers or not self._has_asked.is_set()
        self._show(known)
        # After it is shown: what a disk does must not hold up a server.
        if is_new and self._store is not None:
            await self._store.save(known.servers)

    def _show(self, known: Known) -> None:
        self.known = known
        self._apply(known.servers)

    async def _wait(self, until: float) -> None:
        try:
            async with asyncio.timeout_at(until):
                await self._arrived.wait()
        except TimeoutError:
            pass
        self._arrived.clear()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def __repr__(self) -> str:
        return f"<Follower of {self._instance_id}: {len(self.known.servers)} servers, at {self.known.at}>"


def _pause(failures: int, failed: ControlError) -> float:
    """After what the feed said, and not all at once: every client was told the same."""
    return failed.retry_after_seconds + pause_seconds(failures, random.random())
