"""Put a gateway together, run it, drain it. The one place that knows all parts."""

import asyncio
import contextlib
import random
import secrets
import signal
import ssl
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final

import structlog
import uvloop

from gateway.admin import AdminListenError, AdminParts, build_admin, start_admin
from gateway.audit import AuditError, AuditLog
from gateway.config import GatewayConfig, process_environment
from gateway.credentials import Credentials, LocalCredentials
from gateway.metrics import Metrics
from gateway.parts import GatewayParts
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
from sallyport.net.transports import ListenError, Listener, listen, own_addresses

_log = structlog.get_logger(__name__)

# While draining, a keep-alive stream may still send the request that was on its way; then it is closed.
DRAIN_GRACE_SECONDS: Final = 0.5
DRAIN_POLL_SECONDS: Final = 0.02


class StartError(Exception):
    """A gateway cannot start; says why and what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message}; {hint}")
        self.message = message
        self.hint = hint


class Gateway:
    """A running gateway. Made by start_gateway(); ended by drain() or close()."""

    def __init__(
        self, parts: GatewayParts, proxy: Listener, admin_port: int, close_admin: Callable[[], Awaitable[None]]
    ) -> None:
        self.parts = parts
        self.proxy = proxy
        self.admin_port = admin_port
        self._close_admin = close_admin
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
        await self.proxy.close()
        started_at = parts.loop.time()
        deadline = started_at + parts.timeouts.drain
        grace = min(deadline, started_at + DRAIN_GRACE_SECONDS)
        while parts.streams.open and parts.loop.time() < deadline:
            for stream in parts.streams.all():
                if stream.drain() and parts.loop.time() >= grace:
                    stream.abort()
            await asyncio.sleep(DRAIN_POLL_SECONDS)
        cut = 0
        for stream in parts.streams.all():
            cut += 1
            stream.abort()
        _log.info("drained", cut_streams=cut, seconds=round(parts.loop.time() - started_at, 3))
        self._ended.set()

    async def close(self) -> None:
        """End everything now. After a drain there is nothing left to lose."""
        parts = self.parts
        parts.is_draining = True
        await self.proxy.close()
        for stream in parts.streams.all():
            stream.abort()
        parts.upstreams.close_idle(lambda _: True)
        await parts.tasks.close()
        await self._close_admin()
        parts.clock.close()
        parts.audit.close()

    def revoke(self, kind: str, revoked_id: str, until: float) -> int:
        """Take a token, session, sandbox, connection or binding out of service; return how many open streams ended."""
        parts = self.parts
        if kind in ("connection", "binding"):
            parts.credentials.revoke(kind, revoked_id, until)
            if kind == "connection":
                parts.upstreams.close_idle(lambda key: revoked_id in key.owner[1:])
        else:
            parts.tokens.revoke(kind, revoked_id, until)
        wall = parts.clock.wall
        ended = 0
        for stream in parts.streams.all():
            claims = stream.claims
            if (claims is not None and parts.tokens.is_revoked(claims, wall)) or stream.carries(kind, revoked_id):
                stream.abort()
                ended += 1
        return ended

    def __repr__(self) -> str:
        return f"<Gateway proxy {self.proxy.host}:{self.proxy.port}, {self.parts.streams.open} streams>"


async def start_gateway(config: GatewayConfig) -> Gateway:
    """Start a gateway on the running loop; raises StartError."""
    with _start_errors():
        return await _start(config)


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


async def _start(config: GatewayConfig) -> Gateway:
    loop = asyncio.get_running_loop()
    clock = Clock(loop)
    metrics = Metrics()
    tasks = TaskSet(_task_failed)
    audit = AuditLog(config.audit.path, config.limits.audit_records)
    tokens = _token_verifier(config)
    plans = PlanHolder(max_sandboxes=config.limits.sandboxes, max_plan_bytes=config.limits.plan_bytes)
    for _ in plans.load_files(config.plans):
        metrics.plan_applied("applied")
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
    context = client_context(None if config.upstream.ca_file is None else str(config.upstream.ca_file))
    doorman: ProxyDoorman | None = None

    def accept() -> asyncio.Protocol:
        assert doorman is not None, "the listener starts after its doorman was made"
        return doorman.accept()

    proxy = await listen(config.listen.proxy.host, config.listen.proxy.port, accept)
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
    admin_port = int(runner.addresses[0][1])
    own = {(address, proxy.port) for address in own_addresses(proxy.host)}
    own |= {(address, admin_port) for address in own_addresses(config.listen.admin.host)}
    resolver = Resolver(max_names=config.limits.resolver_cache_entries)
    dialer = Dialer(
        AddressPolicy(allow=config.network.allow, own=frozenset(own)),
        resolver,
        connect_to={str(here): (there.host, there.port) for here, there in config.upstream.connect_to.items()},
        proxy=None if config.upstream.proxy is None else Destination("http", *config.upstream.proxy),
        connect_timeout_seconds=config.timeouts.connect,
        resolve_timeout_seconds=config.timeouts.resolve,
        max_attempts=config.limits.dial_attempts,
    )
    upstreams = UpstreamPool(
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
    metrics.watch("credential_cache_entries", credentials.__len__)
    metrics.watch("plans_active", plans.__len__)
    metrics.watch("audit_dropped", lambda: audit.dropped)
    metrics.watch("active_streams", lambda: parts.streams.open)
    metrics.watch("upstream_links_open", lambda: upstreams.state.open)
    metrics.watch("upstream_links_idle", lambda: upstreams.state.idle)
    audit.start()
    doorman = ProxyDoorman(parts)
    gateway = Gateway(parts, proxy, admin_port, runner.cleanup)
    await proxy.start()
    return gateway


def _token_verifier(config: GatewayConfig) -> TokenVerifier:
    path = config.tokens.public_key or config.tokens.jwks
    assert path is not None, "the settings demand one of the two"
    content = Path(path).read_bytes()
    keys = KeySet.from_public_key_pem(content) if config.tokens.public_key else KeySet.from_jwks(content)
    return TokenVerifier(
        keys,
        issuer=config.tokens.issuer,
        audience=AUDIENCE_PROXY,
        cache_entries=config.limits.token_cache_entries,
    )


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
    except (KeySetError, PlanFilesError, AuditError, AdminListenError) as error:
        raise StartError(str(error), "correct the file and start again") from None
    except ssl.SSLError as error:
        raise StartError(f"upstream.ca_file cannot be used: {error.reason or error}", "name a PEM bundle") from None
    except OSError as error:
        raise StartError(
            f"{error.filename or 'a file'}: {error.strerror or error}", "check the path and its permissions"
        ) from None
