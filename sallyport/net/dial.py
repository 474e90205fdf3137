"""Open a TCP connection to a destination, and to nothing the address policy refuses.

A name is resolved once, every answer is checked, and the numeric address that was checked is the one connected to
(H8): no second lookup stands between the check and the connect. What stands here, in the order of a dial:
`Resolver` (names to addresses), `Dialer` (the checks and the attempts).
"""

import asyncio
import dataclasses
import enum
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from sallyport.address_policy import AddressPolicy, is_loopback_name, is_metadata_host
from sallyport.destination import Destination
from sallyport.host import HostError, normalize_host, split_authority
from sallyport.net.own_places import OwnPlaces
from sallyport.net.proxy_connect import ProtocolFactory, ProxyConnect, ProxyRefused

type Lookup = Callable[[str], tuple[str, ...]]
type Dialled = tuple[asyncio.Transport, asyncio.Protocol]
type Connect = Callable[[ProtocolFactory, str, int], Awaitable[Dialled]]

# A failed lookup is remembered only long enough to absorb a loop that retries without waiting.
_FAILURE_TTL_SECONDS = 1.0
# A dial waits so long to hear where a place of the gateway's own is now; then what was heard last holds.
_OWN_NAME_SECONDS = 1.0
_EVERY_NETWORK = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))


class DialFault(enum.Enum):
    """Why no connection came about. Only UNRESOLVED, UNREACHABLE and TIMEOUT can change by trying again."""

    ADDRESS_REFUSED = "address_refused"
    UNRESOLVED = "unresolved"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    PROXY_REFUSED = "proxy_refused"


class DialError(Exception):
    """A dial failed. `str()` is the kind alone; `detail` may name addresses and is for the log only."""

    def __init__(self, kind: DialFault, detail: str) -> None:
        super().__init__(kind.value)
        self.kind = kind
        self.detail = detail


# Names to addresses


