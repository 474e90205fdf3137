"""Upstream links: dialled to a checked address, TLS verified, pooled by everything that matters (C12)."""

import asyncio
import ssl
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol, cast

from gateway.core.pool_state import Kept, PoolState, Room
from gateway.core.route_table import PoolKey, RouteUpstream
from sallyport.net.bulk_turns import BULK, TIMED_BYTES, BulkTurns
from sallyport.net.clock import NEVER, Clock
from sallyport.net.dial import Dialer
from sallyport.net.dial_error import DialError, DialFault
from sallyport.net.tls import TlsTransport, unread_bytes
from sallyport.problem import Code

# TLS sessions kept for resumption, one a pool key: a resumed handshake costs a third of a full one.
MAX_TLS_SESSIONS: Final = 4096
# A session holds all certificates that its peer has sent, in several times their room, and a peer may send 100 KiB of
# them. An honest chain has 3 to 8 KiB.
MAX_SESSION_CHAIN_BYTES: Final = 16 * 1024
# A link that is closed in good order keeps its place until that is over. TLS gives its peer a second for it; one that
# takes nothing would take for ever.
CLOSE_SECONDS: Final = 2.0


class UpstreamError(Exception):
    """No link could be had. detail is for the log; the sandbox sees the code."""

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class LinkUser(Protocol):
    """What an exchange is to the link it uses."""

    def answer_received(self, data: bytes) -> None:
        """Bytes of the answer."""

    def link_ended(self, error: Exception | None) -> None:
        """The link is gone; error is None where the upstream ended it in good order."""

    def link_timed_out(self) -> None:
        """The link's deadline has passed."""

    def hold_late(self, size: int) -> None:
        """So many bytes of the answer wait for a turn of the loop."""

    def release_late(self) -> None:
        """They wait no more."""

    def hold_request(self) -> None:
        """The link takes no more bytes for now."""

    def resume_request(self) -> None:
        """The link takes bytes again."""


