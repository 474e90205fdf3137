"""A control plane at second hand: what a serving process has in the place of gateway.control.ControlSide.

Plans, keys, revocations and invalidations come from the parent, which has the one watch stream of the gateway. What is
asked for a single request (credentials, tokens, the CAs of the explicit listener) this process asks by itself.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from control_client.session import ControlSession
from gateway.authorities import RemoteAuthorities
from gateway.fetches import Fetches
from gateway.plan_holder import PlanHolder
from gateway.processes.reports import Reports
from gateway.remote_credentials import RemoteCredentials
from gateway.remote_tokens import RemoteTokenIssuer
from sallyport.net.clock import Clock
from sallyport.net.tasks import TaskSet

if TYPE_CHECKING:
    from gateway.parts import GatewayParts


class FollowedControl:
    """The control plane as one of several processes sees it."""

    def __init__(
        self,
        session: ControlSession,
        reports: Reports,
        *,
        plans: PlanHolder,
        clock: Clock,
        tasks: TaskSet,
        wait_seconds: float,
    ) -> None:
        self._reports = reports
        self._plans = plans
        self._wait_seconds = wait_seconds
        self._fetches = Fetches(tasks, "plan")
        self._awaited: dict[str, asyncio.Event] = {}
        self.credentials = RemoteCredentials(session)
        self.token_issuer = RemoteTokenIssuer(session)
        self.authorities = RemoteAuthorities(
            session, Fetches(tasks, "interception CA"), lambda: clock.wall, wait_seconds=wait_seconds
        )

    def start(
        self,
        parts: "GatewayParts",
        *,
        invalidate: Callable[[str, str | None, str | None], int],
        revoke: Callable[[str, str, float, str | None], int],
        admin_url: str,
    ) -> None:
        """Ask the parent for plans from now on; everything else it orders by itself."""
        self._plans.source = self
        self._plans.subscribe(self.settled)

    def want(self, sandbox_id: str) -> Awaitable[object]:
        """Have the parent fetch a plan (gateway.plan_holder.PlanSource)."""
        return self._fetches.join(sandbox_id, lambda: self._await(sandbox_id), wait_seconds=self._wait_seconds)

    async def _await(self, sandbox_id: str) -> None:
        event = self._awaited[sandbox_id] = asyncio.Event()
        self._reports.want_plan(sandbox_id)
        try:
            async with asyncio.timeout(self._wait_seconds):
                await event.wait()
        except TimeoutError:
            pass
        finally:
            del self._awaited[sandbox_id]

    def settled(self, sandbox_id: str) -> None:
        """A plan has come, or it is known that none will."""
        event = self._awaited.get(sandbox_id)
        if event is not None:
            event.set()

    def want_keys(self) -> None:
        """A token names a key that is not known."""
        self._reports.want_keys()

    def obstacles(self) -> list[str]:
        """Return nothing: the parent answers for all of its processes."""
        return []

    def notes(self) -> list[str]:
        """Return nothing: as above."""
        return []

    async def close(self) -> None:
        """Nothing is kept on disk here."""

    def __repr__(self) -> str:
        return f"<FollowedControl: {len(self._awaited)} plans awaited>"
