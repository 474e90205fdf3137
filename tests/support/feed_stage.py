"""An instance in a control plane's database, with workers that report what a test says."""

from dataclasses import dataclass, field

from control_plane.feed import instances, keys
from control_plane.feed.keeping import FeedKeeper
from control_plane.feed.tiers import Tier
from control_plane.foundation import Foundation
from control_plane.store import feed as rows
from control_plane.store.models import InstanceServer
from control_plane.workers import ReportedServer, Workers
from tests.support.control_plane import NOW, ORGANIZATION

INSTANCE = "inst_one"
FRONT = "http://127.0.0.1:4300"
WORKER = "wrk_1"


@dataclass
class FeedStage:
    """One instance of ORGANIZATION. `now` is what its clock says."""

    base: Foundation
    now: float = NOW
    built_in_url: str | None = None
    workers: Workers = field(init=False)
    keeper: FeedKeeper = field(init=False)

    def __post_init__(self) -> None:
        self.workers = Workers(self.base.database, lambda: self.now)
        self.keeper = self.new_keeper()

    def new_keeper(self, settle_seconds: float = 0) -> FeedKeeper:
        """Return a keeper, as another replica has one."""
        return FeedKeeper(
            self.base.database,
            self.workers,
            lambda: self.now,
            built_in_url=self.built_in_url,
            settle_seconds=settle_seconds,
        )

    async def prepare(self, instance_id: str = INSTANCE, organization_id: str = ORGANIZATION) -> None:
        """Make an instance."""
        await instances.create(
            self.base.database, organization_id, instance_id=instance_id, display_name=None, now=self.now
        )

    async def key(self, tier: Tier = Tier.STANDARD, instance_id: str = INSTANCE) -> dict[str, object]:
        """Make a client key, and return all of it."""
        return await keys.create(
            self.base.database, instance_id, tier, display_name=None, created_by="test", now=self.now
        )

    async def own(
        self,
        name: str,
        *,
        tier: Tier = Tier.STANDARD,
        user_id: str | None = None,
        worker_id: str = WORKER,
        instance_id: str = INSTANCE,
        desired: str = "running",
    ) -> None:
        """Have the instance have a server, whose id is its name."""
        async with self.base.database.write() as tx:
            await tx.add(
                InstanceServer(
                    id=name,
                    organization_id=ORGANIZATION,
                    instance_id=instance_id,
                    name=name,
                    tool_id=name,
                    user_id=user_id,
                    tier=tier,
                    source='{"source":"time","arguments":[],"environment":{},"secrets":{}}',
                    desired=desired,
                    worker_id=worker_id,
                    issue=None,
                    removal="",
                    leaves_at=None,
                    created_at=int(self.now),
                    updated_at=int(self.now),
                )
            )

    async def report(self, *servers: ReportedServer, worker_id: str = WORKER, front: str | None = FRONT) -> None:
        """Have a worker report that it runs these, and nothing else."""
        await self.workers.report(worker_id, epoch=1, api_url="http://127.0.0.1:1", front_url=front, servers=servers)

    async def revision(self, instance_id: str = INSTANCE) -> int:
        """Return the instance's revision."""
        async with self.base.database.read() as tx:
            return await rows.revision(tx, instance_id)


def runs(
    server_id: str, status: str = "running", tier: Tier = Tier.STANDARD, sandbox_id: str | None = None
) -> ReportedServer:
    """Return a server as a worker reports it."""
    return ReportedServer(server_id=server_id, tier=tier.value, status=status, tools=("t",), sandbox_id=sandbox_id)
