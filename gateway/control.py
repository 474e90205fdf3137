"""A gateway's side of its control plane, put together: made before the gateway, started with it.

What it says comes in by plan_watch and key_refresh, what it is asked goes through remote_credentials, remote_tokens and
authorities, what it is told goes out by lease. Standalone gateways have none of this.
"""

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final, Protocol

import structlog

from control_client.leases import HeldSandbox
from control_client.session import ControlSession
from gateway.authorities import RemoteAuthorities
from gateway.config import GatewayConfig
from gateway.fetches import Fetches
from gateway.freshness import Freshness, State
from gateway.key_refresh import KeyRefresh
from gateway.keys import KeyRing
from gateway.lease import LeaseReports
from gateway.metrics import Metrics
from gateway.plan_bodies import PlanBodies
from gateway.plan_holder import PlanHolder
from gateway.plan_store import PlanStore, Restored
from gateway.plan_watch import PlanWatcher
from gateway.remote_credentials import RemoteCredentials
from gateway.remote_tokens import RemoteTokenIssuer
from sallyport.net.clock import Clock, read_clock
from sallyport.net.tasks import TaskSet

# What NTP may set a clock back by between two processes; more is no correction.
CLOCK_STEP_SECONDS: Final = 60.0
# A disk that hangs does not hold up the end of a process for longer.
FLUSH_SECONDS: Final = 5.0
# How often it is looked whose plans nobody needs any more.
SWEEP_SECONDS: Final = 60.0

_log = structlog.get_logger(__name__)


class HeldStreams(Protocol):
    """Who has a stream here (gateway.parts.StreamIndex)."""

    def sandboxes(self) -> Collection[str]:
        """Return every sandbox with an open stream, a tunnel among them."""


class HeldTunnels(Protocol):
    """Who has a tunnel here (gateway.tunnels.Tunnels)."""

    def sandboxes(self) -> Iterator[tuple[str, int]]:
        """Yield every sandbox with a tunnel, and the tunnel's epoch."""

    def subscribe(self, callback: Callable[[str], None]) -> None:
        """Call callback(sandbox_id) after each change."""

    def close_superseded(self, sandbox_id: str) -> None:
        """Another gateway has a newer tunnel of this sandbox."""


class Holder(Protocol):
    """Who holds sandboxes: the parts of a gateway, or the processes of one that is several."""

    @property
    def streams(self) -> HeldStreams:
        """Its streams."""

    @property
    def tunnels(self) -> HeldTunnels:
        """Its tunnels."""


