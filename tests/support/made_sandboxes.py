"""A provider of sandboxes that are only said to be there: for what is above providers."""

import asyncio
from collections.abc import Sequence

from worker.sandboxes.errors import failed
from worker.sandboxes.provider import Definition, Running, TunnelTokens


class MadeSandboxes:
    """The provider. `calls` are what it was asked; `fails` names the call that fails."""

    def __init__(self) -> None:
        self.there: dict[str, Running] = {}
        self.calls: list[tuple[str, str]] = []
        self.fails = ""
        self.most_at_once = 0
        self._at_once = 0

    async def create(self, definition: Definition) -> None:
        await self._called("create", definition.sandbox_id)
        self.there[definition.sandbox_id] = Running(is_running=False)

    async def start(self, definition: Definition, tokens: TunnelTokens) -> None:
        await self._called("start", definition.sandbox_id)
        self.there[definition.sandbox_id] = Running(is_running=True, pid=7)

    async def stop(self, sandbox_id: str) -> None:
        await self._called("stop", sandbox_id)
        if sandbox_id in self.there:
            self.there[sandbox_id] = Running(is_running=False)

    async def destroy(self, sandbox_id: str) -> None:
        await self._called("destroy", sandbox_id)
        self.there.pop(sandbox_id, None)

    async def state(self, sandbox_id: str) -> Running | None:
        return self.there.get(sandbox_id)

    async def list(self) -> Sequence[str]:
        await self._called("list", "")
        return sorted(self.there)

    async def log(self, sandbox_id: str, lines: int) -> Sequence[str]:
        return ["a", "b"][-lines:]

    async def close(self) -> None:
        await self._called("close", "")

    async def _called(self, name: str, sandbox_id: str) -> None:
        self.calls.append((name, sandbox_id))
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        await asyncio.sleep(0)
        self._at_once -= 1
        if self.fails == name:
            raise failed(f"{name} fails")
