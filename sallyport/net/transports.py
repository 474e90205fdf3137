"""Listening sockets and what the data path needs of a transport.

The data path speaks asyncio's own Transport and Protocol, over TCP, over TLS (net/tls.py), over memory
in tests, later over a tunnel stream.
"""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable
from typing import Final

# Connections that wait in the kernel while the loop is busy; the kernel caps it at net.core.somaxconn.
BACKLOG: Final = 4096


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

    def __init__(self, server: asyncio.Server) -> None:
        self._server = server
        names = [listening.getsockname() for listening in server.sockets]
        self.addresses = tuple((str(name[0]), int(name[1])) for name in names)
        self.host, self.port = self.addresses[0]

    async def start(self) -> None:
        """Accept from now on."""
        await self._server.start_serving()

    async def close(self) -> None:
        """Accept what already waits in the kernel, then stop accepting."""
        # Closing at once would reset those clients. uvloop takes them in one turn; asyncio sees them in the first,
        # accepts them in the second and makes their transports in the third.
        for _ in range(3):
            await asyncio.sleep(0)
        self._server.close()

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


def own_addresses(host: str) -> set[str]:
    """Return the addresses a listener on host can be reached at; all of this machine's for a wildcard.

    Addresses that come up later are not among them: a gateway on a wildcard is started after its network.
    """
    if host == "localhost":
        return {"127.0.0.1", "::1"}
    if host not in ("0.0.0.0", "::"):
        return {host}
    found = {host, "127.0.0.1", "::1"}
    for probe in (("192.0.2.1", socket.AF_INET), ("2001:db8::1", socket.AF_INET6)):
        # Connecting a datagram socket sends nothing; it tells which address this machine would speak from.
        with contextlib.suppress(OSError), socket.socket(probe[1], socket.SOCK_DGRAM) as datagram:
            datagram.connect((probe[0], 9))
            found.add(str(datagram.getsockname()[0]))
    with contextlib.suppress(OSError):
        found |= {str(entry[4][0]).partition("%")[0] for entry in socket.getaddrinfo(socket.gethostname(), None)}
    return found


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
