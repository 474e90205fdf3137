"""Callers that never stop, and what they saw: no call lost, none out of order, no name that is not for them."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Collection

from control_client.feed_state import Tier
from control_client.tool_client import ToolClient

CALLERS = 200
OPERATORS = 20  # of them, by the admin key
# The control plane's own, which has other tools.
BUILT_IN = "sallyport"


class Load:
    """Callers that never stop, what they got, and what they saw that must not be.

    Servers of `hidden` are for operators; those of `fragile` crash.
    """

    def __init__(self, client: ToolClient, *, hidden: Collection[str], fragile: Collection[str]) -> None:
        self.answered = Counter[str]()
        self.wrong: list[str] = []
        self.open = 0
        self.most_open = 0
        self.is_over = False
        self.is_steady = asyncio.Event()
        self._client = client
        self._hidden = hidden
        self._fragile = fragile

    async def call_on(self, number: int) -> None:
        """Be one caller: one call after the other, each to a server that is there as it begins."""
        rng = random.Random(number)
        tier = Tier.ADMIN if number < OPERATORS else Tier.STANDARD
        caller, count, seen = f"caller{number}", 0, 0
        while not self.is_over:
            view = self._client.view(tier)
            if view.number < seen:
                self.wrong.append(f"{caller}: view {view.number} after {seen}")
            seen = view.number
            server = rng.choice(sorted(set(view.toolsets) - {BUILT_IN}))
            if tier is Tier.STANDARD and server in self._hidden:
                self.wrong.append(f"{caller}: sees {server}")
            count += 1
            await self._call(tier, server, caller, count, rng.uniform(1.5, 2.4))

    async def _call(self, tier: Tier, server: str, caller: str, number: int, pause: float) -> None:
        heard: list[float] = []

        async def hear(progress: float, total: float | None, message: str | None) -> None:
            heard.append(progress)

        self.open += 1
        self.most_open = max(self.most_open, self.open)
        arguments = {"caller": caller, "number": number, "steps": 2, "pause": pause}
        try:
            result = await self._client.call(tier, server, f"{server}_work", arguments, progress=hear)
        except Exception as error:  # a lost call is what is looked for
            self.wrong.append(f"{caller} {number} at {server}: {error!r}")
            return
        finally:
            self.open -= 1
        if result.is_error:
            self.wrong.append(f"{caller} {number} at {server}: {result}")
            return
        found = json.loads(result.content[0]["text"])
        if (found["server"], found["caller"], found["number"]) != (server, caller, number):
            self.wrong.append(f"{caller} {number} at {server}: got {found}")
        # At each server a caller's calls come in the order they were made; one that was made again is its own like.
        if found["before"] > number or (found["before"] == number and server not in self._fragile):
            self.wrong.append(f"{caller} {number} at {server}: came after {found['before']}")
        if server not in self._fragile and heard != [1, 2]:
            self.wrong.append(f"{caller} {number} at {server}: progress {heard}")
        self.answered[server] += 1
        if self.answered.total() >= CALLERS:
            self.is_steady.set()
