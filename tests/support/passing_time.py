"""Time that passes at once, for the deadlines of a running gateway."""

import asyncio
from typing import cast

from sallyport.net.clock import Clock


class _Ahead:
    """A loop whose time is ahead of the real one; its timers run in real time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._seconds = seconds
        self.time = lambda: loop.time() + seconds
        self.call_later = loop.call_later
        self.call_exception_handler = loop.call_exception_handler


def let_time_pass(clock: Clock, seconds: float) -> None:
    """Let every deadline of the next seconds pass now. The unix time of the clock stays what it is."""
    clock._timer.cancel()
    clock._loop = cast(asyncio.AbstractEventLoop, _Ahead(clock._loop, seconds))
    clock._tick()
