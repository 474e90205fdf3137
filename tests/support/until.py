"""Wait for a condition that nothing announces."""

import asyncio
from collections.abc import Callable

from tests.support.raw_end import WAIT_SECONDS


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until the condition holds; raises TimeoutError after WAIT_SECONDS."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():  # noqa: ASYNC110  there is no event to wait for
            await asyncio.sleep(0.001)