class UpstreamLink(asyncio.Protocol):
    """One socket to an upstream. user is the exchange that has it, or None while it is idle."""

    __slots__ = (
        "_holds",
        "_pool",
        "address",
        "clean_end",
        "deadline_at",
        "filed_at",
        "holder",
        "is_lost",
        "key",
        "transport",
        "used",
        "user",
    )

    def __init__(self, pool: "UpstreamPool", key: PoolKey) -> None:
        self._pool = pool
        self.key = key
        self.holder = ""
        self.transport: asyncio.Transport
        self.user: LinkUser | None = None
        self.address = ""
        self._holds: set[str] = set()
        self.used = 0
        self.clean_end = False
        self.is_lost = False
        self.deadline_at = self.filed_at = NEVER

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; no exchange has the link yet."""
        # uvloop's transports do not inherit from asyncio.Transport.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Pass the bytes to the exchange; bytes nobody asked for spoil the link (S11)."""
        user = self.user
        if user is None:
            self.transport.abort()
            return
        if len(data) < TIMED_BYTES:
            user.answer_received(data)
        else:
            self._pool.turns.take(self, data, self._take)

    def _take(self, data: bytes) -> None:
        user = self.user
        if user is None:
            self.transport.abort()
        else:
            user.answer_received(data)

    @property
    def turn_owner(self) -> object:
        """The sandbox that has the link."""
        return self.holder

    def await_turn(self, late: int) -> bool:
        """Read nothing until go_on(); a link that was given back, or on, is none of its exchange's any more."""
        if self.user is None or self.is_lost or self.transport.is_closing():
            return False
        self.hold_reading(BULK)
        if late:
            self.user.hold_late(late)
        return True

    def go_on(self, late: bytes) -> None:
        """Take what is late, and read on."""
        if late and not self.is_lost:
            if self.user is not None:
                self.user.release_late()
            self._take(late)
        if not self.is_lost:  # with a 101 the transport is another protocol's, which may hold it by now
            self.resume_reading(BULK)

    def eof_received(self) -> bool:
        """Note that the upstream ended its side in good order; the link closes."""
        self.clean_end = True
        if self.user is None or self.transport.get_write_buffer_size():
            self.close()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Leave the pool and tell the exchange."""
        self.deadline_at = NEVER
        self._pool.turns.leave(self)
        self.leave_pool()
        user, self.user = self.user, None
        if user is not None:
            user.link_ended(None if self.clean_end else error or ConnectionAbortedError())

    def hold_reading(self, reason: str) -> None:
        """Read nothing until every reason is gone."""
        if not self._holds:
            self.transport.pause_reading()
        self._holds.add(reason)

    def resume_reading(self, reason: str) -> None:
        """Drop one reason."""
        holds = self._holds
        if reason in holds:
            holds.discard(reason)
            if not holds and not self.transport.is_closing():
                self.transport.resume_reading()

    @property
    def is_reading_held(self) -> bool:
        """Whether bytes of the upstream are kept waiting."""
        return bool(self._holds)

    @property
    def unread_bytes(self) -> int:
        """What was read of it and waits for its user to read on."""
        return unread_bytes(self.transport)

    def read_on(self) -> None:
        """Drop every reason."""
        self._holds.clear()
        if not self.transport.is_closing():
            self.transport.resume_reading()

    @property
    def is_fit(self) -> bool:
        """Whether it may carry another request: it is open, and its upstream has taken all of those before."""
        return not (self.transport.is_closing() or self.transport.get_write_buffer_size())

    def pause_writing(self) -> None:
        """Backpressure toward the sandbox. Where there is none it is a peer that has TLS write, and reads nothing."""
        if self.user is None:
            self.transport.abort()
        else:
            self.user.hold_request()

    def resume_writing(self) -> None:
        """The upstream reads again."""
        if self.user is not None:
            self.user.resume_request()

    def expire(self) -> None:
        """Close a link that was idle or closing for too long, or tell the exchange that waits on it."""
        if self.user is None:
            self.close()
        else:
            self.user.link_timed_out()

    def due_in(self, seconds: float) -> None:
        """Set the deadline, as Clock.watch() does: an attribute of a known class is cheap where it is compiled."""
        clock = self._pool.clock
        self.deadline_at = at = clock.now + seconds
        if at < self.filed_at:
            clock.file(self, at)

    def close(self) -> None:
        """Close in good order where all was sent; else at once, as also where that takes too long."""
        if self.is_fit:
            self.transport.close()
            self.due_in(CLOSE_SECONDS)
        else:
            self.transport.abort()  # one that closes waits without end until its peer takes what is unsent

    def drop(self) -> None:
        """Close a link that no exchange may use again."""
        self.user = None
        self.transport.abort()

    def give_up(self) -> None:
        """Close a link that no exchange has, its place free for another at once."""
        self.leave_pool()
        self.transport.abort()

    def leave_pool(self) -> None:
        """Leave the pool's books, once: the link is gone, or its transport belongs to another protocol."""
        if not self.is_lost:
            self.is_lost = True
            self._pool.lost(self)

    def __repr__(self) -> str:
        state = "lost" if self.is_lost else "idle" if self.user is None else "in use"
        return f"<UpstreamLink {self.key.scheme}://{self.key.host}:{self.key.port} {state}, used {self.used} times>"


