"""A gateway that runs: it drains, ends, and takes out of service what is revoked."""

import asyncio
import contextlib
from typing import Final

import structlog

from gateway.core.route_table import RouteTable
from gateway.open_streams import OpenStream
from gateway.parts import GatewayParts
from gateway.tunnel_host import TunnelHost
from sallyport.net.transports import Listener

_log = structlog.get_logger(__name__)

# While draining, a keep-alive stream may still send the request that was on its way; then it is closed.
DRAIN_GRACE_SECONDS: Final = 0.5
DRAIN_POLL_SECONDS: Final = 0.02


class Gateway:
    """A running gateway. Made by start_gateway(); ended by drain() or close()."""

    def __init__(
        self,
        parts: GatewayParts,
        proxy: Listener,
        tunnel: Listener | None,
        admin_port: int,
        opened: contextlib.AsyncExitStack,
    ) -> None:
        self.parts = parts
        self.proxy = proxy
        self.tunnel = tunnel
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
            await self._stop_accepting()
            await self._let_finish(started_at + parts.timeouts.drain)
            left = [stream for stream in parts.streams.all() if not isinstance(stream, TunnelHost)]
            cut = len(left)
            for stream in left:
                stream.abort()
            parts.tunnels.close_all()
            _log.info("drained", cut_streams=cut, seconds=round(parts.loop.time() - started_at, 3))
        finally:
            # A process that was asked to end does so, whatever went wrong here.
            self._ended.set()

    async def start_accepting(self) -> None:
        """Accept from now on."""
        await self.proxy.start()
        if self.tunnel is not None:
            await self.tunnel.start()

    async def _stop_accepting(self) -> None:
        await self.proxy.close()
        if self.tunnel is not None:
            await self.tunnel.close()

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
        await self._stop_accepting()
        for stream in parts.streams.all():
            stream.abort()
        parts.upstreams.close_idle(lambda _: True)
        await self._opened.aclose()

    def revoke(self, kind: str, revoked_id: str, until: float, organization_id: str | None = None) -> int:
        """Take a token, session, sandbox, connection or binding out of service; return how many open streams ended.

        A connection or binding of one organization, where it is named; else all that bear the id.
        """
        parts = self.parts
        sandboxes: set[str] = set()
        connections: set[str] = set()
        if kind in ("connection", "binding"):
            parts.credentials.revoke(kind, revoked_id, until, organization_id)
            connections = self._connections(kind, revoked_id, organization_id)
        else:
            parts.revocations.revoke(kind, revoked_id, until)
            sandboxes = {revoked_id} if kind == "sandbox" else set()
        wall = parts.clock.wall
        ended = 0
        for stream in parts.streams.all():
            claims = stream.claims
            if claims is not None and parts.revocations.cover(claims, wall):
                sandboxes.add(claims.sandbox_id)
            elif not stream.carries(kind, revoked_id, organization_id):
                continue
            stream.revoke()
            ended += 1
        parts.upstreams.close_idle(
            lambda key: (
                not (sandboxes if key.owner[0] == "sandbox" else connections).isdisjoint(key.owner[1:])
                and organization_id in (None, key.organization_id)
            )
        )
        return ended

    def plan_replaced(self, sandbox_id: str, before: RouteTable | None, after: RouteTable | None) -> None:
        """End what another plan, or the removal of one, leaves without authority; everything else finishes (T2)."""
        parts = self.parts
        ended = 0
        # Tunnels last: what a stream in one is answered goes out before it.
        for stream in sorted(parts.streams.of_sandbox(sandbox_id), key=lambda stream: not stream.is_of_sandbox):
            claims = stream.claims
            if after is not None and claims is not None and claims.organization_id != after.organization_id:
                stream.turn_away()
                ended += 1
            elif not stream.goes_on_under(after):
                stream.revoke()
                ended += 1
        if ended:
            _log.warning("plan_ended_streams", sandbox_id=sandbox_id, streams_ended=ended)
        owners = set() if before is None else _owners_without_plan(before, after)
        if before is not None and owners:
            organization_id = before.organization_id
            parts.upstreams.close_idle(lambda key: key.organization_id == organization_id and key.owner in owners)

    def _connections(self, kind: str, revoked_id: str, organization_id: str | None) -> set[str]:
        """Whose idle links go with a connection, or with a binding (gateway.core.route_table.PoolKey.owner)."""
        if kind == "connection":
            return {revoked_id}
        tables = (each for each in self.parts.plans.tables() if organization_id in (None, each.organization_id))
        routes = (route for table in tables for route in table.routes.values() if route.binding_id == revoked_id)
        return {connection_id for route in routes for connection_id in route.connection_ids}

    def __repr__(self) -> str:
        return f"<Gateway proxy {self.proxy.host}:{self.proxy.port}, {self.parts.streams.open} streams>"


def _owners_without_plan(before: RouteTable, after: RouteTable | None) -> set[tuple[str, ...]]:
    """Whose idle links go with a plan (PoolKey.owner): those of bindings it has no longer, the sandbox's with it."""
    if after is None or after.organization_id != before.organization_id:
        return {before.link_owner, *(route.link_owner for route in before.routes.values())}
    return {route.link_owner for route in before.routes.values() if route.binding_id not in after.binding_ids}
