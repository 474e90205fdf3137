"""Work that lies in the database: looked for when something was written, and now and then in any case."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Never

import structlog

from control_plane.store.database import DatabaseUnavailable

_log = structlog.get_logger(__name__)


async def work_in_rounds(
    work: Callable[[], Awaitable[object]], woken: asyncio.Event, seconds: float, unavailable: str
) -> Never:
    """Work for ever: at once when woken, else after so many seconds. An outage is logged by the event `unavailable`."""
    while True:
        # Before the work: whoever wakes us during it has written what it may not have seen.
        woken.clear()
        try:
            await work()
        except DatabaseUnavailable:
            _log.warning(unavailable)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await woken.wait()