class UpstreamPool:
    """All upstream links of a gateway."""

    def __init__(
        self,
        *,
        clock: Clock,
        dialer: Dialer,
        context: ssl.SSLContext,
        links_per_key: int,
        idle_per_key: int,
        links_per_owner: int,
        write_buffer_bytes: int,
        handshake_timeout: float,
        queue_timeout: float,
        idle_timeout: float,
        observe_connect: Callable[[float], None],
    ) -> None:
        self.clock = clock
        self._dialer = dialer
        self._context = context
        self._write_buffer_bytes = write_buffer_bytes
        self._handshake_timeout = handshake_timeout
        self._queue_timeout = queue_timeout
        self._idle_timeout = idle_timeout
        self._observe_connect = observe_connect
        self.turns = BulkTurns(lambda call: asyncio.get_running_loop().call_soon(call))
        self._sessions: OrderedDict[PoolKey, ssl.SSLSession] = OrderedDict()
        # Whoever waits gets a link that was given back, or the one that it is to dial.
        self.state: PoolState[PoolKey, UpstreamLink, asyncio.Future[UpstreamLink]] = PoolState(
            links_per_key=links_per_key,
            idle_per_key=idle_per_key,
            links_per_owner=links_per_owner,
            owner_of=_owner_of,
            is_shared=_is_shared,
        )

    def checkout(self, key: PoolKey, sandbox_id: str) -> UpstreamLink | None:
        """Take an idle link. Synchronous: the common case of a request."""
        link = self.state.take(key, sandbox_id)
        while link is not None and not link.is_fit:
            link.give_up()
            link = self.state.take(key, sandbox_id)
        return link

    def release(self, link: UpstreamLink) -> None:
        """Give back a link whose exchange is over and which may carry another."""
        link.user = None
        kept = self.state.give_back(link.key, link)
        while not isinstance(kept, Kept):
            if not kept.done():
                kept.set_result(link)
                return
            # Cancelled and not yet out of the queue, and so may be a thousand behind it.
            kept = self.state.give_back(link.key, link)
        if kept is Kept.IDLE:
            link.due_in(self._idle_timeout)
        else:
            link.close()

    async def open(self, upstream: RouteUpstream, sandbox_id: str) -> UpstreamLink:
        """Dial a fresh link for a sandbox, or wait for one where it has all it may have; raises UpstreamError."""
        key = upstream.pool_key
        link = UpstreamLink(self, key)
        while (room := self.state.reserve(key, sandbox_id, link)) is not Room.TAKEN:
            if room is Room.NONE:
                raise UpstreamError(Code.OVERLOADED, f"{'/'.join(key.owner)} has as many links as it may")
            if room is Room.AFTER_SPARE:
                self._make_room(key)
                continue
            had = await self._wait(sandbox_id, link)
            if had is link:
                break
            if had.is_fit:
                return had
            had.give_up()
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        try:
            await self._connect(link, upstream, sandbox_id)
        except BaseException:
            link.leave_pool()
            raise
        self._observe_connect(loop.time() - started_at)
        return link

    def lost(self, link: UpstreamLink) -> None:
        """Take a link that is gone, or could not be dialled, out of the books."""
        served = self.state.lose(link.key, link)
        while served is not None:
            waiter, dialled = served
            if not waiter.done():
                waiter.set_result(dialled)
                return
            # Cancelled and not yet out of the queue: it would keep the place for ever.
            served = self.state.lose(link.key, dialled)

    def close_idle(self, chosen: Callable[[PoolKey], bool]) -> int:
        """Close idle links by key (revocation, shutdown); returns how many."""
        links = self.state.idle_links(chosen)
        for link in links:
            link.transport.abort()
        return len(links)

    def forget_sessions(self) -> None:
        """Offer no TLS session that is kept: each also holds a ticket, as long as its peer likes up to 64 KiB."""
        self._sessions.clear()

    def _make_room(self, key: PoolKey) -> None:
        """Close an idle link, so that another may be dialled."""
        spare = self.state.spare(key)
        assert spare is not None, "reserve() has looked"
        spare.give_up()

    async def _wait(self, sandbox_id: str, link: UpstreamLink) -> UpstreamLink:
        """Wait for a link of the same key, or for the place of this one."""
        waiter: asyncio.Future[UpstreamLink] = asyncio.get_running_loop().create_future()
        key = link.key
        self.state.wait(key, sandbox_id, waiter, link)
        try:
            async with asyncio.timeout(self._queue_timeout):
                return await waiter
        except BaseException as error:
            self.state.abandon(key, sandbox_id, waiter)
            if waiter.done() and not waiter.cancelled():
                self._pass_on(waiter.result(), link)
            if isinstance(error, TimeoutError):
                raise UpstreamError(Code.OVERLOADED, f"all links to {key.host}:{key.port} stayed busy") from None
            raise

    def _pass_on(self, had: UpstreamLink, link: UpstreamLink) -> None:
        """A waiter that gave up was served in the same turn of the loop."""
        if had is link:
            link.leave_pool()
        elif not had.is_lost:
            self.release(had)

    async def _connect(self, link: UpstreamLink, upstream: RouteUpstream, sandbox_id: str) -> None:
        destination = upstream.destination
        try:
            transport, _ = await self._dialer.dial(destination.host, destination.port, asyncio.Protocol, sandbox_id)
        except DialError as error:
            raise UpstreamError(DIAL_CODES[error.kind], error.detail) from None
        peer = transport.get_extra_info("peername")
        link.address = f"{peer[0]}:{peer[1]}" if peer else ""
        if destination.scheme == "https":
            await self._handshake(link, transport, destination.host)
        else:
            transport.set_protocol(link)
            link.connection_made(transport)
        if link.transport.is_closing():  # its end was told while no exchange had it
            raise UpstreamError(Code.UPSTREAM_UNREACHABLE, f"{destination.host} closed the link at once")
        link.transport.set_write_buffer_limits(high=self._write_buffer_bytes)

    async def _handshake(self, link: UpstreamLink, lower: asyncio.Transport, host: str) -> None:
        done: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        session = self._sessions.pop(link.key, None)
        tls = TlsTransport(
            lower,
            link,
            self._context,
            server_side=False,
            server_hostname=host,
            session=session,
            on_handshake=lambda error: None if done.done() else done.set_result(error),
            turns=self.turns,
        )
        try:
            tls.start()
            async with asyncio.timeout(self._handshake_timeout):
                error = await done
        except TimeoutError:
            lower.abort()
            raise UpstreamError(Code.UPSTREAM_TIMEOUT, f"TLS handshake with {host} took too long") from None
        except BaseException:
            lower.abort()
            raise
        if error is not None:
            lower.abort()
            raise UpstreamError(Code.UPSTREAM_UNREACHABLE, f"TLS with {host} failed: {error}") from None

    def remember_session(self, link: UpstreamLink) -> None:
        """Keep a link's TLS session for the next dial of its key (TLS 1.3 tickets arrive with the first answer)."""
        tls = link.transport
        if not isinstance(tls, TlsTransport) or tls.peer_chain_bytes > MAX_SESSION_CHAIN_BYTES:
            return
        if tls.ssl_session is not None:
            self._sessions[link.key] = tls.ssl_session
            self._sessions.move_to_end(link.key)
            if len(self._sessions) > MAX_TLS_SESSIONS:
                self._sessions.popitem(last=False)


def _owner_of(key: PoolKey) -> tuple[str, tuple[str, ...]]:
    return key.organization_id, key.owner


def _is_shared(key: PoolKey) -> bool:
    return key.owner[0] == "connections"


DIAL_CODES: Final = {
    DialFault.ADDRESS_REFUSED: Code.ADDRESS_REFUSED,
    DialFault.UNRESOLVED: Code.UPSTREAM_UNREACHABLE,
    DialFault.UNREACHABLE: Code.UPSTREAM_UNREACHABLE,
    DialFault.TIMEOUT: Code.UPSTREAM_TIMEOUT,
    DialFault.PROXY_REFUSED: Code.UPSTREAM_UNREACHABLE,
    DialFault.OVERLOADED: Code.OVERLOADED,
}
