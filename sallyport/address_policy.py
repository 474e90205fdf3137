"""Which addresses may be dialled (egress cases H6, H7 and the paragraph below them).

A pure table: every range that is not the public internet stands here with its reason.
Addresses that carry another one inside (IPv4-mapped, NAT64, 6to4, Teredo, ISATAP) are
judged by what is inside as well, because that is where the packets end up.

The operator's exception is `network.allow`. It opens any range except two: metadata
services, which would hand the gateway's own cloud identity to a sandbox and stay closed
under an allow list of 169.254.0.0/16 or 0.0.0.0/0 too; and the gateway itself with its
control plane.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

type Address = IPv4Address | IPv6Address
type Network = IPv4Network | IPv6Network


class AddressClass(Enum):
    """What an address is; every member but PUBLIC is a reason to refuse it."""

    PUBLIC = "public"
    OWN = "own"
    METADATA = "metadata"
    UNSPECIFIED = "unspecified"
    LOOPBACK = "loopback"
    LINK_LOCAL = "link_local"
    PRIVATE = "private"
    SHARED = "shared"
    UNIQUE_LOCAL = "unique_local"
    SITE_LOCAL = "site_local"
    MULTICAST = "multicast"
    BROADCAST = "broadcast"
    DOCUMENTATION = "documentation"
    BENCHMARKING = "benchmarking"
    DISCARD_ONLY = "discard_only"
    TRANSITION = "transition"
    RESERVED = "reserved"


# First match wins, so single addresses and metadata stand before the ranges that hold them.
# Sources: the IANA special-purpose registries (RFC 6890 and its successors), and the clouds' own documents.
_TABLE_TEXT: Final = (
    # The clouds' service blocks, whole: instances (.169.254), GKE (.169.252), ECS tasks (.170.2), EKS pods (.170.23).
    ("169.254.169.0/24", AddressClass.METADATA),
    ("169.254.170.0/24", AddressClass.METADATA),
    ("169.254.0.23/32", AddressClass.METADATA),  # Tencent Cloud
    ("169.254.10.10/32", AddressClass.METADATA),  # Tencent Cloud
    ("169.254.42.42/32", AddressClass.METADATA),  # Scaleway
    ("100.100.100.200/32", AddressClass.METADATA),  # Alibaba Cloud
    ("168.63.129.16/32", AddressClass.METADATA),  # Azure wire server; a public address by number
    ("192.0.0.192/32", AddressClass.METADATA),  # Oracle Cloud, classic
    ("fd00:ec2::/32", AddressClass.METADATA),  # AWS: ::254 metadata, ::23 pod identity
    ("fd20:ce::/64", AddressClass.METADATA),  # Google Cloud, ::254
    ("fd00:100::100:200/128", AddressClass.METADATA),  # Alibaba Cloud
    ("fd00:c1::a9fe:a9fe/128", AddressClass.METADATA),  # Oracle Cloud
    ("fd00:42::42/128", AddressClass.METADATA),  # Scaleway
    ("fd00:a9fe:a9fe::1/128", AddressClass.METADATA),  # Linode
    ("fe80::a9fe:a9fe/128", AddressClass.METADATA),  # OpenStack, Hetzner
    ("0.0.0.0/32", AddressClass.UNSPECIFIED),
    ("0.0.0.0/8", AddressClass.RESERVED),  # "this network", RFC 791
    ("10.0.0.0/8", AddressClass.PRIVATE),
    ("100.64.0.0/10", AddressClass.SHARED),  # carrier-grade NAT, RFC 6598
    ("127.0.0.0/8", AddressClass.LOOPBACK),
    ("169.254.0.0/16", AddressClass.LINK_LOCAL),
    ("172.16.0.0/12", AddressClass.PRIVATE),
    ("192.0.0.0/24", AddressClass.RESERVED),  # IETF protocol assignments
    ("192.0.2.0/24", AddressClass.DOCUMENTATION),
    ("192.88.99.0/24", AddressClass.TRANSITION),  # 6to4 relay anycast, RFC 7526
    ("192.168.0.0/16", AddressClass.PRIVATE),
    ("198.18.0.0/15", AddressClass.BENCHMARKING),
    ("198.51.100.0/24", AddressClass.DOCUMENTATION),
    ("203.0.113.0/24", AddressClass.DOCUMENTATION),
    ("224.0.0.0/4", AddressClass.MULTICAST),
    ("255.255.255.255/32", AddressClass.BROADCAST),
    ("240.0.0.0/4", AddressClass.RESERVED),
    ("::/128", AddressClass.UNSPECIFIED),
    ("::1/128", AddressClass.LOOPBACK),
    ("64:ff9b:1::/48", AddressClass.TRANSITION),  # NAT64 of local use, RFC 8215
    ("100::/64", AddressClass.DISCARD_ONLY),
    ("2001::/32", AddressClass.TRANSITION),  # Teredo
    ("2001:2::/48", AddressClass.BENCHMARKING),
    ("2001:db8::/32", AddressClass.DOCUMENTATION),
    ("2001::/23", AddressClass.RESERVED),  # IETF protocol assignments, ORCHID
    ("2002::/16", AddressClass.TRANSITION),  # 6to4
    ("3fff::/20", AddressClass.DOCUMENTATION),
    ("2000::/3", AddressClass.PUBLIC),  # the one block of global unicast addresses
    ("fc00::/7", AddressClass.UNIQUE_LOCAL),
    ("fe80::/10", AddressClass.LINK_LOCAL),
    ("fec0::/10", AddressClass.SITE_LOCAL),
    ("ff00::/8", AddressClass.MULTICAST),
    ("::/0", AddressClass.RESERVED),  # everything IANA has not given out
    ("0.0.0.0/0", AddressClass.PUBLIC),
)
_TABLE_4: Final = tuple((IPv4Network(text), kind) for text, kind in _TABLE_TEXT if ":" not in text)
_TABLE_6: Final = tuple((IPv6Network(text), kind) for text, kind in _TABLE_TEXT if ":" in text)

# Prefixes whose last 32 bits ARE the destination: the wrapper means nothing by itself.
_TRANSPARENT: Final = (
    IPv6Network("::ffff:0:0/96"),  # IPv4-mapped, RFC 4291
    IPv6Network("::ffff:0:0:0/96"),  # IPv4-translated, RFC 7915
    IPv6Network("64:ff9b::/96"),  # NAT64, RFC 6052
)
_COMPATIBLE: Final = IPv6Network("::/96")  # IPv4-compatible, deprecated by RFC 4291
_LOCAL_NAT64: Final = IPv6Network("64:ff9b:1::/48")
# Where RFC 6052 section 2.2 puts the four IPv4 bytes, by prefix length: /48, /56, /64, /96.
_NAT64_LAYOUTS: Final = ((6, 7, 9, 10), (7, 9, 10, 11), (9, 10, 11, 12), (12, 13, 14, 15))

# RFC 5214 section 6.1: an interface id of this form ends in an IPv4 address; the second is one of global use.
_ISATAP: Final = (0x00005EFE, 0x02005EFE)

# By name where the clouds have one: most have the address alone. They count where nobody here sees the address,
# behind an upstream proxy.
_METADATA_NAMES: Final = frozenset(
    {
        "metadata",  # Google Cloud, by its search domain
        "metadata.google.internal",
        "metadata.goog",
        "instance-data",  # AWS, by its search domain
        "metadata.azure.internal",
        "metadata.tencentyun.com",
        "api.metadata.cloud.ibm.com",
        "metadata.packet.net",
        "metadata.platformequinix.com",
        "rancher-metadata",
        "rancher-metadata.rancher.internal",
    }
)
# AWS: instance-data.ec2.internal, instance-data.REGION.compute.internal
_AWS_METADATA_NAME: Final = re.compile(r"instance-data\.(?:ec2|[a-z0-9-]+\.compute)\.internal")

# RFC 6761 section 6.3, and what the usual hosts files add.
_LOOPBACK_NAMES: Final = frozenset(
    {"localhost", "localhost.localdomain", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback"}
)


def classify_address(ip: str) -> AddressClass:
    """Say what a canonical IP address is; raises ValueError for any other spelling.

    An address that carries others gets the first class among them that is not public.
    """
    readings = [kind for _, kind in _readings(_parse(ip))]
    if AddressClass.METADATA in readings:
        return AddressClass.METADATA
    return next((kind for kind in readings if kind is not AddressClass.PUBLIC), AddressClass.PUBLIC)


def is_metadata_host(host: str) -> bool:
    """Say whether a normalised host (sallyport.host) is a cloud's metadata service, by name or by address."""
    if host in _METADATA_NAMES or _AWS_METADATA_NAME.fullmatch(host) is not None:
        return True
    try:
        return classify_address(host) is AddressClass.METADATA
    except ValueError:
        return False


