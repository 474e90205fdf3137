"""What this gateway holds, reported to the control plane: every few seconds, and soon after something changed."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from control_client.backoff import pause_seconds
from control_client.errors import ControlError
from control_client.leases import HeldSandbox, put_lease
from control_client.session import ControlSession

# A lease holds 30 s: two reports may be lost.
REPORT_SECONDS: Final = 10.0
# Many tunnels that open in one moment are one report.
SETTLE_SECONDS: Final = 0.2

_log = structlog.get_logger(__name__)


class LeaseReports:
    """Report until cancelled."""

    def __init__(
        self,
        session: ControlSession,
        gateway_id: str,
        *,
        epoch: int,
        admin_url: str,
        held: Callable[[], Sequence[HeldSandbox]],
        superseded: Callable[[str], object],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """epoch is when this process started, in unix milliseconds; superseded closes a sandbox's outlived tunnel."""
        self._session = session
        self._gateway_id = gateway_id
        self._epoch = epoch
        self._admin_url = admin_url
        self._held = held
        self._superseded = superseded
        self._sleep = sleep
        self._has_changed = asyncio.Event()

    def changed(self) -> None:
        """Something is held now that was not, or no longer, or in another revision: report it soon."""
        self._has_changed.set()

    async def run(self) -> None:
        """Report now and then, until cancelled."""
        failures = 0
        while True:
            self._has_changed.clear()
            if await self._report(is_first_failure=failures == 0):
                failures = 0
                await self._sleep(SETTLE_SECONDS)
                # Some gateways started together; they need not report together.
                await self._pause(REPORT_SECONDS * (0.9 + 0.1 * random.random()))
            else:
                failures += 1
                pause = pause_seconds(failures, random.random(), most_seconds=REPORT_SECONDS)
                await self._sleep(SETTLE_SECONDS + pause)

    async def _pause(self, seconds: float) -> None:
        """Wait for a change, or that long."""
        try:
            async with asyncio.timeout(seconds):
                await self._has_changed.wait()
        except TimeoutError:
            pass

    async def _report(self, *, is_first_failure: bool) -> bool:
        try:
            answer = await put_lease(
                self._session,
                self._gateway_id,
                epoch=self._epoch,
                admin_url=self._admin_url,
                sandboxes=self._held(),
            )
        except ControlError as error:
            if is_first_failure:  # the metric counts the others
                _log.warning("lease_not_reported", detail=str(error))
            return False
        for sandbox_id in answer.superseded:
            _log.info("tunnel_superseded", sandbox_id=sandbox_id)
            self._superseded(sandbox_id)
        return True

    def __repr__(self) -> str:
        return f"<LeaseReports of {self._gateway_id}, epoch {self._epoch}>"
