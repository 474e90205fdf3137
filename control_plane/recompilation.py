"""Compile anew what depends on something that changed, on whichever replica comes first.

Whoever changes a binding set, a connection or a target calls `request` in the transaction of the change; so no change
is lost, and none is acted on before it is visible.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from control_plane.compilation import CompileDesk
from control_plane.store import bindings, sandboxes
from control_plane.store import recompilations as rows
from control_plane.store.database import Database, DatabaseUnavailable, Transaction
from control_plane.store.models import Recompilation

# A change reaches its sandboxes within this and the time it takes to compile them; each look is one indexed query.
POLL_SECONDS: Final = 1.0
# How long one is kept from other replicas, renewed at every page; what a replica held that died waits it out.
LEASE_SECONDS: Final = 60
PAGE_SANDBOXES: Final = 50
# What failed by a fault of ours is tried again, at last as seldom as this.
MOST_SECONDS: Final = 300

_log = structlog.get_logger(__name__)


async def request(
    tx: Transaction,
    now: float,
    *,
    version: tuple[str, int] | None = None,
    connection_id: str | None = None,
    target_key: str | None = None,
) -> None:
    """Have every sandbox compiled anew that depends on what this transaction changes.

    Name what changed: a version of a profile (`profile_id, version`) whose bindings were replaced; a connection whose
    status, configuration, method or kinds of credentials changed; a target that was enabled, disabled, or whose
    configuration or names of secrets changed. A new value of a secret needs none: plans hold no secret, and gateways
    are told by an invalidation. Call it last but for the events: the rows it writes stay locked until the commit.
    """
    found = set() if version is None else {version}
    if connection_id is not None:
        found.update(await rows.versions_bound_to_connection(tx, connection_id))
    if target_key is not None:
        found.update(await rows.versions_bound_to_target(tx, target_key))
    # In one order everywhere, so that two that ask for the same wait for one another and never both.
    for profile_id, number in sorted(found):
        await rows.request(tx, profile_id, number, now)


class Recompiler:
    """Does what was asked for, on every replica: each takes what no other one holds, the longest waiting first."""

    def __init__(self, database: Database, desk: CompileDesk, now: Callable[[], float]) -> None:
        self._database = database
        self._desk = desk
        self._now = now

    async def run(self) -> None:
        """Recompile for ever."""
        while True:
            try:
                while await self.recompile_one():
                    pass
            except DatabaseUnavailable:
                _log.warning("recompilation_database_unavailable")
            await asyncio.sleep(POLL_SECONDS)

    async def recompile_one(self) -> bool:
        """Take one and compile its sandboxes; return False where nothing is due. Raises DatabaseUnavailable."""
        async with self._database.write() as tx:
            taken = await rows.take(tx, self._now(), self._now() + LEASE_SECONDS)
        if taken is None:
            return False
        try:
            await self._compile_sandboxes(taken)
        except DatabaseUnavailable:
            raise
        except Exception as error:  # whatever a definition does wrong, the others are compiled
            wait = min(2**taken.attempts, MOST_SECONDS)
            about = {"profile": taken.profile_id, "version": taken.version, "again_after_seconds": wait}
            _log.error("recompilation_failed", **about, error=type(error).__name__, exc_info=error)
            async with self._database.write() as tx:
                await rows.put_off(tx, taken, self._now() + wait)
            return True
        async with self._database.write() as tx:
            await rows.finish(tx, taken, self._now())
        return True

    async def _compile_sandboxes(self, taken: Recompilation) -> None:
        after, seen, changed = "", 0, 0
        while True:
            async with self._database.write() as tx:
                # Its lock is held while a sandbox is made: what the list does not have yet will see the change itself.
                await sandboxes.profile_version(tx, taken.profile_id, taken.version, lock=True)
                page = await bindings.sandboxes_of(tx, taken.profile_id, taken.version, after, PAGE_SANDBOXES)
                await rows.put_off(tx, taken, self._now() + LEASE_SECONDS)
            if not page:
                break
            changed += await self._desk.apply_to_all(taken.profile_id, taken.version, page, self._now())
            seen += len(page)
            after = page[-1]
        _log.info("recompiled", profile=taken.profile_id, version=taken.version, sandboxes=seen, changed=changed)
