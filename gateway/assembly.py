"""Put a gateway together, stage by stage. The one place that knows all parts."""

import asyncio
import contextlib
import dataclasses
import functools
import random
import secrets
import ssl
from collections.abc import Callable, Sequence
from typing import NamedTuple

from control_client.session import ControlSession
from gateway.admin.denials import denials_routes
from gateway.admin.flows import flows_routes
from gateway.admin.orders import OrderParts, order_routes
from gateway.admin.sandboxes import sandbox_routes
from gateway.admin.surface import (
    AdminApp,
    AdminParts,
    AdminRunner,
    build_admin,
    start_admin,
    start_private_admin,
)
from gateway.answer import CODING_SECONDS
from gateway.audit import AuditLog
from gateway.authorities import LocalAuthorities
from gateway.backlog import Backlogs
from gateway.config import GatewayConfig
from gateway.control import ControlSide
from gateway.credentials import Credentials
from gateway.denials import Denials
from gateway.kept_body import KeptBodies
from gateway.keys import KeyRing
from gateway.memory import MemoryWatch, memory_limit
from gateway.metrics import Metrics
from gateway.open_streams import StreamIndex
from gateway.parts import GatewayParts
from gateway.plan_holder import PlanHolder
from gateway.processes.followed import FollowedControl
from gateway.processes.place import Place
from gateway.processes.reports import Reports
from gateway.proxy_listener import ProxyDoorman
from gateway.recorder import Recorder
from gateway.renewal import Renewals
from gateway.revocations import Revocations
from gateway.running import Gateway
from gateway.service_auth import ServiceAuth
from gateway.starting import (
    control_session,
    failed_tasks,
    key_ring,
    local_credentials,
    token_verifier,
    trust_of,
    watch_expiries,
)
from gateway.tokens import TokenVerifier
from gateway.tunnel_listener import TunnelDoorman
from gateway.upstream import UpstreamPool
from sallyport.address_policy import AddressPolicy
from sallyport.claims import AUDIENCE_PROXY, AUDIENCE_RENEWAL, AUDIENCE_TUNNEL
from sallyport.destination import Destination
from sallyport.host import split_authority
from sallyport.net.buffer_budget import BufferBudget
from sallyport.net.clock import Clock, read_wall
from sallyport.net.dial import Dialer
from sallyport.net.interception import InterceptionContexts
from sallyport.net.listener_tls import listener_context
from sallyport.net.own_places import OwnPlaces
from sallyport.net.process import descriptor_limit
from sallyport.net.resolve import Resolver
from sallyport.net.setting_kinds import HostPort
from sallyport.net.splice import Splices
from sallyport.net.tasks import TaskSet
from sallyport.net.transports import Listener, adopt, listen
from sallyport.net.turns import LoopTurns


class _Listening(NamedTuple):
    """Where a gateway listens; of several processes the admin surface is the parent's."""

    proxy: Listener
    tunnel: Listener | None
    admin: Sequence[tuple[str, int]]

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """All of them."""
        tunnel = () if self.tunnel is None else self.tunnel.addresses
        return [*self.proxy.addresses, *tunnel, *self.admin]