def is_loopback_name(host: str) -> bool:
    """Say whether a normalised host is a name that every machine has for itself."""
    return host in _LOOPBACK_NAMES or host.endswith(".localhost")


def carried_addresses(ip: str) -> tuple[str, ...]:
    """Return every address that packets to a canonical IP address may end up at; ValueError for another spelling."""
    return tuple(str(address) for address, _ in _readings(_parse(ip)))


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressPolicy:
    """What one gateway may dial.

    `allow` opens ranges that are refused by default. An IPv4 address inside a mapped or
    NAT64 one is looked up as IPv4; a 6to4, Teredo, ISATAP or local NAT64 address is opened only
    where both it and what it carries are; of local NAT64 prefixes only /96 ones can be opened.

    `own` are the (address, port) pairs nothing may reach through us: the listeners and the
    control plane (sallyport.net.own_places says which). A wildcard ("0.0.0.0" or "::") covers
    the loopback addresses of its port; what else is this machine's, the caller finds out.
    Raises ValueError where an own address is not canonical, for it would never match.
    """

    allow: tuple[Network, ...] = ()
    own: frozenset[tuple[str, int]] = frozenset()

    def __post_init__(self) -> None:
        for ip, _ in self.own:
            _parse(ip)

    def check(self, ip: str, port: int) -> AddressClass | None:
        """Return None when the address may be dialled, else why not.

        Raises ValueError for anything but a canonical IP address (zone ids included): the
        caller refuses the destination then.
        """
        readings = list(_readings(_parse(ip)))
        if any(kind is AddressClass.METADATA for _, kind in readings):
            return AddressClass.METADATA
        if any(self._is_own(address, kind, port) for address, kind in readings):
            return AddressClass.OWN
        for address, kind in readings:
            if kind is not AddressClass.PUBLIC and not self._allows(address):
                return kind
        return None

    def _allows(self, address: Address) -> bool:
        return any(address in network for network in self.allow)  # other IP version: not in

    def _is_own(self, address: Address, kind: AddressClass, port: int) -> bool:
        if (str(address), port) in self.own:
            return True
        # A system connects 0.0.0.0 to its own loopback; a wildcard listener is on every loopback address.
        if kind is AddressClass.UNSPECIFIED:
            return any(own_port == port for _, own_port in self.own)
        return kind is AddressClass.LOOPBACK and not self.own.isdisjoint({("0.0.0.0", port), ("::", port)})


