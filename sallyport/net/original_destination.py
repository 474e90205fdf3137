"""Where a redirected connection was going before the kernel led it here (linux/netfilter_ipv4.h)."""

import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

# SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST.
_ORIGINAL: Final = 80
_SOCKADDR4_BYTES: Final = 16
_SOCKADDR6_BYTES: Final = 28


class OriginalDestination(NamedTuple):
    """The address and port that a program connected to."""

    address: IPv4Address | IPv6Address
    port: int


def original_destination(transport: asyncio.Transport) -> OriginalDestination | None:
    """Ask the kernel; None for a connection that nothing redirected, so that it came to our own address."""
    plain = transport.get_extra_info("socket")
    try:
        if plain.family == socket.AF_INET6:
            found = plain.getsockopt(socket.IPPROTO_IPV6, _ORIGINAL, _SOCKADDR6_BYTES)
            address: IPv4Address | IPv6Address = IPv6Address(found[8:24])
        else:
            found = plain.getsockopt(socket.IPPROTO_IP, _ORIGINAL, _SOCKADDR4_BYTES)
            address = IPv4Address(found[4:8])
    except OSError:
        return None
    # The port stands in the same place in both, in the network's order.
    destination = OriginalDestination(address, int.from_bytes(found[2:4], "big"))
    return None if destination.address.is_loopback else destination
