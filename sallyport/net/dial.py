"""Open a TCP connection to a destination, and to nothing the address policy refuses.

A name is resolved once, every answer is checked, and the numeric address that was checked is the one connected to
(H8): no second lookup stands between the check and the connect. Names become
addresses in resolve.py.
"""

import asyncio
import dataclasses
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping

from sallyport.address_policy import AddressPolicy, is_loopback_name, is_metadata_host
from sallyport.destination import Destination
from sallyport.host import HostError, normalize_host, split_authority
from sallyport.net.dial_error import DialError, DialFault, fault_of
from sallyport.net.own_places import OwnPlaces
from sallyport.net.proxy_connect import ProtocolFactory, ProxyConnect, ProxyRefused
from sallyport.net.resolve import OPERATOR, Resolver

type Dialled = tuple[asyncio.Transport, asyncio.Protocol]
type Connect = Callable[[ProtocolFactory, str, int], Awaitable[Dialled]]

# A dial waits so long to hear where a place of the gateway's own is now; then what was heard last holds.
_OWN_NAME_SECONDS = 1.0
_EVERY_NETWORK = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))


# The checks and the attempts


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

    async def dial(self, host: str, port: int, protocol_factory: ProtocolFactory, owner: str = OPERATOR) -> Dialled:
        """Connect a new protocol to host and port; its `connection_made` has been called on return.

        owner is the sandbox whose dial it is, because sandboxes take turns in asking for names.
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
        addresses = await self._checked_addresses(host, port, self._policy, owner)
        return await self._attempt(addresses, port, self._connect, protocol_factory)

    async def addresses(self, host: str, port: int) -> tuple[str, ...]:
        """Return the checked addresses of a destination, in the order to try: for a library that connects by itself.

        Whoever connects to one of them at once has made no second lookup. Raises DialError. An upstream proxy is not
        gone through.
        """
        host = self._usable_name(host, port)
        return await self._checked_addresses(host, port, self._policy, OPERATOR)

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

    async def _checked_addresses(self, host: str, port: int, policy: AddressPolicy, owner: str) -> tuple[str, ...]:
        if _is_literal(host):
            addresses: tuple[str, ...] = (host,)
        else:
            addresses = await self._resolver.resolve(host, self._resolve_timeout_seconds, owner)
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
                failure = DialError(fault_of(error, DialFault.UNREACHABLE), f"{_host_port(address, port)}: {error}")
                if failure.kind is DialFault.OVERLOADED:
                    break
        raise failure

    async def _dial_through(
        self, proxy: Destination, host: str, port: int, protocol_factory: ProtocolFactory
    ) -> Dialled:
        addresses = await self._checked_addresses(proxy.host, proxy.port, self._proxy_policy, OPERATOR)
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
