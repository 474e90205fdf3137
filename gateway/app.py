"""Put a gateway together, run it, drain it. The one place that knows all parts."""

import asyncio
import contextlib
import random
import secrets
import signal
import ssl
from collections.abc import Iterator
from typing import Final

import structlog
import uvloop

from gateway.admin import AdminListenError, AdminParts, build_admin, start_admin
from gateway.audit import AuditError, AuditLog
from gateway.config import GatewayConfig, process_environment
from gateway.credentials import Credentials, LocalCredentials
from gateway.metrics import Metrics
from gateway.parts import GatewayParts, OpenStream
from gateway.plan_holder import PlanFilesError, PlanHolder
from gateway.process import configure_log, harden_process, raise_descriptor_limit, settle_memory
from gateway.proxy_listener import ProxyDoorman
from gateway.tokens import KeySet, KeySetError, TokenVerifier
from gateway.upstream import UpstreamPool
from sallyport.address_policy import AddressPolicy
from sallyport.claims import AUDIENCE_PROXY
from sallyport.destination import Destination
from sallyport.net.clock import Clock
from sallyport.net.dial import Dialer, Resolver
from sallyport.net.interception import CaStore, InterceptionContexts
from sallyport.net.tasks import TaskSet
from sallyport.net.tls import client_context
from sallyport.net.transports import Listener, ListenError, listen, own_addresses

_log = structlog.get_logger(__name__)

# While draining, a keep-alive stream may still send the request that was on its way; then it is closed.
DRAIN_GRACE_SECONDS: Final = 0.5
DRAIN_POLL_SECONDS: Final = 0.02

_CHECK_PATH: Final = "check the path and its permissions"


