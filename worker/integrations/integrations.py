"""All integration servers of a worker: installed, found, removed; as they were after a restart."""

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from worker.integrations.errors import Category, IntegrationError, provider_error
from worker.integrations.installation import Installation, Installers, Report
from worker.integrations.integration import Integration
from worker.integrations.launch import end_processes
from worker.integrations.manifest import Manifest
from worker.integrations.parts import Parts
from worker.integrations.store import Owner, Stored

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallLimits:
    """How many servers may be installed, and how many at once."""

    servers: int
    at_once: int


class Integrations:
    """What is installed. Always: an id stands in `_installed` or in `_installing`, never in both."""

    def __init__(self, parts: Parts, installers: Installers, limits: InstallLimits) -> None:
        self._parts = parts
        self._installers = installers
        self._limits = limits
        # They hear of an id that has ended, and of one that is no more.
        self.on_ended: Callable[[str], None] = _nothing
        self.on_removed: Callable[[str], None] = _nothing
        # Hears that something is installed, removed, or in another status, or has other tools.
        self.on_changed: Callable[[], None] = lambda: None
        self._installed: dict[str, Integration] = {}
        self._installing: set[str] = set()

    async def open(self) -> None:
        """End what an earlier worker left running, and begin to start what it had running."""
        for stored in await asyncio.to_thread(self._parts.store.load):
            manifest = stored.manifest
            ended = await asyncio.to_thread(end_processes, f"{self._parts.store.mark}.{manifest.id}")
            if ended:
                _log.warning("orphans_ended", integration=manifest.id, processes=ended)
            integration = self._installed[manifest.id] = self._made(stored)
            integration.resume()

    async def close(self) -> None:
        """Stop all servers, each as it is stopped; they run again after the next start. Closes the store."""
        async with asyncio.TaskGroup() as group:
            for integration in self._installed.values():
                group.create_task(integration.end(), name=f"end {integration.id}")
        self._parts.store.close()

    @property
    def mark(self) -> str:
        """What the mark of every process of its servers begins with."""
        return self._parts.store.mark

    def list(self) -> list[Integration]:
        """Return all, by id."""
        return [self._installed[integration_id] for integration_id in sorted(self._installed)]

    def find(self, integration_id: str) -> Integration:
        """Return one; raises IntegrationError."""
        found = self._installed.get(integration_id)
        if found is None:
            if integration_id in self._installing:
                raise IntegrationError(Category.INVALID_STATE, f"{integration_id} is being installed")
            raise IntegrationError(Category.NOT_FOUND, f"there is no integration {integration_id}")
        return found

    async def install(
        self, manifest: Manifest, report: Report, owner: Owner = "operator", order: str | None = None
    ) -> Integration:
        """Install a server, stopped; raises IntegrationError. Nothing of an installation that fails is left."""
        integration_id = manifest.id
        self._admit(integration_id)
        self._installing.add(integration_id)
        store = self._parts.store
        try:
            folder = await asyncio.to_thread(store.prepare, integration_id)
            installation = Installation(self._parts.tasks, self._installers, self._parts.around, folder, report)
            program = await installation.run(manifest)
            stored = Stored(manifest=manifest, program=program, owner=owner, order=order)
            await asyncio.to_thread(store.save, stored)
        except (OSError, ValueError, KeyError) as error:
            await asyncio.to_thread(shutil.rmtree, store.folder(integration_id), True)
            raise provider_error(f"the installation failed: {type(error).__name__}") from error
        except BaseException:
            await asyncio.to_thread(shutil.rmtree, store.folder(integration_id), True)
            raise
        finally:
            self._installing.discard(integration_id)
        integration = self._installed[integration_id] = self._made(stored)
        self.on_changed()
        _log.info("integration_installed", integration=integration_id)
        return integration

    async def remove(self, integration_id: str) -> None:
        """Stop a server and take everything of it away; raises IntegrationError."""
        integration = self.find(integration_id)
        await integration.leave()
        await asyncio.to_thread(self._parts.store.remove, integration_id)
        del self._installed[integration_id]
        self.on_removed(integration_id)
        self.on_changed()
        _log.info("integration_removed", integration=integration_id)

    def _made(self, stored: Stored) -> Integration:
        return Integration(
            self._parts, stored, lambda integration_id: self.on_ended(integration_id), lambda: self.on_changed()
        )

    def _admit(self, integration_id: str) -> None:
        if integration_id in self._installed or integration_id in self._installing:
            raise IntegrationError(Category.DUPLICATE, f"{integration_id} is installed already; remove it first")
        if len(self._installed) + len(self._installing) >= self._limits.servers:
            raise IntegrationError(Category.INVALID_STATE, f"{self._limits.servers} integrations are installed already")
        if len(self._installing) >= self._limits.at_once:
            raise IntegrationError(
                Category.INVALID_STATE, f"{self._limits.at_once} installations run already; try again"
            )

    def __repr__(self) -> str:
        return f"<Integrations {len(self._installed)} installed>"


def _nothing(integration_id: str) -> None:
    """Hear and forget."""
