"""The gateway's side of a control plane in its parts, with a fake control plane behind: for tests of one part each."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Collection
from pathlib import Path

from control_client.session import ControlSession
from gateway.freshness import Freshness
from gateway.metrics import Metrics
from gateway.plan_bodies import PlanBodies
from gateway.plan_holder import PlanHolder
from gateway.plan_store import PlanStore
from gateway.plan_watch import PlanWatcher
from sallyport.net.clock import Clock
from sallyport.net.tasks import TaskSet
from tests.support.control_sessions import control_session
from tests.support.fake_control import FakeControl


class ControlStage:
    """Parts put together as gateway.control does, without a gateway."""

    def __init__(self, folder: Path, control: FakeControl, session: ControlSession) -> None:
        self.control = control
        self.session = session
        self.now = 1000.0  # monotonic, for what is dropped after a while
        self.held: set[str] = set()
        self.failures: list[str] = []
        self.revoked: list[tuple[str, str, float]] = []
        self.invalidated: list[tuple[str, str | None]] = []
        self.organizations: list[str | None] = []  # of whom each of these two was
        self.pauses: list[float] = []
        self.tasks = TaskSet(lambda name, error: self.failures.append(f"{name}: {error!r}"))
        self.clock = Clock(asyncio.get_running_loop())
        self.metrics = Metrics()
        self.plans = PlanHolder(max_sandboxes=3, max_plan_bytes=2**21)
        self.store = PlanStore(folder / "state", self.tasks)
        self.restored = self.store.open()
        self.freshness = Freshness(self.clock, 600.0, on_expired=self.plans.withhold, on_usable=self.plans.release)
        self.bodies = PlanBodies(
            session,
            self.plans,
            self.store,
            self,
            self.tasks,
            self.metrics,
            wait_seconds=2.0,
            max_plan_bytes=2**21,
            now=lambda: self.now,
            sleep=self.sleep,
        )
        self.plans.source = self.bodies
        self.watcher = PlanWatcher(
            session,
            self.bodies,
            self.store,
            self.freshness,
            self.metrics,
            revoke=self.revoke,
            invalidate=self.invalidate,
            now=lambda: time.time_ns() / 1e9,
            sleep=self.sleep,
            idle_seconds=2.0,
        )

    # What the parts are given ------------------------------------------------------------------------

    def is_held(self, sandbox_id: str) -> bool:
        """Say what a test says."""
        return sandbox_id in self.held

    def sandboxes(self) -> Collection[str]:
        """Say what a test says."""
        return self.held

    def revoke(self, kind: str, revoked_id: str, until: float, organization_id: str | None) -> int:
        """Note a revocation."""
        self.organizations.append(organization_id)
        self.revoked.append((kind, revoked_id, until))
        return 0

    def invalidate(self, kind: str, name: str | None, organization_id: str | None) -> int:
        """Note an invalidation."""
        self.organizations.append(organization_id)
        self.invalidated.append((kind, name))
        return 0

    async def sleep(self, seconds: float) -> None:
        """Note a pause, and make it short."""
        self.pauses.append(seconds)
        await asyncio.sleep(0.001)

    # What a test asks --------------------------------------------------------------------------------

    def revision(self, sandbox_id: str) -> int | None:
        """Return the revision in force."""
        table = self.plans.table(sandbox_id)
        return None if table is None else table.revision

    def metric(self, sample: str) -> float:
        """Return one sample of the metrics, named as it is exposed."""
        for line in self.metrics.render().decode().splitlines():
            name, _, value = line.rpartition(" ")
            if name == sample:
                return float(value)
        raise AssertionError(f"no sample {sample}")


@contextlib.asynccontextmanager
async def control_stage(folder: Path) -> AsyncIterator[ControlStage]:
    """Run the parts until the block ends; no task of theirs may have failed."""
    async with control_session(folder) as (control, session, _):
        stage = ControlStage(folder, control, session)
        try:
            yield stage
        finally:
            await stage.tasks.close()
            stage.clock.close()
        assert stage.failures == []
