"""Put a control plane together, run it, end it. The one place that knows all parts."""

import asyncio
import contextlib
import logging
import signal
import ssl
from collections.abc import AsyncIterator, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Final

import structlog
import uvloop

from control_plane import upkeep
from control_plane.api.built_in.server import PATH as BUILT_IN_PATH
from control_plane.api.metrics import build_metrics
from control_plane.api.parts import Parts
from control_plane.api.server import ListenError, Server, build_api, build_served
from control_plane.authorities import Authorities
from control_plane.authorizations import AuthorizationDesk
from control_plane.bindings import BindingDesk
from control_plane.compilation import CompileDesk
from control_plane.config import ControlPlaneConfig, Webhooks
from control_plane.connections import ConnectionDesk
from control_plane.definitions.registry import Registry
from control_plane.denials import DenialDesk
from control_plane.feed.keeping import FeedKeeper
from control_plane.feed.servers import ServerDesk
from control_plane.foundation import Foundation, StartError, foundation, start_errors
from control_plane.idempotency import Answers
from control_plane.ids import new_id
from control_plane.keeper import CredentialKeeper
from control_plane.metrics import ControlMetrics
from control_plane.minting import TokenOffice
from control_plane.oauth.provider_session import ProviderSession
from control_plane.outbound.checked_session import CheckedSession
from control_plane.outbound.gateway_admin import GatewayAdmin
from control_plane.plans import PlanDesk
from control_plane.push.emitter import Emitter
from control_plane.push.subscribers import PushSubscribers, sync_configured
from control_plane.rate_limits import RateLimits
from control_plane.recompilation import Recompiler
from control_plane.resolution import Resolver as CredentialResolver
from control_plane.service_tokens import TokenFiles
from control_plane.target_sync import sync
from control_plane.targets import TargetDesk
from control_plane.watch import Watch
from control_plane.webhooks.endpoints import WebhookEndpoints
from control_plane.webhooks.ingest import Ingest
from control_plane.webhooks.outbox import Outbox
from control_plane.webhooks.subscriptions import WebhookSubscriptions
from control_plane.worker_caller import CallTimes, WorkerCaller
from control_plane.workers import Workers
from sallyport.address_policy import AddressPolicy, Network
from sallyport.host import is_loopback
from sallyport.net.clock import Clock
from sallyport.net.dial import Dialer
from sallyport.net.log import Log, configure_log
from sallyport.net.own_places import OwnPlaces
from sallyport.net.process import harden_process, raise_descriptor_limit
from sallyport.net.resolve import Resolver
from sallyport.net.setting_kinds import HostPort
from sallyport.net.tasks import TaskSet
from sallyport.net.tls import client_context

# Where an operator's own gateways may be, beside public addresses: this machine, private and shared ranges.
WITHIN: Final[Sequence[Network]] = tuple(
    ip_network(text)
    for text in (
        *("127.0.0.0/8", "::1/128", "10.0.0.0/8", "100.64.0.0/10"),
        *("172.16.0.0/12", "192.168.0.0/16", "fc00::/7"),
    )
)

_log = structlog.get_logger(__name__)


async def _add_targets(base: Foundation, config: ControlPlaneConfig, now: float) -> None:
    """Make targets of definitions that have none; what an operator set of others stays."""
    added = await sync(base.database, base.vault, base.registry, None, now, enable_ready=config.is_embedded)
    for each in added:
        _log.info("target_added", target=each.target_key, state=each.after)


class ControlPlane:
    """A running control plane, made by started()."""

    def __init__(self, server: Server, watch: Watch, port: int, metrics_port: int | None) -> None:
        self.port = port
        self.metrics_port = metrics_port
        self._server = server
        self._watch = watch

    def begin_stop(self) -> None:
        """End the streams and take nothing new."""
        self._watch.end_subscriptions()
        self._server.should_exit = True


