"""Connect to a port of this machine and to nothing else: what sandboxd opens for the gateway.

Not `Dialer`: that one keeps a gateway away from its own machine, this one keeps a sandbox's streams on theirs.
"""

import asyncio
import ipaddress
from collections.abc import Callable
from typing import Final

from sallyport.net.dial import connect_tcp

_V4: Final = ipaddress.ip_network("127.0.0.0/8")
_V6: Final = ipaddress.ip_address("::1")


class LoopbackError(Exception):
    """A host that is not this machine's loopback; nothing was looked up or dialled."""


def loopback_addresses(host: str) -> tuple[str, ...]:
    """Return the numeric addresses of a loopback host, in the order to try them; raises LoopbackError.

    `localhost` is taken for what RFC 6761 says it is and never looked up, so no hosts file can lead elsewhere.
    """
    if host.lower().removesuffix(".") == "localhost":
        return "127.0.0.1", "::1"
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        address = None
    # Not `is_loopback`: it also holds for IPv4 addresses written as IPv6 ones.
    if address is not None and (address == _V6 or (address.version == 4 and address in _V4)):
        return (str(address),)
    raise LoopbackError("only 127.0.0.0/8, ::1 and localhost can be reached here")


async def connect_loopback[P: asyncio.Protocol](
    protocol_factory: Callable[[], P], host: str, port: int
) -> tuple[asyncio.Transport, P]:
    """Connect a new protocol; raises LoopbackError, or OSError where no address accepts.

    The factory is called once for each address that is tried.
    """
    *others, last = loopback_addresses(host)
    for address in others:
        try:
            transport, protocol = await connect_tcp(protocol_factory, address, port)
        except OSError:
            continue
        return transport, protocol  # type: ignore[return-value]  # what the factory made
    transport, protocol = await connect_tcp(protocol_factory, last, port)
    return transport, protocol  # type: ignore[return-value]  # what the factory made
