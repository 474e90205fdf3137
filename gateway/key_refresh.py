"""The control plane's keys, kept current: at start, every few minutes, and once when a token names an unknown one."""

import asyncio
import random
from collections.abc import Callable
from typing import Final

import structlog

from control_client.backoff import pause_seconds
from control_client.errors import ControlError
from control_client.keys import fetch_jwks
from control_client.session import ControlSession
from gateway.keys import KeyRing, KeySet, KeySetError
from gateway.plan_store import PlanStore

# A signer publishes a key before it signs with it; this is how long before it has to.
REFRESH_SECONDS: Final = 300.0
# Tokens with made-up key ids must not become requests: at most one fetch for them in this time.
UNKNOWN_KEY_SECONDS: Final = 10.0

_log = structlog.get_logger(__name__)


class KeyRefresh:
    """Put the control plane's keys on the ring."""

    def __init__(
        self,
        session: ControlSession,
        ring: KeyRing,
        store: PlanStore,
        *,
        now: Callable[[], float],
        on_keys: Callable[[bytes], None] = lambda document: None,
    ) -> None:
        """now is monotonic; on_keys hears each key set that was put in force, as it came."""
        self._session = session
        self._ring = ring
        self._store = store
        self._now = now
        self._on_keys = on_keys
        self._document = b""
        self._fetched_at = float("-inf")
        self._wanted = asyncio.Event()

    async def run(self) -> None:
        """Refresh until cancelled."""
        attempt = 0
        while True:
            # Cleared before the fetch: a key that is asked for while it runs is asked for again.
            self._wanted.clear()
            if await self._refresh():
                attempt = 0
                pause = REFRESH_SECONDS * (0.8 + 0.4 * random.random())
            else:
                attempt += 1
                pause = pause_seconds(attempt, random.random())
            try:
                async with asyncio.timeout(pause):
                    await self._wanted.wait()
            except TimeoutError:
                pass

    def want(self) -> None:
        """A token names a key that is not known: ask once, soon. Its sender has to come again."""
        if self._now() >= self._fetched_at + UNKNOWN_KEY_SECONDS:
            self._wanted.set()

    def restore(self, document: bytes) -> None:
        """Put the keys of an earlier process on the ring."""
        self._take(document)

    async def _refresh(self) -> bool:
        self._fetched_at = self._now()
        try:
            document = await fetch_jwks(self._session)
        except ControlError as error:
            _log.warning("keys_not_fetched", detail=str(error))
            return False
        if document != self._document and self._take(document):
            self._store.save_keys(document)
        return self._document == document

    def _take(self, document: bytes) -> bool:
        try:
            keys = KeySet.from_jwks(document)
            self._ring.replace(keys)
        except KeySetError as error:
            _log.error("keys_not_usable", detail=str(error))
            return False
        self._document = document
        self._on_keys(document)
        _log.info("keys_replaced", keys=repr(keys))
        return True

    def __repr__(self) -> str:
        return f"<KeyRefresh of {self._ring!r}>"