@contextlib.asynccontextmanager
async def started(
    config: ControlPlaneConfig, registry: Registry | None = None
) -> AsyncIterator[tuple[ControlPlane, asyncio.Task[None]]]:
    """Start a control plane; yield it with the task that serves until begin_stop(). Raises StartError."""
    async with contextlib.AsyncExitStack() as opened:
        clock = Clock(asyncio.get_running_loop())
        opened.callback(clock.close)
        base = await opened.enter_async_context(foundation(config, now=clock.wall, registry=registry))
        session = ProviderSession(*_outbound(config))
        opened.push_async_callback(session.close)
        subscribers = CheckedSession(*_outbound(config))
        opened.push_async_callback(subscribers.close)
        gateways = _gateway_session(config)
        opened.push_async_callback(gateways.close)
        receivers = CheckedSession(*_outbound(config), is_plain_on_loopback=True)
        opened.push_async_callback(receivers.close)
        tasks = TaskSet(_task_failed)
        opened.push_async_callback(tasks.close)
        with start_errors():
            await _add_targets(base, config, clock.wall)
            await sync_configured(base.database, base.vault, config.pushes.configured(), clock.wall)
        watch = Watch(base.database, lambda: clock.wall)
        with start_errors():
            await watch.start()
        opened.push_async_callback(watch.close)
        files = TokenFiles(config.data_dir, base.ring, lambda: clock.wall)
        with start_errors():
            await files.write()
        tasks.spawn(files.keep_fresh(), name="service tokens")
        keeping_up = upkeep.keep_up(base.database, lambda: clock.wall, config.webhooks.retention)
        tasks.spawn(keeping_up, name="upkeep")
        admin = GatewayAdmin(gateways, config.gateways.timeout)
        parts = _parts(base, watch, clock, session, subscribers, admin, config)
        tasks.spawn(Recompiler(base.database, parts.compilation, lambda: clock.wall).run(), name="recompiler")
        tasks.spawn(parts.keeper.keep_fresh(), name="credentials")
        tasks.spawn(parts.outbox.run(), name="webhooks")
        tasks.spawn(parts.workers.watch_leases(), name="leases of workers")
        tasks.spawn(parts.feed.run(), name="client feed")
        tasks.spawn(parts.servers.run(), name="servers of instances")
        tasks.spawn(_emitter(base, receivers, clock, parts.metrics, config).run(), name="pushes")
        api = build_api(parts)
        tasks.spawn(api.state.built_in.run(), name="built-in server")
        server = Server(build_served(api, parts), config.api.listen, clock)
        serving = tasks.spawn(server.serve(), name="api")
        port = await _listening("api.listen", server, serving, config.api.listen)
        parts.feed.built_in_url = _built_in_url(config, port)
        opened.push_async_callback(_end, server, serving)
        opened.callback(watch.end_subscriptions)
        metrics_port = await _serve_metrics(parts, config.metrics.listen, clock, tasks, opened)
        yield ControlPlane(server, watch, port, metrics_port), serving


def run_control_plane(config: ControlPlaneConfig) -> int:
    """Run a control plane until SIGTERM or SIGINT; raises StartError. Returns the exit status."""
    configure_log(Log(level=config.log_level, format=config.log_format))
    # uvicorn and SQLAlchemy log by the standard library; what they have to say is said by our own events.
    logging.getLogger().addHandler(logging.NullHandler())
    harden_process()
    raise_descriptor_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(config))


async def _run(config: ControlPlaneConfig) -> int:
    async with started(config) as (control_plane, serving):
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, control_plane.begin_stop)
        if not is_loopback(config.api.listen.host):
            _log.warning("listening_without_tls", hint="put a proxy that ends TLS in front: tokens travel here")
        _log.info("ready", api=f"{config.api.listen.host}:{control_plane.port}", database=_kind(config))
        await serving
    return 0


def _outbound(config: ControlPlaneConfig) -> tuple[Dialer, ssl.SSLContext]:
    """Return how the control plane reaches what is outside."""
    trust = _trust("outbound.ca_file", config.outbound.ca_file)
    return _dialer(config.api.listen, config.outbound.allow), trust


def _gateway_session(config: ControlPlaneConfig) -> CheckedSession:
    """Return what asks gateways. They are the operator's own, so they are within; metadata services are not."""
    trust = _trust("gateways.ca_file", config.gateways.ca_file)
    return CheckedSession(_dialer(config.api.listen, WITHIN), trust, is_plain_on_loopback=True)


def _trust(setting: str, path: Path | None) -> ssl.SSLContext:
    try:
        return client_context(None if path is None else str(path))
    except (OSError, ssl.SSLError) as error:
        raise StartError(f"{setting}: {path} cannot be used: {error}", "name a PEM bundle of roots") from None


def _dialer(listen: HostPort, allow: Sequence[Network]) -> Dialer:
    # Where the control plane itself listens is nobody else, whatever the policy allows.
    is_address = ":" in listen.host or listen.host.rpartition(".")[2].isdigit()
    own = OwnPlaces(listeners=[listen]) if is_address else OwnPlaces(named=[listen])
    return Dialer(AddressPolicy(allow=tuple(allow)), Resolver(), own=own)


