"""Listening sockets and what the data path needs of a transport.

The data path speaks asyncio's own Transport and Protocol, over TCP, over TLS (net/tls.py), over memory
in tests, later over a tunnel stream.
"""

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Final

# Connections that wait in the kernel while the loop is busy; the kernel caps it at net.core.somaxconn.
BACKLOG: Final = 4096


# What bind_shared() gives, for those who only pass it on.
type BoundSocket = socket.socket


class ListenError(Exception):
    """An address cannot be listened on; says why and what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Listener:
    """The sockets of one name of the data path, bound at once, accepting after start().

    A name such as localhost may be several addresses: `addresses` are all of them, host and port those of the first.
    """

    def __init__(self, *servers: asyncio.Server) -> None:
        self._servers = servers
        names = [listening.getsockname() for server in servers for listening in server.sockets]
        self.addresses = tuple((str(name[0]), int(name[1])) for name in names)
        self.host, self.port = self.addresses[0]

    async def start(self) -> None:
        """Accept from now on."""
        for server in self._servers:
            await server.start_serving()

    async def close(self) -> None:
        """Accept what already waits in the kernel, then stop accepting."""
        # Closing at once would reset those clients. uvloop takes them in one turn; asyncio sees them in the first,
        # accepts them in the second and makes their transports in the third.
        for _ in range(3):
            await asyncio.sleep(0)
        for server in self._servers:
            server.close()

    def __repr__(self) -> str:
        return f"<Listener {self.host}:{self.port}>"


async def listen(host: str, port: int, protocol_factory: Callable[[], asyncio.Protocol]) -> Listener:
    """Bind host:port (port 0: any free one); raises ListenError."""
    loop = asyncio.get_running_loop()
    try:
        server = await loop.create_server(
            protocol_factory, host, port, backlog=BACKLOG, reuse_address=True, start_serving=False
        )
    except OSError as error:
        raise _listen_error(host, port, error) from None
    return Listener(server)


def bind_shared(host: str, port: int, count: int) -> tuple[tuple[BoundSocket, ...], ...]:
    """Bind host:port `count` times, for so many processes; raises ListenError.

    Returns the sockets of each process: one for each address of the name. They do not listen yet: of those that do the
    kernel gives each connection to one, and while any process holds a socket that listens, what waits in it waits on.
    """
    with contextlib.ExitStack() as opened:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            rows = [_bind_shared(opened, entry[0], entry[4], count) for entry in dict.fromkeys(found)]
        except OSError as error:
            raise _listen_error(host, port, error) from None
        opened.pop_all()
    return tuple(zip(*rows, strict=True))


def _bind_shared(
    opened: contextlib.ExitStack, family: int, address: tuple[object, ...], count: int
) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    for _ in range(count):
        bound = opened.enter_context(socket.socket(family, socket.SOCK_STREAM))
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # as asyncio does it: IPv4 has a socket too
        if sockets:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            bound.bind(sockets[0].getsockname())
        else:
            # The first is bound alone, and so finds out whether somebody else is there, another gateway of ours too.
            bound.bind(address)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sockets.append(bound)
    return sockets


async def adopt(descriptors: Sequence[int], protocol_factory: Callable[[], asyncio.Protocol]) -> Listener:
    """Make a listener of bound sockets that this process has inherited; it closes them."""
    loop = asyncio.get_running_loop()
    servers = [
        await loop.create_server(
            protocol_factory, sock=socket.socket(fileno=descriptor), backlog=BACKLOG, start_serving=False
        )
        for descriptor in descriptors
    ]
    return Listener(*servers)


async def adopt_datagrams(
    descriptors: Sequence[int], protocol_factory: Callable[[], asyncio.DatagramProtocol]
) -> tuple[asyncio.DatagramTransport, ...]:
    """Receive from bound datagram sockets that this process has inherited; closing the transports closes them."""
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_datagram_endpoint(protocol_factory, sock=socket.socket(fileno=descriptor))
        for descriptor in descriptors
    ]
    return tuple(transport for transport, _ in made)


def bind_tcp(host: str, port: int) -> socket.socket:
    """Bind a listening socket for a server of a framework (port 0: any free one); raises ListenError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(BACKLOG)
            listening.setblocking(False)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise _listen_error(host, port, error) from None
    return listening


def reset(transport: asyncio.Transport) -> None:
    """End a TCP transport, or one over it, so that its peer sees a reset and never an orderly end.

    An answer without a length ends with its connection: cut short, it must not look whole. Not for a stream of
    something shared: the socket below is ended.
    """
    plain_socket = transport.get_extra_info("socket")
    if plain_socket is not None:
        with contextlib.suppress(OSError):  # closed already
            plain_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def is_plain_socket(transport: asyncio.Transport) -> bool:
    """Say whether a transport's bytes are those of its socket: no TLS between them, no tunnel, no memory."""
    return transport.get_extra_info("socket") is not None and transport.get_extra_info("ssl_object") is None


def is_local_address(address: str) -> bool:
    """Say whether a numeric address is this machine's now: only to those a socket can be bound.

    Where net.ipv4.ip_nonlocal_bind is set every address counts as local.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as datagram:
            datagram.bind((address, 0))
    except OSError as error:
        # Anything else (no descriptors, say) tells nothing; then the careful answer is the safe one.
        return error.errno not in (errno.EADDRNOTAVAIL, errno.EINVAL, errno.EAFNOSUPPORT)
    return True


def _listen_error(host: str, port: int, error: OSError) -> ListenError:
    where = f"{host}:{port}"
    if error.errno == errno.EADDRINUSE:
        return ListenError(f"{where} is taken by another process", "stop it or choose another port in `listen`")
    if error.errno == errno.EACCES:
        return ListenError(f"{where} may not be opened by this user", "choose a port above 1023")
    # asyncio has no errno for an address that none of its sockets could be bound to.
    if error.errno in (errno.EADDRNOTAVAIL, None) or isinstance(error, socket.gaierror):
        return ListenError(f"{where} is not an address of this machine", "correct `listen`")
    return ListenError(f"cannot listen on {where}: {error.strerror or error}", "correct `listen`")