def lookup_addresses(host: str) -> tuple[str, ...]:
    """Ask the system's resolver for every address of `host`, in its order; OSError when there is none. Blocks."""
    answers = socket.getaddrinfo(host.encode("ascii"), None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return tuple(dict.fromkeys(str(sockaddr[0]) for _, _, _, _, sockaddr in answers))


class Resolver:
    """Resolve names on threads of its own, one lookup per name at a time, answers kept for a few seconds.

    Its own threads, because the event loop's few are shared with everything else and one slow name server would
    stall all of it. Always: a name is in `_pending` exactly while its lookup is queued or running.
    """

    def __init__(
        self,
        lookup: Lookup = lookup_addresses,
        *,
        ttl_seconds: float = 5.0,
        max_names: int = 4096,
        max_concurrent: int = 16,
        max_pending: int = 1024,
        now: Callable[[], float] | None = None,
    ) -> None:
        self._lookup = lookup
        self._ttl_seconds = ttl_seconds
        self._max_names = max_names
        self._max_pending = max_pending
        self._now = now
        self._threads = ThreadPoolExecutor(max_concurrent, thread_name_prefix="resolve")
        self._pending: dict[str, asyncio.Future[tuple[str, ...] | DialError]] = {}
        # Oldest first, so that making room drops what expires soonest. A failure is kept as its DialError.
        self._known: dict[str, tuple[float, tuple[str, ...] | DialError]] = {}

    async def resolve(self, host: str, timeout_seconds: float) -> tuple[str, ...]:
        """Give every address of `host` as numeric text, at least one; DialError UNRESOLVED or TIMEOUT.

        A lookup outlives the callers that gave up on it, so that its answer serves the next one.
        """
        known = self._known.get(host)
        if known is not None and self._time() < known[0]:
            return _addresses_of(host, known[1])
        pending = self._pending.get(host)
        if pending is None:
            if len(self._pending) >= self._max_pending:
                raise DialError(DialFault.UNRESOLVED, f"{host}: {self._max_pending} lookups are waiting already")
            pending = self._start(host)
        try:
            async with asyncio.timeout(timeout_seconds):
                return _addresses_of(host, await asyncio.shield(pending))
        except TimeoutError:
            raise DialError(DialFault.TIMEOUT, f"{host}: no answer from the resolver in {timeout_seconds} s") from None

    def close(self) -> None:
        """Take no more lookups and fail those that have not started; does not wait for running ones."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _time(self) -> float:
        return self._now() if self._now is not None else asyncio.get_running_loop().time()

    def _start(self, host: str) -> asyncio.Future[tuple[str, ...] | DialError]:
        loop = asyncio.get_running_loop()
        try:
            lookup = asyncio.wrap_future(self._threads.submit(self._lookup, host), loop=loop)
        except RuntimeError as error:  # closed
            raise DialError(DialFault.UNRESOLVED, f"{host}: {error}") from None
        pending = self._pending[host] = loop.create_future()
        lookup.add_done_callback(lambda done: self._finish(host, done))
        return pending

    def _finish(self, host: str, lookup: asyncio.Future[tuple[str, ...]]) -> None:
        pending = self._pending.pop(host)
        error = None if lookup.cancelled() else lookup.exception()
        if lookup.cancelled():
            answer: tuple[str, ...] | DialError = DialError(DialFault.UNRESOLVED, f"{host}: the resolver was closed")
        elif error is not None:
            answer = DialError(DialFault.UNRESOLVED, f"{host}: {error}")
        else:
            answer = lookup.result()
        self._remember(host, answer)
        if not pending.done():
            pending.set_result(answer)

    def _remember(self, host: str, answer: tuple[str, ...] | DialError) -> None:
        ttl_seconds = _FAILURE_TTL_SECONDS if isinstance(answer, DialError) else self._ttl_seconds
        self._known.pop(host, None)
        while len(self._known) >= self._max_names:
            del self._known[next(iter(self._known))]
        self._known[host] = (self._time() + ttl_seconds, answer)

    def __repr__(self) -> str:
        return f"<Resolver: {len(self._known)} names known, {len(self._pending)} being looked up>"


def _addresses_of(host: str, answer: tuple[str, ...] | DialError) -> tuple[str, ...]:
    if isinstance(answer, DialError):
        raise DialError(answer.kind, answer.detail)  # a new one: the kept one must not collect tracebacks
    if not answer:
        raise DialError(DialFault.UNRESOLVED, f"{host}: the resolver gave no address")
    return answer


def interleave_families(addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Alternate the families (RFC 8305 section 4), the resolver's first family first, order kept within each."""
    first_is_v6 = ":" in addresses[0]
    first = [address for address in addresses if (":" in address) == first_is_v6]
    second = [address for address in addresses if (":" in address) != first_is_v6]
    ordered: list[str] = []
    for position in range(max(len(first), len(second))):
        ordered += first[position : position + 1]
        ordered += second[position : position + 1]
    return tuple(ordered)


# The checks and the attempts


async def connect_tcp(protocol_factory: ProtocolFactory, address: str, port: int) -> Dialled:
    """Connect to a numeric address; OSError when it cannot be reached. The loop sets TCP_NODELAY itself."""
    # AI_NUMERICHOST: were a name ever to come here, it would fail instead of being looked up behind the check.
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_connection(protocol_factory, address, port, flags=socket.AI_NUMERICHOST)
    return transport, protocol


async def connect_named(
    protocol_factory: ProtocolFactory, host: str, port: int, context: ssl.SSLContext | None
) -> Dialled:
    """Connect to a part that the operator named, by TLS where there is a context; OSError.

    No address policy: the operator may have it anywhere, and nobody else chose the name. The environment's proxies
    are not consulted (T3).
    """
    loop = asyncio.get_running_loop()
    server_name = host if context is not None else None
    transport, protocol = await loop.create_connection(
        protocol_factory, host, port, ssl=context, server_hostname=server_name
    )
    return transport, protocol


class Dialer:
    """Dial destinations under an address policy, directly or through the operator's upstream proxy.

    With an upstream proxy, names are resolved at the proxy, where this policy cannot see the answers: only literal
    addresses, the names of metadata services, of loopback and of `own` are still checked here. The proxy itself may
    stand in a private range, because the operator named it, but is never one of `own`. All ports go through it by
    CONNECT. The environment is never consulted for it (T3).

    `connect_to` maps "host:port" to (address or name, port), as curl's --connect-to does; the policy applies to its
    right side. `own` is refused whatever the policy allows. `connect` is the step after every check.
    """

    def __init__(
        self,
        policy: AddressPolicy,
        resolver: Resolver,
        *,
        own: OwnPlaces | None = None,
        connect_to: Mapping[str, tuple[str, int]] | None = None,
        proxy: Destination | None = None,
        connect_timeout_seconds: float = 10.0,
        resolve_timeout_seconds: float = 5.0,
        max_attempts: int = 4,
        connect: Connect = connect_tcp,
    ) -> None:
        if proxy is not None and proxy.scheme != "http":
            raise ValueError(f"an upstream proxy is reached by http://, not {proxy.scheme}://")
        self._policy = policy
        self._proxy_policy = dataclasses.replace(policy, allow=_EVERY_NETWORK)
        self._resolver = resolver
        self._own = own or OwnPlaces()
        self._connect_to = {split_authority(key, None): there for key, there in (connect_to or {}).items()}
        self._proxy = proxy
        self._connect_timeout_seconds = connect_timeout_seconds
        self._resolve_timeout_seconds = resolve_timeout_seconds
        self._max_attempts = max_attempts
        self._connect = connect

    async def dial(self, host: str, port: int, protocol_factory: ProtocolFactory) -> Dialled:
        """Connect a new protocol to host and port; its `connection_made` has been called on return.

        Raises DialError and nothing else. The factory is called once per attempt, so a protocol may be made, lose
        its connection and never be returned.
        """
        host = self._usable_name(host, port)
        host, port = self._connect_to.get((host, port), (host, port))
        host = self._usable_name(host, port)
        if self._proxy is not None:
            if _is_literal(host):
                await self._check_every((host,), port, self._policy)
            elif is_loopback_name(host):
                await self._check_every(("127.0.0.1",), port, self._policy)
            return await self._dial_through(self._proxy, host, port, protocol_factory)
        addresses = await self._checked_addresses(host, port, self._policy)
        return await self._attempt(addresses, port, self._connect, protocol_factory)

    def _usable_name(self, host: str, port: int) -> str:
        """Canonicalise once more, so that nothing ambiguous is dialled whatever the caller did; refuse by name."""
        try:
            host = normalize_host(host)
        except HostError as error:
            raise DialError(DialFault.ADDRESS_REFUSED, f"not a host: {error}") from None
        if is_metadata_host(host):
            raise DialError(DialFault.ADDRESS_REFUSED, f"{host}: the name of a metadata service")
        if self._own.hold(host, port):
            raise DialError(DialFault.ADDRESS_REFUSED, f"{_host_port(host, port)}: a place of the gateway's own")
        return host

    async def _checked_addresses(self, host: str, port: int, policy: AddressPolicy) -> tuple[str, ...]:
        if _is_literal(host):
            addresses: tuple[str, ...] = (host,)
        else:
            addresses = await self._resolver.resolve(host, self._resolve_timeout_seconds)
        await self._check_every(addresses, port, policy)
        return interleave_families(addresses)[: self._max_attempts]

    async def _check_every(self, addresses: tuple[str, ...], port: int, policy: AddressPolicy) -> None:
        """One refused answer refuses all: a name that answers public and private at once is not to be trusted (H8)."""
        for host in self._own.hosts_at(port):
            await self._learn_own(host)
        policy = dataclasses.replace(policy, own=policy.own | self._own.among(addresses, port))
        for address in addresses:
            try:
                refusal = policy.check(address, port)
            except ValueError as error:  # an answer with a zone id, say
                raise DialError(DialFault.ADDRESS_REFUSED, str(error)) from None
            if refusal is not None:
                raise DialError(DialFault.ADDRESS_REFUSED, f"{_host_port(address, port)}: {refusal.value}")

    async def _learn_own(self, host: str) -> None:
        """Look one of our own names up. While it leads nowhere, what it led to before is still ours."""
        try:
            addresses = (host,) if _is_literal(host) else await self._resolver.resolve(host, _OWN_NAME_SECONDS)
        except DialError as error:
            if not self._own.knows(host):
                # Nobody can say now which addresses must not be reached.
                raise DialError(DialFault.UNRESOLVED, f"a place of the gateway's own: {error.detail}") from None
            return
        self._own.learn(host, addresses)

    async def _attempt(
        self, addresses: tuple[str, ...], port: int, connect: Connect, protocol_factory: ProtocolFactory
    ) -> Dialled:
        """Try the addresses one after the other, each with an equal share of the time that is left."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._connect_timeout_seconds
        failure = DialError(DialFault.UNREACHABLE, "no address to try")
        for position, address in enumerate(addresses):
            share_seconds = max(0.0, deadline - loop.time()) / (len(addresses) - position)
            try:
                async with asyncio.timeout(share_seconds) as limit:
                    return await connect(protocol_factory, address, port)
            except TimeoutError as error:
                # The kernel's own ETIMEDOUT is a TimeoutError too, and then the limit has not expired.
                detail = f"no connection in {share_seconds:.1f} s" if limit.expired() else str(error)
                failure = DialError(DialFault.TIMEOUT, f"{_host_port(address, port)}: {detail}")
            except (OSError, ValueError) as error:
                failure = DialError(DialFault.UNREACHABLE, f"{_host_port(address, port)}: {error}")
        raise failure

    async def _dial_through(
        self, proxy: Destination, host: str, port: int, protocol_factory: ProtocolFactory
    ) -> Dialled:
        addresses = await self._checked_addresses(proxy.host, proxy.port, self._proxy_policy)
        authority = _host_port(host, port)

        async def connect_through(factory: ProtocolFactory, address: str, proxy_port: int) -> Dialled:
            transport, asking = await self._connect(lambda: ProxyConnect(authority, factory), address, proxy_port)
            assert isinstance(asking, ProxyConnect)
            try:
                return transport, await asking.answered
            except ProxyRefused as refused:
                transport.abort()
                raise DialError(DialFault.PROXY_REFUSED, str(refused)) from None
            except BaseException:
                transport.abort()
                raise

        return await self._attempt(addresses, proxy.port, connect_through, protocol_factory)

    def __repr__(self) -> str:
        way = "directly" if self._proxy is None else f"through {self._proxy.host_port}"
        return f"<Dialer {way}, {self._resolver!r}>"


def _is_literal(host: str) -> bool:
    # After normalize_host only an address holds a colon or has a last label of digits alone.
    return ":" in host or host.rpartition(".")[2].isdigit()


def _host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