def _parts(
    base: Foundation,
    watch: Watch,
    clock: Clock,
    session: ProviderSession,
    subscribers: CheckedSession,
    admin: GatewayAdmin,
    config: ControlPlaneConfig,
) -> Parts:
    registry = base.registry
    database, vault, hooks = base.database, base.vault, config.webhooks
    outbox = _outbox(base, clock, subscribers, hooks)
    metrics = ControlMetrics()
    metrics.watch("watch_streams", lambda: watch.streams)
    metrics.watch("database_errors", lambda: database.errors)
    keeper = CredentialKeeper(
        database, vault, registry, session, lambda: clock.wall, new_id("ctl", clock.wall), metrics.refreshed
    )
    workers = Workers(database, lambda: clock.wall)
    caller = _worker_caller(base, clock, workers, config)
    feed = FeedKeeper(database, workers, lambda: clock.wall, built_in_url=_built_in_url(config, config.api.listen.port))
    return Parts(
        database=base.database,
        metrics=metrics,
        ring=base.ring,
        office=TokenOffice(base.database, base.vault, base.ring),
        plans=PlanDesk(base.database),
        registry=registry,
        bindings=BindingDesk(base.database, registry),
        compilation=CompileDesk(base.database, registry),
        targets=TargetDesk(base.database, base.vault, registry),
        connections=ConnectionDesk(base.database, base.vault, registry),
        authorizations=AuthorizationDesk(base.database, base.vault, registry, session, config.public_url),
        keeper=keeper,
        resolver=CredentialResolver(database, vault, registry, keeper, metrics.resolved),
        authorities=Authorities(base.database, base.vault),
        denials=DenialDesk(base.database, admin, base.ring),
        watch=watch,
        ingest=Ingest(database, vault, registry, outbox.wake),
        max_webhook_bytes=hooks.max_body,
        webhook_endpoints=WebhookEndpoints(database, registry, config.public_url),
        webhook_subscriptions=WebhookSubscriptions(database, vault, give_up_seconds=hooks.give_up_after),
        outbox=outbox,
        workers=workers,
        push_subscribers=PushSubscribers(database, vault),
        worker_caller=caller,
        feed=feed,
        servers=ServerDesk(database, workers, caller, feed, lambda: clock.wall, linger_seconds=config.feed.linger),
        rates=RateLimits(
            requests_per_minute=config.limits.requests_per_minute,
            failed_logins_per_minute=config.limits.failed_logins_per_minute,
        ),
        answers=Answers(base.database, base.vault),
        public_url=config.public_url,
        now=lambda: clock.wall,
    )


def _outbox(base: Foundation, clock: Clock, subscribers: CheckedSession, hooks: Webhooks) -> Outbox:
    return Outbox(
        base.database,
        base.vault,
        subscribers,
        lambda: clock.wall,
        new_id("ctl", clock.wall),
        delivery_seconds=hooks.delivery_timeout,
        give_up_seconds=hooks.give_up_after,
    )


def _worker_caller(base: Foundation, clock: Clock, workers: Workers, config: ControlPlaneConfig) -> WorkerCaller:
    return WorkerCaller(
        workers,
        base.ring,
        lambda: clock.wall,
        trust=_trust("workers.ca_file", config.workers.ca_file),
        times=CallTimes(config.workers.timeout, config.workers.install_timeout),
    )


def _built_in_url(config: ControlPlaneConfig, port: int) -> str | None:
    """Return where the built-in server is; None where that is not known before a port is given."""
    if config.api.public_url is None and port == 0:
        return None
    url = config.api.public_url or f"http://{HostPort(config.api.listen.host, port)}"
    return url + BUILT_IN_PATH


def _emitter(
    base: Foundation, session: CheckedSession, clock: Clock, metrics: ControlMetrics, config: ControlPlaneConfig
) -> Emitter:
    return Emitter(
        *(base.database, base.vault, session, lambda: clock.wall, new_id("ctl", clock.wall), metrics.pushed),
        timeout_seconds=config.pushes.timeout,
        collapse_after=config.pushes.collapse_after,
    )


async def _serve_metrics(
    parts: Parts, listen: HostPort | None, clock: Clock, tasks: TaskSet, opened: contextlib.AsyncExitStack
) -> int | None:
    """Serve the metrics until the stack closes; return the port."""
    if listen is None:
        return None
    if not is_loopback(listen.host):
        _log.warning("metrics_listen_off_loopback", hint="let nobody but Prometheus reach it")
    server = Server(build_metrics(parts.metrics, parts.database), listen, clock)
    serving = tasks.spawn(server.serve(), name="metrics")
    port = await _listening("metrics.listen", server, serving, listen)
    opened.push_async_callback(_end, server, serving)
    return port


async def _end(server: Server, serving: "asyncio.Task[None]") -> None:
    """Take nothing new, and answer what was asked."""
    server.should_exit = True
    await serving


async def _listening(setting: str, server: Server, serving: "asyncio.Task[None]", listen: HostPort) -> int:
    async with asyncio.TaskGroup() as group:
        listening = group.create_task(server.wait_listening(), name="until listening")
        await asyncio.wait((listening, serving), return_when=asyncio.FIRST_COMPLETED)
        if not listening.done():
            listening.cancel()
    if serving.done():
        error = serving.exception()
        if isinstance(error, ListenError):
            message = f"{setting}: {listen} cannot be listened on: {error}"
            raise StartError(message, _ELSEWHERE[setting])
        raise error or RuntimeError("the server ended before it began")
    return listening.result()


_ELSEWHERE: Final = {
    "api.listen": "stop what uses it, or choose another with --listen",
    "metrics.listen": "stop what uses it, or choose another",
}


def _kind(config: ControlPlaneConfig) -> str:
    return config.database.partition(":")[0]


def _task_failed(name: str, error: BaseException) -> None:
    _log.error("task_failed", task=name, exc_info=error)