class ControlSide:
    """Everything that speaks to the control plane. start() once the gateway stands; close() waits for the disk."""

    def __init__(
        self,
        config: GatewayConfig,
        session: ControlSession,
        *,
        plans: PlanHolder,
        keys: KeyRing,
        clock: Clock,
        tasks: TaskSet,
        metrics: Metrics,
        on_keys: Callable[[bytes], None] = lambda document: None,
    ) -> None:
        """on_keys hears each key set in force. Raises StateError where the state directory cannot be used."""
        self._config = config
        self._session = session
        self._plans = plans
        self._ring = keys
        self._clock = clock
        self._tasks = tasks
        self._metrics = metrics
        self._holder: Holder | None = None
        self._store = PlanStore(config.control.state_dir, tasks)
        self._found = self._store.open()
        self._freshness = Freshness(clock, config.control.max_stale, on_expired=plans.withhold, on_usable=plans.release)
        self._keys = KeyRefresh(session, keys, self._store, now=lambda: clock.now, on_keys=on_keys)
        self._bodies = PlanBodies(
            session,
            plans,
            self._store,
            self,
            tasks,
            metrics,
            wait_seconds=config.timeouts.plan,
            max_plan_bytes=config.limits.plan_bytes,
            now=read_clock,
        )
        self.credentials = RemoteCredentials(session)
        self.token_issuer = RemoteTokenIssuer(session)
        self.authorities = RemoteAuthorities(
            session, Fetches(tasks, "interception CA"), lambda: clock.wall, wait_seconds=config.timeouts.plan
        )

    # Who holds what (gateway.plan_bodies.Holdings) ---------------------------------------------------

    def is_held(self, sandbox_id: str) -> bool:
        """Whether the sandbox has a tunnel or an open stream here."""
        return sandbox_id in self.sandboxes()

    def sandboxes(self) -> Collection[str]:
        """Return the sandboxes that have a tunnel or an open stream here."""
        return () if self._holder is None else self._holder.streams.sandboxes()

    def _held(self) -> Sequence[HeldSandbox]:
        """Return what the lease reports. A plan that is withheld counts: it is what this gateway applied."""
        assert self._holder is not None, "reports begin with the gateway"
        tunnels = dict(self._holder.tunnels.sandboxes())
        held = []
        for sandbox_id in sorted({*self.sandboxes(), *tunnels}):
            table = self._plans.loaded(sandbox_id)
            held.append(HeldSandbox(sandbox_id, tunnels.get(sandbox_id), None if table is None else table.revision))
        return held

    # Its life ---------------------------------------------------------------------------------------

    def start(
        self,
        holder: "Holder",
        *,
        invalidate: Callable[[str, str | None, str | None], int],
        revoke: Callable[[str, str, float, str | None], int],
        admin_url: str,
    ) -> None:
        """Take up what an earlier process left, then follow the control plane."""
        self._holder = holder
        control = self._config.control
        assert control.gateway_id is not None, "the settings demand it"
        watcher = PlanWatcher(
            self._session,
            self._bodies,
            self._store,
            self._freshness,
            self._metrics,
            revoke=revoke,
            invalidate=invalidate,
            now=lambda: self._clock.wall,
        )
        lease = LeaseReports(
            self._session,
            control.gateway_id,
            epoch=int(self._clock.wall * 1000),
            admin_url=control.admin_url or admin_url,
            held=self._held,
            superseded=holder.tunnels.close_superseded,
        )
        self._restore(watcher)
        self._plans.source = self._bodies
        self._plans.subscribe(lambda _: lease.changed())
        holder.tunnels.subscribe(lambda sandbox_id: self._tunnel_changed(sandbox_id, lease))
        self._metrics.watch("plans_stale_seconds", lambda: int(self._freshness.stale_seconds))
        self._metrics.watch("plans_lacking_seconds", lambda: int(self._bodies.lacking_seconds))
        self._metrics.watch("state_write_failures", lambda: self._store.failures)
        for name, work in (("watch", watcher.run()), ("keys", self._keys.run()), ("lease", lease.run())):
            self._tasks.spawn(work, name=name)
        self._tasks.spawn(self._sweep(), name="plan sweep")

    def want_keys(self) -> None:
        """A token names a key that is not known."""
        self._keys.want()

    def obstacles(self) -> list[str]:
        """Say why the gateway should get no traffic."""
        return self._freshness.obstacles() + (["no_keys"] if self._ring.current is None else [])

    def notes(self) -> list[str]:
        """Say what is worth knowing though it serves."""
        return self._freshness.notes()

    async def close(self) -> None:
        """Let what was learnt reach the disk."""
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                await self._store.flush()
        except TimeoutError:
            _log.error("state_not_saved", detail=f"the disk did not take it within {FLUSH_SECONDS:g} s")

    def _restore(self, watcher: PlanWatcher) -> None:
        found, self._found = self._found, Restored(None, None, ())
        if found.contact is None:
            return
        # Whatever else is too old, what was revoked stays so until its end.
        watcher.restore(found.contact)
        age = self._clock.wall - found.contact.heard_at
        # A clock that was set back far says nothing of the age: then it is as if nothing had been kept.
        if age < -CLOCK_STEP_SECONDS or not self._freshness.restored(max(age, 0.0)):
            _log.warning("state_too_old", age_seconds=round(age))
            return
        if found.jwks is not None:
            self._keys.restore(found.jwks)
        self._bodies.restore(found.plans)

    def _tunnel_changed(self, sandbox_id: str, lease: LeaseReports) -> None:
        lease.changed()
        if self.is_held(sandbox_id):
            self._bodies.held(sandbox_id)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            if self._freshness.state is State.FRESH:
                self._bodies.sweep()

    def __repr__(self) -> str:
        return f"<ControlSide {self._freshness!r}, {self._bodies!r}>"
