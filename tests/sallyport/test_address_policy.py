"""Addresses: every range with its reason, everything unwrapped, and what no allow list opens (H6, H7)."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sallyport.address_policy import (
    AddressClass,
    AddressPolicy,
    carried_addresses,
    classify_address,
    is_loopback_name,
    is_metadata_host,
)

K = AddressClass

CASES = [
    ("8.8.8.8", K.PUBLIC),
    ("1.1.1.1", K.PUBLIC),
    ("100.63.255.255", K.PUBLIC),
    ("100.128.0.0", K.PUBLIC),
    ("172.15.255.255", K.PUBLIC),
    ("172.32.0.0", K.PUBLIC),
    ("192.0.1.0", K.PUBLIC),
    ("198.17.255.255", K.PUBLIC),
    ("198.20.0.0", K.PUBLIC),
    ("223.255.255.255", K.PUBLIC),
    ("2606:4700:4700::1111", K.PUBLIC),
    ("2001:4860:4860::8888", K.PUBLIC),
    ("0.0.0.0", K.UNSPECIFIED),
    ("0.0.0.1", K.RESERVED),
    ("10.0.0.0", K.PRIVATE),
    ("10.255.255.255", K.PRIVATE),
    ("172.16.0.1", K.PRIVATE),
    ("172.31.255.255", K.PRIVATE),
    ("192.168.1.1", K.PRIVATE),
    ("100.64.0.1", K.SHARED),
    ("100.127.255.255", K.SHARED),
    ("127.0.0.1", K.LOOPBACK),
    ("127.255.255.254", K.LOOPBACK),
    ("169.254.0.1", K.LINK_LOCAL),
    ("169.254.171.1", K.LINK_LOCAL),
    ("192.0.0.1", K.RESERVED),
    ("192.0.2.1", K.DOCUMENTATION),
    ("198.51.100.1", K.DOCUMENTATION),
    ("203.0.113.1", K.DOCUMENTATION),
    ("192.88.99.1", K.TRANSITION),
    ("198.18.0.1", K.BENCHMARKING),
    ("198.19.255.255", K.BENCHMARKING),
    ("224.0.0.1", K.MULTICAST),
    ("239.255.255.255", K.MULTICAST),
    ("240.0.0.1", K.RESERVED),
    ("255.255.255.254", K.RESERVED),
    ("255.255.255.255", K.BROADCAST),
    ("::", K.UNSPECIFIED),
    ("::1", K.LOOPBACK),
    ("::2", K.RESERVED),
    ("::7f00:1", K.RESERVED),
    ("100::1", K.DISCARD_ONLY),
    ("100:0:0:1::1", K.RESERVED),
    ("2001:2::1", K.BENCHMARKING),
    ("2001:10::1", K.RESERVED),
    ("2001:db8::1", K.DOCUMENTATION),
    ("3fff::1", K.DOCUMENTATION),
    ("3fff:1000::1", K.PUBLIC),
    ("4000::1", K.RESERVED),
    ("5f00::1", K.RESERVED),
    ("fc00::1", K.UNIQUE_LOCAL),
    ("fd12:3456::1", K.UNIQUE_LOCAL),
    ("fe00::1", K.RESERVED),
    ("fe80::1", K.LINK_LOCAL),
    ("fec0::1", K.SITE_LOCAL),
    ("ff02::1", K.MULTICAST),
    # What carries another address.
    ("::ffff:8.8.8.8", K.PUBLIC),
    ("::ffff:127.0.0.1", K.LOOPBACK),
    ("::ffff:10.1.2.3", K.PRIVATE),
    ("::ffff:0:808:808", K.PUBLIC),
    ("::ffff:0:7f00:1", K.LOOPBACK),
    ("64:ff9b::808:808", K.PUBLIC),
    ("64:ff9b::a00:1", K.PRIVATE),
    ("64:ff9b:0:1::808:808", K.RESERVED),
    ("64:ff9b:1::808:808", K.TRANSITION),
    ("2002:808:808::1", K.TRANSITION),
    ("2002:a00:1::1", K.TRANSITION),
    ("2001:0:808:808::f7f7:f7f7", K.TRANSITION),
    ("2606:4700::5efe:808:808", K.PUBLIC),
    ("2606:4700::5efe:a00:1", K.PRIVATE),
    ("2606:4700::200:5efe:7f00:1", K.LOOPBACK),
    ("2606:4700::1:5efe:7f00:1", K.PUBLIC),  # no ISATAP interface id
]

# The IANA special-purpose address registries, row by row: the block, and what it is to us. Blocks that are globally
# reachable by the registry and refused here have the reason beside them.
REGISTRY = [
    ("0.0.0.0/8", K.RESERVED),
    ("0.0.0.0/32", K.UNSPECIFIED),
    ("10.0.0.0/8", K.PRIVATE),
    ("100.64.0.0/10", K.SHARED),
    ("127.0.0.0/8", K.LOOPBACK),
    ("169.254.0.0/16", K.LINK_LOCAL),
    ("172.16.0.0/12", K.PRIVATE),
    ("192.0.0.0/24", K.RESERVED),
    ("192.0.0.0/29", K.RESERVED),
    ("192.0.0.8/32", K.RESERVED),
    ("192.0.0.9/32", K.RESERVED),  # PCP anycast: speaks to the next router
    ("192.0.0.10/32", K.RESERVED),  # TURN anycast: relays to anywhere
    ("192.0.0.170/32", K.RESERVED),
    ("192.0.0.171/32", K.RESERVED),
    ("192.0.2.0/24", K.DOCUMENTATION),
    ("192.31.196.0/24", K.PUBLIC),
    ("192.52.193.0/24", K.PUBLIC),
    ("192.88.99.0/24", K.TRANSITION),
    ("192.168.0.0/16", K.PRIVATE),
    ("192.175.48.0/24", K.PUBLIC),
    ("198.18.0.0/15", K.BENCHMARKING),
    ("198.51.100.0/24", K.DOCUMENTATION),
    ("203.0.113.0/24", K.DOCUMENTATION),
    ("224.0.0.0/4", K.MULTICAST),
    ("240.0.0.0/4", K.RESERVED),
    ("255.255.255.255/32", K.BROADCAST),
    ("::1/128", K.LOOPBACK),
    ("::/128", K.UNSPECIFIED),
    ("64:ff9b:1::/48", K.TRANSITION),
    ("100::/64", K.DISCARD_ONLY),
    ("100:0:0:1::/64", K.RESERVED),
    ("2001::/23", K.RESERVED),
    ("2001::/32", K.TRANSITION),
    ("2001:1::1/128", K.RESERVED),  # PCP anycast
    ("2001:1::2/128", K.RESERVED),  # TURN anycast
    ("2001:1::3/128", K.RESERVED),  # DNS-SD SRP anycast
    ("2001:2::/48", K.BENCHMARKING),
    ("2001:3::/32", K.RESERVED),  # AMT: relays
    ("2001:4:112::/48", K.RESERVED),  # AS112: answers for private names
    ("2001:10::/28", K.RESERVED),
    ("2001:20::/28", K.RESERVED),  # ORCHIDv2: no locators
    ("2001:30::/28", K.RESERVED),  # drone remote ids: no locators
    ("2001:db8::/32", K.DOCUMENTATION),
    ("2002::/16", K.TRANSITION),
    ("2620:4f:8000::/48", K.PUBLIC),
    ("3fff::/20", K.DOCUMENTATION),
    ("5f00::/16", K.RESERVED),
    ("fc00::/7", K.UNIQUE_LOCAL),
    ("fe80::/10", K.LINK_LOCAL),
]

METADATA = [
    "169.254.169.254",
    "169.254.169.252",
    "169.254.170.2",
    "169.254.170.23",
    "169.254.0.23",
    "169.254.10.10",
    "169.254.42.42",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd20:ce::254",
    "fd00:100::100:200",
    "fd00:c1::a9fe:a9fe",
    "fd00:42::42",
    "fd00:a9fe:a9fe::1",
    "fe80::a9fe:a9fe",
    "::ffff:169.254.169.254",
    "::ffff:0:a9fe:a9fe",
    "::a9fe:a9fe",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::a83f:8110",
    "64:ff9b:1::a9fe:a9fe",  # NAT64 of local use in each layout of RFC 6052: /96, /64, /56, /48
    "64:ff9b:1:0:a9:fea9:fe00:0",
    "64:ff9b:1:a9:fe:a9fe::",
    "64:ff9b:1:a9fe:a9:fe00::",
    "64:ff9b:1:a9fe:a9:fe00:808:808",
    "2002:a9fe:a9fe::1",
    "2001:0:a9fe:a9fe::f7f7:f7f7",  # Teredo: the server
    "2001:0:808:808::5601:5601",  # Teredo: the client, its bits flipped
    "2606:4700::5efe:a9fe:a9fe",  # ISATAP, of private and of global use, and inside a 6to4 prefix
    "2606:4700::200:5efe:a9fe:aa17",
    "2002:808:808::5efe:a9fe:a9fe",
]

EVERYTHING = (ip_network("0.0.0.0/0"), ip_network("::/0"))


def policy(*allow: str, own: frozenset[tuple[str, int]] = frozenset()) -> AddressPolicy:
    return AddressPolicy(allow=tuple(ip_network(text) for text in allow), own=own)


@pytest.mark.parametrize(("ip", "kind"), CASES, ids=[ip for ip, _ in CASES])
def test_h6_every_range_has_its_reason(ip: str, kind: AddressClass) -> None:
    assert classify_address(ip) is kind
    assert policy().check(ip, 443) is (None if kind is K.PUBLIC else kind)


@pytest.mark.parametrize(("block", "kind"), REGISTRY, ids=[block for block, _ in REGISTRY])
def test_h6_every_block_of_the_registries_is_known(block: str, kind: AddressClass) -> None:
    network = ip_network(block)
    assert classify_address(str(network[network.num_addresses // 2])) is kind
    # Its ends may lie in a smaller block with a reason of its own.
    for end in (network[0], network[-1]):
        assert (policy().check(str(end), 443) is None) is (kind is K.PUBLIC)


@pytest.mark.parametrize("ip", METADATA)
def test_h7_metadata_is_refused_even_when_everything_is_allowed(ip: str) -> None:
    assert classify_address(ip) is K.METADATA
    assert AddressPolicy(allow=EVERYTHING).check(ip, 80) is K.METADATA
    assert policy("169.254.0.0/16").check(ip, 80) is K.METADATA


def test_every_class_is_reached() -> None:
    assert {kind for _, kind in CASES} | {K.METADATA, K.OWN} == set(K)


@pytest.mark.parametrize(
    "ip",
    [
        "",
        "example.com",
        "127.1",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "2130706433",
        "127.0.0.01",
        " 8.8.8.8",
        "8.8.8.8\n",
        "8.8.8.8/32",
        "[::1]",
        "::FFFF:8.8.8.8",
        "::ffff:808:808",
        "0:0:0:0:0:0:0:1",
        "2001:DB8::1",
        "2001:0db8::1",
        "fe80::1%eth0",
        "fe80::1%1",
        "\u0661.1.1.1",
    ],
)
def test_h6_only_canonical_addresses_are_judged(ip: str) -> None:
    with pytest.raises(ValueError, match="address"):
        classify_address(ip)
    with pytest.raises(ValueError, match="address"):
        AddressPolicy(allow=EVERYTHING).check(ip, 443)


# ---- the operator's exception


def test_allow_opens_a_range_and_no_more() -> None:
    opened = policy("10.1.0.0/16", "fd12::/16")
    assert opened.check("10.1.2.3", 443) is None
    assert opened.check("::ffff:10.1.2.3", 443) is None
    assert opened.check("64:ff9b::a01:203", 443) is None
    assert opened.check("fd12::1", 443) is None
    assert opened.check("10.2.0.1", 443) is K.PRIVATE
    assert opened.check("fd13::1", 443) is K.UNIQUE_LOCAL
    assert policy("::1/128").check("::1", 443) is None
    assert policy("127.0.0.0/8").check("::1", 443) is K.LOOPBACK


@pytest.mark.parametrize(
    ("wrapper", "ip"),
    [
        ("2002::/16", "2002:a00:1::1"),
        ("2001::/32", "2001:0:808:808::f5ff:fffe"),
        ("2001::/32", "2001:0:a00:1::f7f7:f7f7"),
        ("64:ff9b:1::/48", "64:ff9b:1::a00:1"),
        ("::/96", "::a00:1"),
        ("fd12::/16", "fd12::5efe:a00:1"),
    ],
)
def test_h6_a_carrying_address_needs_both_itself_and_what_it_carries(wrapper: str, ip: str) -> None:
    assert policy(wrapper).check(ip, 443) is K.PRIVATE
    assert policy("10.0.0.0/8").check(ip, 443) is not None
    assert policy(wrapper, "10.0.0.0/8").check(ip, 443) is None


def test_of_local_nat64_only_96_bit_prefixes_can_be_opened() -> None:
    assert policy("64:ff9b:1::/48").check("64:ff9b:1::808:808", 443) is None
    assert policy("64:ff9b:1::/48").check("64:ff9b:1:808:8:800::", 443) is K.UNSPECIFIED


# ---- our own listeners

OWN = frozenset({("127.0.0.1", 3128), ("127.0.0.1", 9900), ("203.0.113.7", 3128), ("fd12::7", 3128)})


@pytest.mark.parametrize(
    ("ip", "port"),
    [
        ("127.0.0.1", 3128),
        ("127.0.0.1", 9900),
        ("203.0.113.7", 3128),
        ("fd12::7", 3128),
        ("::ffff:127.0.0.1", 3128),
        ("64:ff9b::7f00:1", 9900),
        ("64:ff9b:1::7f00:1", 9900),
        ("2002:7f00:1::", 9900),
        ("0.0.0.0", 9900),
        ("::", 3128),
    ],
)
def test_own_listeners_are_refused_even_when_everything_is_allowed(ip: str, port: int) -> None:
    assert AddressPolicy(allow=EVERYTHING, own=OWN).check(ip, port) is K.OWN


@pytest.mark.parametrize(("ip", "port"), [("127.0.0.1", 3129), ("127.0.0.2", 3128), ("0.0.0.0", 1), ("8.8.8.8", 3128)])
def test_other_ports_and_addresses_are_not_own(ip: str, port: int) -> None:
    assert AddressPolicy(allow=EVERYTHING, own=OWN).check(ip, port) is None


@pytest.mark.parametrize("wildcard", ["0.0.0.0", "::"])
@pytest.mark.parametrize("ip", ["127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1"])
def test_a_wildcard_listener_covers_every_loopback_address(wildcard: str, ip: str) -> None:
    mine = AddressPolicy(allow=EVERYTHING, own=frozenset({(wildcard, 3128)}))
    assert mine.check(ip, 3128) is K.OWN
    assert mine.check(ip, 3129) is None


def test_own_address_that_could_never_match_is_an_error() -> None:
    with pytest.raises(ValueError, match="localhost"):
        policy(own=frozenset({("localhost", 3128)}))


# ---- names


@pytest.mark.parametrize(
    "host",
    [
        "metadata.google.internal",
        "metadata",
        "metadata.goog",
        "instance-data",
        "instance-data.ec2.internal",
        "instance-data.eu-west-1.compute.internal",
        "metadata.azure.internal",
        "metadata.tencentyun.com",
        "api.metadata.cloud.ibm.com",
        "metadata.packet.net",
        "rancher-metadata",
        *METADATA,
    ],
)
def test_h7_metadata_hosts(host: str) -> None:
    assert is_metadata_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "api.example.com",
        "metadata.example.com",
        "instance-data.evil.compute.internal.example.com",
        "a.instance-data.ec2.internal",
        "8.8.8.8",
        "169.254.0.1",
        "",
        "fe80::1%1",
    ],
)
def test_other_hosts(host: str) -> None:
    assert not is_metadata_host(host)


@pytest.mark.parametrize("host", ["localhost", "a.b.localhost", "localhost6", "ip6-loopback"])
def test_names_of_this_machine(host: str) -> None:
    assert is_loopback_name(host)


@pytest.mark.parametrize("host", ["notlocalhost", "localhost.example.com", "127.0.0.1", ""])
def test_other_names(host: str) -> None:
    assert not is_loopback_name(host)


@pytest.mark.parametrize(
    ("ip", "addresses"),
    [
        ("10.0.0.1", ("10.0.0.1",)),
        ("::ffff:10.0.0.1", ("10.0.0.1",)),
        ("2002:a00:1::", ("2002:a00:1::", "10.0.0.1")),
        ("2606:4700::5efe:a00:1", ("2606:4700::5efe:a00:1", "10.0.0.1")),
    ],
)
def test_what_an_address_carries(ip: str, addresses: tuple[str, ...]) -> None:
    assert carried_addresses(ip) == addresses


# ---- properties


@given(st.ip_addresses())
def test_property_the_verdict_is_total_and_never_laxer_than_the_standard_library(ip: object) -> None:
    text = str(ip)
    kind = classify_address(text)
    if kind is K.PUBLIC and not text.startswith("::ffff:"):
        assert ip_address(text).is_global or text.startswith("64:ff9b::")
    refusal = policy().check(text, 443)
    assert (refusal is None) == (kind is K.PUBLIC)


@given(st.ip_addresses(v=4))
def test_property_mapped_addresses_are_judged_as_what_they_carry(ip: object) -> None:
    assert classify_address(f"::ffff:{ip}") is classify_address(str(ip))


def embeddings(inside: IPv4Address) -> list[IPv6Address]:
    """Return every form in which an IPv6 address carries this one."""
    value = int(inside)
    low = [0xFFFF << 32, 0xFFFF << 48, 0x0064FF9B << 96, 0x0064FF9B0001 << 80, 0x5EFE << 32 | 0x26064700 << 96]
    flipped = 0x20010000 << 96 | 0x08080808 << 64 | value ^ 0xFFFFFFFF  # Teredo: the client
    return [
        IPv6Address(number) for number in (*[prefix | value for prefix in low], 0x2002 << 112 | value << 80, flipped)
    ]


@given(st.ip_addresses(v=4).map(IPv4Address))
def test_property_no_form_opens_what_is_refused_inside(inside: IPv4Address) -> None:
    for outside in embeddings(inside):
        for allow in ((), EVERYTHING):
            dialled = AddressPolicy(allow=allow)
            if dialled.check(str(inside), 443) is not None:
                assert dialled.check(str(outside), 443) is not None, outside


@pytest.mark.parametrize("ip", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "100.100.100.200", "168.63.129.16"])
def test_h6_no_form_opens_what_is_refused_inside(ip: str) -> None:
    for outside in embeddings(IPv4Address(ip)):
        assert policy().check(str(outside), 443) is not None, outside
        assert (AddressPolicy(allow=EVERYTHING).check(str(outside), 443) is K.METADATA) is is_metadata_host(ip), outside
