"""An event loop whose time passes at once when nothing is left to do: timers are free and order never varies."""

import asyncio
import selectors


class _NeverWaits(selectors.DefaultSelector):
    """Looks at its files and never waits for them; what it would have waited is added to the loop's time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """For tests without sockets. `await asyncio.sleep(s)` returns when all that could happen within s has happened."""

    def __init__(self) -> None:
        self._never_waits = _NeverWaits()
        super().__init__(self._never_waits)

    def time(self) -> float:
        return self._never_waits.now
