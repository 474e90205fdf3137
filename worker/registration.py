"""What this worker runs, told to the control plane: as a lease that is renewed, and soon after something changed."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

import structlog

from control_client.backoff import pause_seconds
from control_client.errors import ControlError
from control_client.registrations import RunningServer, put_worker, withdraw_worker
from control_client.session import ControlSession
from sallyport.net.setting_kinds import HostPort
from worker.integrations.integration import Integration
from worker.integrations.integrations import Integrations

# So often in its time the lease is renewed: two reports may be lost.
RENEWALS: Final = 3
# A control plane that is back is to know of us soon.
LONGEST_PAUSE_SECONDS: Final = 10.0
# What changes in one moment is one report.
SETTLE_SECONDS: Final = 0.1

_log = structlog.get_logger(__name__)


class Addresses(NamedTuple):
    """Where others reach this worker; front None: it has none."""

    api: str
    front: str | None


class Whereabouts:
    """Where the listeners of this worker are: as the settings say, or as they come to be known."""

    def __init__(self, *, api: str | None, front: str | None, has_front: bool) -> None:
        self.api = api
        self.front = front
        self._has_front = has_front
        self._known = asyncio.Event()

    def api_listens(self, host: str, port: int, *, is_tls: bool) -> None:
        """Note where the API listens."""
        self.api = self.api or _url(host, port, is_tls)
        self._note()

    def front_listens(self, host: str, port: int, *, is_tls: bool) -> None:
        """Note where the front listens."""
        self.front = self.front or _url(host, port, is_tls)
        self._note()

    async def addresses(self, stop: asyncio.Event) -> Addresses | None:
        """Wait until all is known and return it; None at `stop`."""
        while self.api is None or (self._has_front and self.front is None):
            self._known.clear()
            await _first_of(self._known, stop)
            if stop.is_set():
                return None
        return Addresses(self.api, self.front)

    def _note(self) -> None:
        self._known.set()


def _url(host: str, port: int, is_tls: bool) -> str:
    return f"{'https' if is_tls else 'http'}://{HostPort(host, port)}"


class Registration:
    """Reports until it is to stop."""

    def __init__(
        self,
        session: ControlSession,
        worker_id: str,
        *,
        epoch: int,
        servers: Callable[[], Sequence[RunningServer]],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """epoch is the one of the worker's own lease: a process that was replaced reports in vain."""
        self._session = session
        self._worker_id = worker_id
        self._epoch = epoch
        self._servers = servers
        self._sleep = sleep
        self._has_changed = asyncio.Event()
        self._lease_seconds = 0
        # Hears that the control plane takes reports, the first time and whenever it did not before.
        self.on_taken: Callable[[], None] = lambda: None

    def changed(self) -> None:
        """Something runs now that did not, or no longer, or has other tools: report it soon."""
        self._has_changed.set()

    async def run(self, whereabouts: Whereabouts, stop: asyncio.Event) -> None:
        """Report until `stop`, then take this worker out."""
        addresses = await whereabouts.addresses(stop)
        if addresses is None:
            return
        failures = 0
        is_taken = False
        while not stop.is_set():
            self._has_changed.clear()
            if await self._report(addresses, is_first_failure=failures == 0):
                failures = 0
                if not is_taken:
                    self.on_taken()
                is_taken = True
                await self._sleep(SETTLE_SECONDS)
                pause = self._lease_seconds / RENEWALS * random.uniform(0.9, 1.0)
                await _first_of(self._has_changed, stop, seconds=pause)
            else:
                failures += 1
                is_taken = False
                pause = pause_seconds(failures, random.random(), most_seconds=LONGEST_PAUSE_SECONDS)
                await _first_of(stop, seconds=SETTLE_SECONDS + pause)
        if is_taken:
            await self._withdraw()

    async def _report(self, addresses: Addresses, *, is_first_failure: bool) -> bool:
        try:
            self._lease_seconds = await put_worker(
                self._session,
                self._worker_id,
                epoch=self._epoch,
                api_url=addresses.api,
                front_url=addresses.front,
                servers=self._servers(),
            )
        except ControlError as error:
            if is_first_failure:
                _log.warning("worker_not_registered", detail=str(error))
            return False
        return True

    async def _withdraw(self) -> None:
        try:
            await withdraw_worker(self._session, self._worker_id, self._epoch)
        except ControlError as error:
            _log.warning("worker_not_withdrawn", detail=str(error))

    def __repr__(self) -> str:
        return f"<Registration of {self._worker_id}, epoch {self._epoch}>"


def running_servers(integrations: Integrations) -> list[RunningServer]:
    """Return what a worker's servers are to be reported as."""
    return [_reported(integration) for integration in integrations.list()]


def _reported(integration: Integration) -> RunningServer:
    stored = integration.stored
    # Of a server that plans share nobody is the owner.
    only = next(iter(stored.wanted_by)) if stored.owner == "plans" and len(stored.wanted_by) == 1 else None
    tools = [str(tool.get("name", "")) for tool in stored.tools]
    return RunningServer(integration.id, stored.manifest.tier, integration.status.value, tools, only)


async def _first_of(*events: asyncio.Event, seconds: float | None = None) -> None:
    """Wait for one of them, or that long."""
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(event.wait(), name="what comes first") for event in events]
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for each in waiting:
            each.cancel()