class StartError(Exception):
    """A gateway cannot start; says why and what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message}; {hint}")
        self.message = message
        self.hint = hint


class Gateway:
    """A running gateway. Made by start_gateway(); ended by drain() or close()."""

    def __init__(
        self, parts: GatewayParts, proxy: Listener, admin_port: int, opened: contextlib.AsyncExitStack
    ) -> None:
        self.parts = parts
        self.proxy = proxy
        self.admin_port = admin_port
        self._opened = opened
        self._ended = asyncio.Event()
        self._draining: asyncio.Task[None] | None = None

    def begin_drain(self) -> None:
        """Begin to drain, once."""
        if self._draining is None:
            self._draining = self.parts.tasks.spawn(self._drain(), name="drain")

    async def wait_ended(self) -> None:
        """Wait until a drain is over."""
        await self._ended.wait()

    async def _drain(self) -> None:
        """Accept no more, let open exchanges finish, end what is left at the deadline."""
        parts = self.parts
        parts.is_draining = True
        _log.info("draining", open_streams=parts.streams.open, seconds=parts.timeouts.drain)
        started_at = parts.loop.time()
        try:
            await self.proxy.close()
            await self._let_finish(started_at + parts.timeouts.drain)
            cut = 0
            for stream in parts.streams.all():
                cut += 1
                stream.abort()
            _log.info("drained", cut_streams=cut, seconds=round(parts.loop.time() - started_at, 3))
        finally:
            # A process that was asked to end does so, whatever went wrong here.
            self._ended.set()

    async def _let_finish(self, deadline: float) -> None:
        parts = self.parts
        grace_ends: dict[OpenStream, float] = {}
        while parts.streams.open and (now := parts.loop.time()) < deadline:
            for stream in parts.streams.all():
                # By stream: one that comes out of a handshake now has its moment too.
                grace_ends_at = grace_ends.setdefault(stream, now + DRAIN_GRACE_SECONDS)
                if stream.drain() and now >= grace_ends_at:
                    stream.close()
            await asyncio.sleep(DRAIN_POLL_SECONDS)

    async def close(self) -> None:
        """End everything now. After a drain there is nothing left to lose."""
        parts = self.parts
        parts.is_draining = True
        await self.proxy.close()
        for stream in parts.streams.all():
            stream.abort()
        parts.upstreams.close_idle(lambda _: True)
        await self._opened.aclose()

    def revoke(self, kind: str, revoked_id: str, until: float) -> int:
        """Take a token, session, sandbox, connection or binding out of service; return how many open streams ended."""
        parts = self.parts
        if kind in ("connection", "binding"):
            parts.credentials.revoke(kind, revoked_id, until)
        else:
            parts.tokens.revoke(kind, revoked_id, until)
        wall = parts.clock.wall
        owners = self._link_owners(kind, revoked_id)
        ended = 0
        for stream in parts.streams.all():
            claims = stream.claims
            if claims is not None and parts.tokens.is_revoked(claims, wall):
                owners.add(claims.sandbox_id)
            elif not stream.carries(kind, revoked_id):
                continue
            stream.abort()
            ended += 1
        parts.upstreams.close_idle(lambda key: not owners.isdisjoint(key.owner[1:]))
        return ended

    def _link_owners(self, kind: str, revoked_id: str) -> set[str]:
        """Whose idle links go with a revocation (gateway.core.route_table.PoolKey.owner)."""
        if kind != "binding":
            return {revoked_id}
        routes = (route for table in self.parts.plans.tables() for route in table.routes.values())
        return {owner for route in routes if route.binding_id == revoked_id for owner in route.connection_ids}

    def __repr__(self) -> str:
        return f"<Gateway proxy {self.proxy.host}:{self.proxy.port}, {self.parts.streams.open} streams>"


async def start_gateway(config: GatewayConfig) -> Gateway:
    """Start a gateway on the running loop; raises StartError."""
    with _start_errors():
        async with contextlib.AsyncExitStack() as opened:
            return await _start(config, opened)


def run_gateway(config: GatewayConfig) -> int:
    """Run a gateway until SIGTERM or SIGINT has drained it; raises StartError. Returns the exit status."""
    configure_log(config.log)
    harden_process()
    raise_descriptor_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(config))


async def _run(config: GatewayConfig) -> int:
    gateway = await start_gateway(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, gateway.begin_drain)
    loop.add_signal_handler(signal.SIGHUP, gateway.parts.audit.reopen)
    settle_memory()
    _log.info(
        "ready",
        proxy=f"{gateway.proxy.host}:{gateway.proxy.port}",
        admin=f"{config.listen.admin.host}:{gateway.admin_port}",
        plans=len(config.plans),
    )
    await gateway.wait_ended()
    await gateway.close()
    return 0


async def _start(config: GatewayConfig, opened: contextlib.AsyncExitStack) -> Gateway:
    """Put the parts together; what was opened is on the stack, to be closed in the opposite order."""
    loop = asyncio.get_running_loop()
    metrics = Metrics()
    tokens = _token_verifier(config)
    plans = PlanHolder(max_sandboxes=config.limits.sandboxes, max_plan_bytes=config.limits.plan_bytes)
    for _ in plans.load_files(config.plans):
        metrics.plan_applied("applied")
    context = _upstream_context(config)
    audit = AuditLog(config.audit.path, config.limits.audit_records)
    audit.start()
    opened.callback(audit.close)
    clock = Clock(loop)
    opened.callback(clock.close)
    tasks = TaskSet(_task_failed)
    opened.push_async_callback(tasks.close)
    local = LocalCredentials(config.credentials, process_environment())
    for problem in local.problems():
        _log.warning("credential_not_readable", detail=problem)
    credentials = Credentials(
        local,
        tasks,
        max_entries=config.limits.credential_cache_entries,
        timeout_seconds=config.timeouts.credential,
        now=lambda: clock.wall,
        random=random.random,
        count=metrics.credential_resolved,
    )
    doorman: ProxyDoorman | None = None

    def accept() -> asyncio.Protocol:
        assert doorman is not None, "the listener starts after its doorman was made"
        return doorman.accept()

    proxy = await listen(config.listen.proxy.host, config.listen.proxy.port, accept)
    opened.push_async_callback(proxy.close)
    gateway: Gateway | None = None

    def of_gateway() -> Gateway:
        assert gateway is not None, "the admin surface is asked after start"
        return gateway

    admin = build_admin(
        AdminParts(
            plans=plans,
            metrics=metrics,
            not_ready=lambda: _not_ready(gateway),
            invalidate=credentials.invalidate,
            revoke=lambda kind, revoked_id, until: of_gateway().revoke(kind, revoked_id, until),
            drain=lambda: of_gateway().begin_drain(),
            drain_seconds=config.timeouts.drain,
            max_plan_bytes=config.limits.plan_bytes,
        )
    )
    runner = await start_admin(admin, config.listen.admin.host, config.listen.admin.port)
    opened.push_async_callback(runner.cleanup)
    admin_addresses = [(str(name[0]), int(name[1])) for name in runner.addresses]
    listening = (*proxy.addresses, *admin_addresses)
    own = frozenset((address, port) for host, port in listening for address in own_addresses(host))
    dialer = _dialer(config, own, opened)
    upstreams = _upstream_pool(config, clock, dialer, context, metrics)
    authorities = CaStore(config.interception.ca_dir)
    parts = GatewayParts(
        loop=loop,
        clock=clock,
        timeouts=config.timeouts,
        limits=config.limits,
        passthrough_hosts=config.interception.passthrough_hosts,
        scrub=config.scrub.enabled,
        tokens=tokens,
        plans=plans,
        credentials=credentials,
        upstreams=upstreams,
        dialer=dialer,
        authorities=authorities,
        interception=InterceptionContexts(authorities, max_contexts=config.limits.leaf_contexts),
        audit=audit,
        metrics=metrics,
        tasks=tasks,
        request_prefix=f"req_{secrets.token_hex(4)}_",
    )
    _watch_sizes(parts)
    doorman = ProxyDoorman(parts)
    gateway = Gateway(parts, proxy, admin_addresses[0][1], opened.pop_all())
    await proxy.start()
    return gateway


def _dialer(config: GatewayConfig, own: frozenset[tuple[str, int]], opened: contextlib.AsyncExitStack) -> Dialer:
    resolver = Resolver(max_names=config.limits.resolver_cache_entries)
    opened.callback(resolver.close)
    return Dialer(
        AddressPolicy(allow=config.network.allow, own=own),
        resolver,
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
    metrics.watch("plans_active", parts.plans.__len__)
    metrics.watch("audit_dropped", lambda: parts.audit.dropped)
    metrics.watch("active_streams", lambda: parts.streams.open)
    metrics.watch("upstream_links_open", lambda: parts.upstreams.state.open)
    metrics.watch("upstream_links_idle", lambda: parts.upstreams.state.idle)


def _token_verifier(config: GatewayConfig) -> TokenVerifier:
    setting, path = (
        ("tokens.public_key", config.tokens.public_key)
        if config.tokens.public_key is not None
        else ("tokens.jwks", config.tokens.jwks)
    )
    assert path is not None, "the settings demand one of the two"
    try:
        content = path.read_bytes()
        keys = KeySet.from_jwks(content) if setting == "tokens.jwks" else KeySet.from_public_key_pem(content)
    except OSError as error:
        raise StartError(f"{setting}: {path} cannot be read ({error.strerror})", _CHECK_PATH) from None
    except KeySetError as error:
        raise StartError(f"{setting}: {path}: {error}", "correct the file and start again") from None
    return TokenVerifier(
        keys,
        issuer=config.tokens.issuer,
        audience=AUDIENCE_PROXY,
        cache_entries=config.limits.token_cache_entries,
    )


def _upstream_context(config: GatewayConfig) -> ssl.SSLContext:
    path = config.upstream.ca_file
    try:
        return client_context(None if path is None else str(path))
    except ssl.SSLError:
        raise StartError(f"upstream.ca_file: {path} holds no certificate", "name a bundle of roots in PEM") from None
    except OSError as error:
        # OpenSSL names no file in its error.
        raise StartError(f"upstream.ca_file: {path} cannot be read ({error.strerror})", _CHECK_PATH) from None


def _not_ready(gateway: Gateway | None) -> list[str]:
    if gateway is None:
        return ["starting"]
    return ["draining"] if gateway.parts.is_draining else []


def _task_failed(name: str, error: BaseException) -> None:
    _log.error("task_failed", task=name, exc_info=error)


@contextlib.contextmanager
def _start_errors() -> Iterator[None]:
    """Turn what can go wrong at start into words an operator can act on."""
    try:
        yield
    except ListenError as error:
        raise StartError(error.message, error.hint) from None
    except (AuditError, AdminListenError) as error:
        message, _, hint = str(error).partition("; ")
        raise StartError(message, hint) from None
    except PlanFilesError as error:
        raise StartError(str(error), "correct the file and start again") from None
    except OSError as error:
        raise StartError(f"{error.filename or 'a file'}: {error.strerror or error}", _CHECK_PATH) from None
