"""What every exchange of a gateway works with, put together once by assembly.py."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from gateway.audit import AuditLog
from gateway.authorities import FetchedAuthorities
from gateway.backlog import Backlogs
from gateway.config import Limits, Scrub, Timeouts
from gateway.credentials import Credentials
from gateway.denials import Denials
from gateway.kept_body import KeptBodies
from gateway.metrics import Metrics
from gateway.open_streams import StreamIndex
from gateway.plan_holder import PlanHolder
from gateway.recorder import Recorder
from gateway.renewal import Renewals
from gateway.revocations import Revocations
from gateway.tokens import TokenVerifier
from gateway.tunnels import Tunnels
from gateway.upstream import UpstreamPool
from sallyport.host import HostPattern
from sallyport.net.buffer_budget import BufferBudget
from sallyport.net.clock import Clock
from sallyport.net.dial import Dialer
from sallyport.net.interception import InterceptionContexts
from sallyport.net.splice import Splices
from sallyport.net.tasks import TaskSet
from sallyport.net.turns import LoopTurns


@dataclass(slots=True, kw_only=True)
class GatewayParts:
    """The parts of one gateway process. is_draining turns true once and stays so."""

    loop: asyncio.AbstractEventLoop
    clock: Clock
    timeouts: Timeouts
    limits: Limits
    passthrough_hosts: Sequence[HostPattern]
    scrub: Scrub
    tokens: TokenVerifier
    tunnel_tokens: TokenVerifier
    renewal_tokens: TokenVerifier
    revocations: Revocations
    plans: PlanHolder
    credentials: Credentials
    streams: StreamIndex
    # Streams that have more requests to serve than a turn of the loop takes, by sandbox; those of nobody are one owner.
    pipelines: LoopTurns[str | None]
    # Answers of which more gzip is to be undone than at once, by sandbox.
    codings: LoopTurns[str]
    upstreams: UpstreamPool
    dialer: Dialer
    splices: Splices
    authorities: FetchedAuthorities
    interception: InterceptionContexts
    audit: AuditLog
    metrics: Metrics
    tasks: TaskSet
    request_prefix: str
    denials: Denials = field(default_factory=Denials)
    recorder: Recorder = field(default_factory=Recorder)
    tunnels: Tunnels = field(default_factory=Tunnels)
    tunnel_buffers: BufferBudget = field(default_factory=BufferBudget)
    kept_bodies: KeptBodies = field(default_factory=KeptBodies)
    backlogs: Backlogs = field(default_factory=Backlogs)
    # Who renews tunnel tokens; nobody does for a gateway that stands alone.
    renewals: Renewals | None = None
    is_draining: bool = False
    # The process holds too much memory: nothing new is begun by whose it was, or (None) by anybody.
    is_shedding: bool = False
    shed_from: Collection[str | None] | None = None
    _requests: int = 0

    def sheds(self, sandbox_id: str | None) -> bool:
        """Whether a sandbox may begin nothing now, because there is no memory; None: who has not said which it is."""
        return self.is_shedding and (self.shed_from is None or sandbox_id in self.shed_from)

    def next_request_id(self) -> str:
        """Return an id that is unique among all gateways: a random prefix per process and a number."""
        number = self._requests
        self._requests = number + 1
        return f"{self.request_prefix}{number}"