class Assembly:
    """One start of a gateway, stage by stage; what was opened is on the stack, to be closed in the opposite order."""

    def __init__(self, config: GatewayConfig, opened: contextlib.AsyncExitStack, place: Place | None) -> None:
        self._config = config
        self._place = place
        self._reports = Reports()
        self._opened = opened
        self._loop = asyncio.get_running_loop()
        self._metrics = Metrics()
        self._recorder = Recorder()
        self._denials = Denials(most_each=config.limits.denials_per_sandbox, most=config.limits.denials)
        # Made by the stages below: the listeners are bound before what they serve exists.
        self._doorman: ProxyDoorman | None = None
        self._tunnel_doorman: TunnelDoorman | None = None
        self._gateway: Gateway | None = None
        self._controlled: ControlSide | FollowedControl | None = None

    async def run(self) -> Gateway:
        """Put the parts together in order: files, clocks, what is asked elsewhere, listeners, upstreams, the whole."""
        config = self._config
        keys, revocations = key_ring(config), Revocations()
        plans = self._plans()
        session = self._control_session()
        context = trust_of("upstream.ca_file", config.upstream.ca_file)
        audit = self._audit()
        clock, tasks = self._clock_and_tasks()
        control = None if session is None else self._control(session, plans, keys, clock, tasks)
        credentials = self._credentials(clock, tasks)
        verifiers = functools.partial(token_verifier, config, keys, revocations, control)
        tunnel_tls = listener_context("tunnel.tls", config.tunnel.tls)
        listening = await self._listen(self._admin_parts(plans, credentials), verifiers, keys)
        own = _own_places(config, listening.addresses)
        dialer = _dialer(config, own, self._opened)
        authorities = LocalAuthorities(config.interception.ca_dir) if control is None else control.authorities
        buffers = BufferBudget(config.limits.tunnel_buffer_bytes)
        # Streams of sandboxes need two descriptors each, and what anybody can open must leave them some.
        streams = StreamIndex(min(config.limits.anonymous_streams, descriptor_limit() // 4))
        parts = GatewayParts(
            loop=self._loop,
            clock=clock,
            timeouts=config.timeouts,
            limits=config.limits,
            passthrough_hosts=config.interception.passthrough_hosts,
            scrub=config.scrub,
            tokens=verifiers(AUDIENCE_PROXY),
            tunnel_tokens=verifiers(AUDIENCE_TUNNEL),
            tunnel_buffers=buffers,
            kept_bodies=KeptBodies(buffers, config.limits.sandbox_buffer_bytes),
            streams=streams,
            pipelines=LoopTurns(self._loop.call_soon),
            codings=LoopTurns(self._loop.call_soon, CODING_SECONDS),
            backlogs=Backlogs(config.limits.sandbox_backlog_bytes, streams.readers, self._loop.call_soon),
            renewal_tokens=verifiers(AUDIENCE_RENEWAL),
            revocations=revocations,
            plans=plans,
            credentials=credentials,
            upstreams=_upstream_pool(config, clock, dialer, context, self._metrics),
            dialer=dialer,
            splices=Splices(clock, config.limits.splices),
            authorities=authorities,
            interception=InterceptionContexts(authorities, max_contexts=config.limits.leaf_contexts),
            audit=audit,
            metrics=self._metrics,
            tasks=tasks,
            request_prefix=f"req_{secrets.token_hex(4)}_",
            denials=self._denials,
            recorder=self._recorder,
            renewals=None
            if control is None
            else Renewals(control.token_issuer, tasks, timeout_seconds=config.timeouts.credential),
        )
        self._watch(parts, session)
        return await self._begin(parts, listening, tunnel_tls, control)

    async def _begin(
        self,
        parts: GatewayParts,
        listening: _Listening,
        tunnel_tls: ssl.SSLContext | None,
        control: ControlSide | FollowedControl | None,
    ) -> Gateway:
        """Tie what was put together to what calls it, and accept."""
        parts.plans.subscribe(parts.tunnels.plan_changed)
        self._doorman = ProxyDoorman(parts)
        self._tunnel_doorman = TunnelDoorman(parts, tunnel_tls)
        address = listening.admin[0]
        gateway = self._gateway = Gateway(parts, listening.proxy, listening.tunnel, address[1], self._opened.pop_all())
        parts.plans.on_replaced = gateway.plan_replaced
        if control is not None:
            admin_url = f"{'https' if self._config.admin.tls.is_given else 'http'}://{HostPort(*address)}"
            control.start(parts, invalidate=parts.credentials.invalidate, revoke=gateway.revoke, admin_url=admin_url)
        if self._place is None:
            await gateway.start_accepting()
        else:  # it accepts when its parent says so: once it knows what the others know
            parts.tunnels.subscribe(lambda _: self._reports.changed())
        return gateway

    def _plans(self) -> PlanHolder:
        limits = self._config.limits
        plans = PlanHolder(
            max_sandboxes=limits.sandboxes, max_plan_bytes=limits.plan_bytes, new_limit=limits.of_sandbox
        )
        if self._place is None:  # plans of files, too, come from the parent, so that all have the same
            for _ in plans.load_files(self._config.plans):
                self._metrics.plan_applied("applied")
        return plans

    def _audit(self) -> AuditLog:
        lock = None if self._place is None else self._place.audit_lock
        audit = AuditLog(self._config.audit.path, self._config.limits.audit_records, lock)
        audit.start()
        self._opened.callback(audit.close)
        return audit

    def _clock_and_tasks(self) -> tuple[Clock, TaskSet]:
        clock = Clock(self._loop, observe_lag=self._metrics.loop_lag.observe)
        self._opened.callback(clock.close)
        tasks = TaskSet(failed_tasks(self._metrics))
        self._opened.push_async_callback(tasks.close)
        return clock, tasks

    def _watch(self, parts: GatewayParts, session: ControlSession | None) -> None:
        """Let a scrape ask for sizes, and memory be watched."""
        config = self._config
        _watch_sizes(parts)
        if self._place is None:  # of several processes the parent counts what all of them have
            self._metrics.watch("plans_active", parts.plans.__len__)
            self._metrics.watch("ready", lambda: int(not self._not_ready()))
            watch_expiries(config, session, self._metrics)
        limit_bytes = memory_limit(config.limits.memory, config.workers)
        if limit_bytes is not None:
            self._opened.callback(MemoryWatch(parts, limit_bytes).close)

    def _control_session(self) -> ControlSession | None:
        """Open the session to the control plane; closed after the tasks that use it."""
        session = control_session(self._config, self._metrics)
        if session is not None:
            self._opened.push_async_callback(session.close)
        return session

    def _control(
        self, session: ControlSession, plans: PlanHolder, keys: KeyRing, clock: Clock, tasks: TaskSet
    ) -> ControlSide | FollowedControl:
        control: ControlSide | FollowedControl
        if self._place is None:
            control = ControlSide(
                self._config, session, plans=plans, keys=keys, clock=clock, tasks=tasks, metrics=self._metrics
            )
        else:
            wait_seconds = self._config.timeouts.plan
            control = FollowedControl(
                session, self._reports, plans=plans, clock=clock, tasks=tasks, wait_seconds=wait_seconds
            )
        self._opened.push_async_callback(control.close)
        self._controlled = control
        return control

    def _credentials(self, clock: Clock, tasks: TaskSet) -> Credentials:
        return Credentials(
            local_credentials(self._config) if self._controlled is None else self._controlled.credentials,
            tasks,
            max_entries=self._config.limits.credential_cache_entries,
            max_concurrent=self._config.limits.credential_fetches,
            max_each=self._config.limits.credential_fetches_per_sandbox,
            timeout_seconds=self._config.timeouts.credential,
            now=lambda: clock.wall,
            random=random.random,
            count=self._metrics.credential_resolved,
        )

    async def _listen(self, parts: AdminParts, verifiers: Callable[[str], TokenVerifier], keys: KeyRing) -> _Listening:
        """Bind every listener, or take those that were inherited. Only the admin surface answers already."""
        ours, places = self._place, self._config.listen
        proxy = await self._bind(places.proxy, lambda: self._doorman, () if ours is None else ours.proxy)
        tunnel = None
        if places.tunnel is not None:
            inherited = () if ours is None else ours.tunnel
            tunnel = await self._bind(places.tunnel, lambda: self._tunnel_doorman, inherited)
        if ours is None:
            return _Listening(proxy, tunnel, await self._serve_admin(parts, verifiers))
        await self._serve_parent(parts, ours, keys)
        return _Listening(proxy, tunnel, ours.parent_addresses)

    async def _bind(
        self,
        address: HostPort,
        doorman: Callable[[], ProxyDoorman | TunnelDoorman | None],
        inherited: Sequence[int],
    ) -> Listener:
        """Bind a listener of the data path, or take the one that was inherited; it accepts once it is started."""

        def accept() -> asyncio.Protocol:
            ready = doorman()
            assert ready is not None, "a listener starts after its doorman was made"
            return ready.accept()

        listener = await (adopt(inherited, accept) if inherited else listen(address.host, address.port, accept))
        self._opened.push_async_callback(listener.close)
        return listener

    def _admin_parts(self, plans: PlanHolder, credentials: Credentials) -> AdminParts:
        async def invalidate(kind: str, identifier: str | None, organization_id: str | None) -> int:
            return credentials.invalidate(kind, identifier, organization_id)

        async def revoke(kind: str, revoked_id: str, until: float, organization_id: str | None) -> int:
            return self._started().revoke(kind, revoked_id, until, organization_id)

        return AdminParts(
            plans=plans,
            metrics=self._metrics,
            not_ready=self._not_ready,
            notes=lambda: [] if self._controlled is None else self._controlled.notes(),
            is_controlled=self._controlled is not None,
            invalidate=invalidate,
            revoke=revoke,
            drain=lambda: self._started().begin_drain(),
            drain_seconds=self._config.timeouts.drain,
            max_plan_bytes=self._config.limits.plan_bytes,
        )

    async def _serve_admin(
        self, parts: AdminParts, verifiers: Callable[[str], TokenVerifier]
    ) -> Sequence[tuple[str, int]]:
        """Serve the admin surface, not ready yet; returns the addresses it listens on."""
        config = self._config
        context = listener_context("admin.tls", config.admin.tls)
        auth = None if context is None else ServiceAuth(verifiers, read_wall)
        admin = self._admin(dataclasses.replace(parts, auth=auth))
        runner = await start_admin(admin, config.listen.admin.host, config.listen.admin.port, context)
        self._admin_serves(runner)
        return [(str(name[0]), int(name[1])) for name in runner.addresses]

    async def _serve_parent(self, parts: AdminParts, place: Place, keys: KeyRing) -> None:
        """Serve the admin surface to the parent of several processes alone, with what it may order."""
        followed = self._controlled
        admin = self._admin(parts)
        admin.add_routes(
            order_routes(
                OrderParts(
                    plans=parts.plans,
                    keys=keys,
                    reports=self._reports,
                    parts=lambda: self._started().parts,
                    serve=lambda: self._started().start_accepting(),
                    settled=followed.settled if isinstance(followed, FollowedControl) else lambda sandbox_id: None,
                    max_plan_bytes=parts.max_plan_bytes,
                )
            )
        )
        self._admin_serves(await start_private_admin(admin, place.admin_socket))

    def _admin(self, parts: AdminParts) -> AdminApp:
        admin = build_admin(parts)
        admin.add_routes(flows_routes(self._recorder))
        admin.add_routes(denials_routes(self._denials))
        admin.add_routes(sandbox_routes(lambda: self._started().parts))
        return admin

    def _admin_serves(self, runner: AdminRunner) -> None:
        self._opened.push_async_callback(runner.cleanup)
        # The surface waits for its answers, and these have no end.
        self._opened.callback(self._recorder.close)
        self._opened.callback(self._denials.close)
        self._opened.callback(self._reports.close)

    def _started(self) -> Gateway:
        assert self._gateway is not None, "the admin surface is asked after start"
        return self._gateway

    def _not_ready(self) -> list[str]:
        if self._gateway is None:
            return ["starting"]
        reasons = [] if self._controlled is None else self._controlled.obstacles()
        return ["draining", *reasons] if self._gateway.parts.is_draining else reasons


def _own_places(config: GatewayConfig, listening: Sequence[tuple[str, int]]) -> OwnPlaces:
    """Say what no sandbox may reach as an upstream: where this gateway listens, and its control plane."""
    url = config.control.url
    return OwnPlaces(listening, () if url is None else (split_authority(url.partition("://")[2], None),))


def _dialer(config: GatewayConfig, own: OwnPlaces, opened: contextlib.AsyncExitStack) -> Dialer:
    limits = config.limits
    resolver = Resolver(
        max_names=limits.resolver_cache_entries, max_concurrent=limits.lookups, max_each=limits.lookups_per_sandbox
    )
    opened.callback(resolver.close)
    return Dialer(
        AddressPolicy(allow=config.network.allow),
        resolver,
        own=own,
        connect_to={str(here): (there.host, there.port) for here, there in config.upstream.connect_to.items()},
        proxy=None if config.upstream.proxy is None else Destination("http", *config.upstream.proxy),
        connect_timeout_seconds=config.timeouts.connect,
        resolve_timeout_seconds=config.timeouts.resolve,
        max_attempts=config.limits.dial_attempts,
    )


def _upstream_pool(
    config: GatewayConfig, clock: Clock, dialer: Dialer, context: ssl.SSLContext, metrics: Metrics
) -> UpstreamPool:
    return UpstreamPool(
        clock=clock,
        dialer=dialer,
        context=context,
        links_per_key=config.limits.links_per_key,
        idle_per_key=config.limits.idle_links_per_key,
        links_per_owner=config.limits.links_per_owner,
        write_buffer_bytes=config.limits.write_buffer_bytes,
        handshake_timeout=config.timeouts.handshake,
        queue_timeout=config.timeouts.connect,
        idle_timeout=config.timeouts.pool_idle,
        observe_connect=metrics.connected,
    )


def _watch_sizes(parts: GatewayParts) -> None:
    """Let a scrape ask for what the parts count themselves."""
    metrics = parts.metrics
    metrics.watch("credential_cache_entries", parts.credentials.__len__)
    metrics.watch("audit_dropped", lambda: parts.audit.dropped)
    metrics.watch("audit_waiting", lambda: parts.audit.waiting)
    metrics.watch("active_streams", lambda: parts.streams.of_sandboxes)
    metrics.watch("anonymous_dropped", lambda: parts.streams.dropped)
    metrics.watch("backlogged_sandboxes", lambda: parts.backlogs.over)
    metrics.watch("active_tunnels", parts.tunnels.__len__)
    metrics.watch("tunnel_bytes_up", lambda: parts.tunnels.bytes_up)
    metrics.watch("tunnel_bytes_down", lambda: parts.tunnels.bytes_down)
    metrics.watch("tunnel_buffer_bytes", lambda: parts.tunnel_buffers.held)
    metrics.watch("upstream_links_open", lambda: parts.upstreams.state.open)
    metrics.watch("upstream_links_idle", lambda: parts.upstreams.state.idle)