def _parse(ip: str) -> Address:
    address = ip_address(ip)
    if str(address) != ip or "%" in ip:
        raise ValueError(f"not a canonical IP address: {ip!r}")
    return address


def _readings(address: Address) -> Iterator[tuple[Address, AddressClass]]:
    """Yield everything the packets to `address` may end up at, with its class."""
    if isinstance(address, IPv4Address):
        yield address, _classify_plain(address)
        return
    if any(address in network for network in _TRANSPARENT):
        yield from _readings(_embedded(address, _NAT64_LAYOUTS[-1]))
        return
    yield address, _classify_plain(address)
    if address.sixtofour is not None:
        yield from _readings(address.sixtofour)
    elif address.teredo is not None:
        for inside in address.teredo:  # the relay server and the client behind it
            yield from _readings(inside)
    elif address in _LOCAL_NAT64:
        yield from _local_nat64_readings(address)
    elif address in _COMPATIBLE and int(address) > 1:  # :: and ::1 carry nothing
        yield from _readings(_embedded(address, _NAT64_LAYOUTS[-1]))
    if _is_isatap(address):  # in whatever prefix, a 6to4 one among them
        yield from _readings(_embedded(address, _NAT64_LAYOUTS[-1]))


def _local_nat64_readings(address: IPv6Address) -> Iterator[tuple[Address, AddressClass]]:
    """Judge the /96 layout whole and the others for metadata: only the operator knows which is in use."""
    for layout in _NAT64_LAYOUTS:
        inside = _embedded(address, layout)
        kind = _classify_plain(inside)
        if kind is AddressClass.METADATA or layout is _NAT64_LAYOUTS[-1]:
            yield inside, kind


def _is_isatap(address: IPv6Address) -> bool:
    return (int(address) >> 32) & 0xFFFFFFFF in _ISATAP


def _embedded(address: IPv6Address, layout: tuple[int, ...]) -> IPv4Address:
    packed = address.packed
    return IPv4Address(bytes(packed[index] for index in layout))


def _classify_plain(address: Address) -> AddressClass:
    table = _TABLE_4 if isinstance(address, IPv4Address) else _TABLE_6
    return next(kind for network, kind in table if address in network)  # both tables end in a range of everything
