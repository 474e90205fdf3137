"""Messages to the kernel. That it does what they ask is tested in tests/sallyport/net/test_sandbox_network.py."""

import struct

from sallyport.wire.netlink import (
    IPV4,
    IPV6,
    RedirectPorts,
    acknowledged,
    everything_local,
    interface_up,
    read_acknowledgements,
    redirection,
)

PORTS = RedirectPorts(tcp=4001, dns_udp=4002, dns_tcp=4003)


def test_each_message_is_as_long_as_it_says() -> None:
    for message in (interface_up(1, 5), everything_local(IPV4, 1, 6), everything_local(IPV6, 1, 7)):
        assert struct.unpack_from("=I", message) == (len(message),)
        assert len(message) % 4 == 0
    assert list(acknowledged(interface_up(1, 5) + everything_local(IPV6, 1, 7))) == [5, 7]


def test_a_transaction_asks_for_each_change_and_not_for_its_borders() -> None:
    messages = redirection(PORTS, 10)
    kinds = []
    while messages:
        length, kind = struct.unpack_from("=IH", messages)
        kinds.append(kind)
        messages = messages[length:]
    assert (kinds[0], kinds[-1]) == (0x10, 0x11)
    assert kinds[1:-1] == [0xA00, 0xA03, 0xA03, *[0xA06] * 6]
    assert list(acknowledged(redirection(PORTS, 10))) == list(range(11, 20))


def test_the_ports_stand_in_the_order_of_the_network() -> None:
    assert all(redirection(PORTS, 1).count(struct.pack(">H", port)) for port in PORTS)


def test_acknowledgements_are_read_and_all_else_is_passed_over() -> None:
    done = struct.pack("=IHHIIi", 36, 2, 0, 8, 0, 0) + bytes(16)
    refused = struct.pack("=IHHIIi", 36, 2, 0, 9, 0, -17) + bytes(16)
    other = struct.pack("=IHHII", 20, 24, 0, 1, 0) + bytes(4)
    assert list(read_acknowledgements(done + other + refused + b"\0\1")) == [(8, 0), (9, 17)]
