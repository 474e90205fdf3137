"""All sandboxes of a worker: declared, started, stopped, destroyed; as they were meant to be after a restart.

What is meant is written down before it is done, so whatever interrupts it, `repair` knows what to do.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final
from weakref import WeakValueDictionary

import structlog

from worker.integrations.errors import Category
from worker.reconciliation import CannotTell, NotRepaired
from worker.sandboxes.errors import SandboxError, failed
from worker.sandboxes.provider import Definition, Providers, Running, SandboxProvider, TunnelTokens
from worker.sandboxes.store import Declared, DeclaredSandboxes

RUNNING: Final = "running"
STOPPED: Final = "stopped"

type MintTokens = Callable[[str], Awaitable[TunnelTokens]]

_log = structlog.get_logger(__name__)


class Sandboxes:
    """What is declared, and the providers that carry it out. Always: one change of a sandbox at a time.

    `mint` asks the control plane for the tokens of a sandbox and raises SandboxError.
    """

    # As a kind of things that reconciliation looks at. To start one takes a token from the control plane.
    name: Final = "sandboxes"
    is_local: Final = False

    def __init__(
        self, store: DeclaredSandboxes, providers: Providers, mint: MintTokens, *, most_sandboxes: int
    ) -> None:
        self._store = store
        self._providers = providers
        self._mint = mint
        self._most_sandboxes = most_sandboxes
        self._declared: dict[str, Declared] = {}
        self._unread: list[str] = []
        # Each lives for as long as somebody holds it or waits for it.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def open(self) -> None:
        """Read what is declared; raises OSError."""
        self._declared, self._unread = await asyncio.to_thread(self._store.load)
        for sandbox_id in self._unread:
            _log.error("declared_sandbox_unreadable", sandbox=sandbox_id)

    async def close(self) -> None:
        """Stop all; they are meant to run still."""
        async with asyncio.TaskGroup() as group:
            for provider in self._providers.values():
                group.create_task(provider.close(), name="close sandboxes")

    # What is asked

    async def create(self, definition: Definition) -> None:
        """Declare a sandbox and start it; raises SandboxError. What cannot be started is not declared."""
        sandbox_id = definition.sandbox_id
        async with self._alone(sandbox_id):
            if sandbox_id in self._declared or sandbox_id in self._unread:
                raise SandboxError(Category.DUPLICATE, f"{sandbox_id} is there already; destroy it first")
            if len(self._declared) >= self._most_sandboxes:
                raise SandboxError(Category.INVALID_STATE, f"{self._most_sandboxes} sandboxes are there already")
            provider = self._provider(definition)
            await self._save(Declared(definition=definition, desired=RUNNING))
            try:
                await provider.create(definition)
                await self._start(provider, definition)
            except BaseException:
                with contextlib.suppress(SandboxError):
                    await provider.destroy(sandbox_id)
                await self._forget(sandbox_id)
                raise
        _log.info("sandbox_created", sandbox=sandbox_id, provider=definition.provider)

    async def start(self, sandbox_id: str) -> None:
        """Start a sandbox; nothing happens to one that runs. Raises SandboxError."""
        async with self._alone(sandbox_id):
            declared = self.find(sandbox_id)
            provider = self._provider(declared.definition)
            state = await provider.state(sandbox_id)
            if state is not None and state.is_running:
                return
            await self._save(declared.meant_to(RUNNING))
            if state is None:
                await provider.create(declared.definition)
            await self._start(provider, declared.definition)

    async def stop(self, sandbox_id: str) -> None:
        """Stop a sandbox and keep its files; raises SandboxError."""
        async with self._alone(sandbox_id):
            declared = self.find(sandbox_id)
            await self._save(declared.meant_to(STOPPED))
            await self._provider(declared.definition).stop(sandbox_id)

    async def destroy(self, sandbox_id: str) -> None:
        """Stop a sandbox and take everything of it away; raises SandboxError."""
        async with self._alone(sandbox_id):
            declared = self.find(sandbox_id)
            await self._provider(declared.definition).destroy(sandbox_id)
            await self._forget(sandbox_id)
        _log.info("sandbox_destroyed", sandbox=sandbox_id)

    def find(self, sandbox_id: str) -> Declared:
        """Return one as it is declared; raises SandboxError."""
        found = self._declared.get(sandbox_id)
        if found is None:
            raise SandboxError(Category.NOT_FOUND, f"there is no sandbox {sandbox_id}")
        return found

    async def log(self, sandbox_id: str, lines: int) -> list[str]:
        """Return the last lines of one; raises SandboxError."""
        return [*await self._provider(self.find(sandbox_id).definition).log(sandbox_id, lines)]

    async def documents(self) -> list[dict[str, object]]:
        """Tell of all, by id; raises SandboxError."""
        return [await self.document(sandbox_id) for sandbox_id in sorted(self._declared)]

    async def document(self, sandbox_id: str) -> dict[str, object]:
        """Tell how one is and how it is meant to be; raises SandboxError."""
        declared = self.find(sandbox_id)
        state = await self._provider(declared.definition).state(sandbox_id)
        exit_code = state.exit_code if state is not None and state.exit_code is not None else declared.last_exit
        return {
            "sandboxId": sandbox_id,
            "provider": declared.definition.provider,
            "desired": declared.desired,
            "status": _status(state),
            "pid": None if state is None else state.pid,
            "lastExit": exit_code,
        }

    # What reconciliation asks

    async def declared(self) -> Mapping[str, str]:
        """Return what is meant to be, by sandbox. What cannot be read is meant to be left alone, so it stands here."""
        return dict.fromkeys(self._unread, STOPPED) | {each: known.desired for each, known in self._declared.items()}

    async def actual(self) -> Mapping[str, str]:
        """Return what is, by sandbox: `running` or `stopped`; raises CannotTell.

        A command that has ended by itself ends its sandbox: it is written down as meant, and not started again.
        """
        try:
            return await self._found()
        except SandboxError as error:
            raise CannotTell(str(error)) from None

    async def repair(self, item: str, declared: str | None, actual: str | None) -> None:
        """Make what is declared of one sandbox come true; raises NotRepaired."""
        try:
            await self._repair(item, declared, actual)
        except SandboxError as error:
            raise NotRepaired(str(error)) from None

    async def _found(self) -> Mapping[str, str]:
        found: dict[str, str] = {}
        for provider in self._providers.values():
            for sandbox_id in await provider.list():
                state = await provider.state(sandbox_id)
                if state is not None and state.exit_code is not None:
                    await self._ended(sandbox_id, provider)
                found[sandbox_id] = _status(state)
        return found

    async def _repair(self, item: str, declared: str | None, actual: str | None) -> None:
        if item in self._unread:
            raise failed(f"what is declared of {item} cannot be read; mend or remove its file")
        if declared == RUNNING:
            await self.start(item)
        elif declared == STOPPED and actual == RUNNING:
            await self.stop(item)
        elif declared == STOPPED:
            async with self._alone(item):
                known = self.find(item)
                await self._provider(known.definition).create(known.definition)
        else:
            async with self._alone(item):
                for provider in self._providers.values():
                    await provider.destroy(item)
            _log.warning("orphan_removed", sandbox=item)

    async def _ended(self, sandbox_id: str, provider: SandboxProvider) -> None:
        async with self._alone(sandbox_id):
            known, state = self._declared.get(sandbox_id), await provider.state(sandbox_id)
            if known is None or state is None or state.exit_code is None:
                return
            await self._save(known.meant_to(STOPPED, state.exit_code))
            await provider.stop(sandbox_id)
        _log.info("sandbox_ended", sandbox=sandbox_id, exit_code=state.exit_code)

    # One sandbox

    async def _start(self, provider: SandboxProvider, definition: Definition) -> None:
        await provider.start(definition, await self._mint(definition.sandbox_id))

    def _provider(self, definition: Definition) -> SandboxProvider:
        provider = self._providers.get(definition.provider)
        if provider is None:
            raise SandboxError(Category.INVALID_STATE, f"this worker has no provider {definition.provider}")
        return provider

    @contextlib.asynccontextmanager
    async def _alone(self, sandbox_id: str) -> AsyncIterator[None]:
        """Nobody else changes this sandbox meanwhile."""
        lock = self._locks.get(sandbox_id)
        if lock is None:
            lock = self._locks[sandbox_id] = asyncio.Lock()
        async with lock:
            yield

    async def _save(self, declared: Declared) -> None:
        try:
            await asyncio.to_thread(self._store.save, declared)
        except OSError as error:
            raise failed(f"{error.filename}: {error.strerror}") from None
        self._declared[declared.definition.sandbox_id] = declared

    async def _forget(self, sandbox_id: str) -> None:
        try:
            await asyncio.to_thread(self._store.remove, sandbox_id)
        except OSError as error:
            raise failed(f"{error.filename}: {error.strerror}") from None
        self._declared.pop(sandbox_id, None)

    def __repr__(self) -> str:
        return f"<Sandboxes {len(self._declared)} declared>"


def _status(state: Running | None) -> str:
    return RUNNING if state is not None and state.is_running else STOPPED
