"""Messages to the kernel about one network (netlink(7), rtnetlink(7), nf_tables): written as bytes, answers read.

Only what a sandbox's network needs: an interface is put up, a route is added, TCP and DNS are redirected to ports of
loopback, and whatever else would leave loopback is refused. Written here and not told to `ip` and `nft`, because a
machine that runs sandboxes need not have either.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

# linux/netlink.h
_REQUEST: Final = 0x001
_ACK: Final = 0x004
_CREATE: Final = 0x400
_EXCLUSIVE: Final = 0x200
_APPEND: Final = 0x800
_ERROR: Final = 2
_NESTED: Final = 0x8000
_HEAD: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
# linux/rtnetlink.h
_NEW_LINK: Final = 16
_NEW_ROUTE: Final = 24
_UP: Final = 0x1
_TABLE_LOCAL: Final = 255
_PROTOCOL_STATIC: Final = 4
_SCOPE_HOST: Final = 254
_TYPE_LOCAL: Final = 2
_ROUTE_OUT: Final = 4
_ROUTE_PREFERRED_SOURCE: Final = 7
# linux/netfilter/nfnetlink.h, nf_tables.h
_BATCH_BEGIN: Final = 0x10
_BATCH_END: Final = 0x11
_SUBSYSTEM: Final = 10
_NEW_TABLE, _NEW_CHAIN, _NEW_RULE = 0, 3, 6
_ANY_FAMILY: Final = 1  # NFPROTO_INET: IPv4 and IPv6 alike
_HOOK_OUTPUT: Final = 3
_PRIORITY_NAT: Final = -100
_PRIORITY_FILTER: Final = 0
_REGISTER: Final = 1
_META_NFPROTO, _META_L4PROTO = 15, 16
_NETWORK_HEADER, _TRANSPORT_HEADER = 1, 2
_EQUAL, _NOT_EQUAL = 0, 1
_REJECT_ICMPX: Final = 2
_ADMINISTRATIVELY: Final = 3
_ACCEPT: Final = 1

IPV4: Final = 2
IPV6: Final = 10
TCP: Final = 6
UDP: Final = 17
_DNS: Final = 53

_TABLE: Final = b"sallyport\0"
_LOOPBACK4: Final = bytes((127, 0, 0, 1))
_LOOPBACK6: Final = bytes(15) + b"\x01"


class Acknowledgement(NamedTuple):
    """The kernel's answer to one message; errno 0 says that it was done."""

    sequence: int
    errno: int


class RedirectPorts(NamedTuple):
    """Where on loopback what leaves is taken: TCP of all kinds, questions by UDP and by TCP."""

    tcp: int
    dns_udp: int
    dns_tcp: int


def read_acknowledgements(data: bytes) -> Iterator[Acknowledgement]:
    """Read what one receive brought; anything but an acknowledgement is passed over."""
    while len(data) >= _HEAD.size:
        length, kind, _flags, sequence, _port = _HEAD.unpack_from(data)
        if kind == _ERROR:
            yield Acknowledgement(sequence, -struct.unpack_from("=i", data, _HEAD.size)[0])
        data = data[max(_padded(length), _HEAD.size) :]


def acknowledged(messages: bytes) -> Iterator[int]:
    """Name the sequence numbers of the messages that ask for an acknowledgement."""
    while messages:
        length, _kind, flags, sequence, _port = _HEAD.unpack_from(messages)
        if flags & _ACK:
            yield sequence
        messages = messages[_padded(length) :]


# Interfaces and routes


def interface_up(index: int, sequence: int) -> bytes:
    """Put an interface up."""
    return _message(_NEW_LINK, _REQUEST | _ACK, sequence, struct.pack("=BxHiII", 0, 0, index, _UP, _UP))


def everything_local(family: int, index: int, sequence: int) -> bytes:
    """Route every address to this machine itself, over one interface: packets stay, and redirection can see them."""
    source = _LOOPBACK4 if family == IPV4 else _LOOPBACK6
    route = struct.pack("=BBBBBBBBI", family, 0, 0, 0, _TABLE_LOCAL, _PROTOCOL_STATIC, _SCOPE_HOST, _TYPE_LOCAL, 0)
    attributes = _attribute(_ROUTE_OUT, struct.pack("=i", index)) + _attribute(_ROUTE_PREFERRED_SOURCE, source)
    return _message(_NEW_ROUTE, _REQUEST | _ACK | _CREATE | _EXCLUSIVE, sequence, route + attributes)


# Redirection and refusal


def redirection(ports: RedirectPorts, sequence: int) -> bytes:
    """Write one transaction: TCP and DNS go to the ports, whatever else would leave loopback is refused."""
    return b"".join(_transaction(ports, sequence))


def _transaction(ports: RedirectPorts, sequence: int) -> Iterator[bytes]:
    yield _batch(_BATCH_BEGIN, sequence)
    yield _change(_NEW_TABLE, sequence + 1, _attribute(1, _TABLE))
    yield _change(_NEW_CHAIN, sequence + 2, _chain(b"redirect\0", b"nat\0", _PRIORITY_NAT))
    yield _change(_NEW_CHAIN, sequence + 3, _chain(b"refuse\0", b"filter\0", _PRIORITY_FILTER))
    redirected = (
        (*_protocol(UDP), *_to_port(_DNS), *_redirect(ports.dns_udp)),
        (*_protocol(TCP), *_to_port(_DNS), *_redirect(ports.dns_tcp)),
        (*_protocol(TCP), *_beyond_loopback4(), *_redirect(ports.tcp)),
        (*_protocol(TCP), *_beyond_loopback6(), *_redirect(ports.tcp)),
    )
    refused = ((*_beyond_loopback4(), _refuse()), (*_beyond_loopback6(), _refuse()))
    sequence += 4
    for chain, rules in ((b"redirect\0", redirected), (b"refuse\0", refused)):
        for rule in rules:
            yield _change(_NEW_RULE, sequence, _rule(chain, rule))
            sequence += 1
    yield _batch(_BATCH_END, sequence)


def _chain(name: bytes, kind: bytes, priority: int) -> bytes:
    hook = _attribute(1, struct.pack(">I", _HOOK_OUTPUT)) + _attribute(2, struct.pack(">i", priority))
    return (
        _attribute(1, _TABLE)
        + _attribute(3, name)
        + _attribute(4 | _NESTED, hook)
        + _attribute(5, struct.pack(">I", _ACCEPT))
        + _attribute(7, kind)
    )


def _rule(chain: bytes, expressions: Sequence[bytes]) -> bytes:
    return (
        _attribute(1, _TABLE)
        + _attribute(2, chain)
        + _attribute(4 | _NESTED, b"".join(_attribute(1 | _NESTED, each) for each in expressions))
    )


def _protocol(number: int) -> tuple[bytes, ...]:
    return _meta(_META_L4PROTO), _compare(_EQUAL, bytes((number,)))


def _to_port(port: int) -> tuple[bytes, ...]:
    return _payload(_TRANSPORT_HEADER, 2, 2), _compare(_EQUAL, struct.pack(">H", port))


def _beyond_loopback4() -> tuple[bytes, ...]:
    return (
        _meta(_META_NFPROTO),
        _compare(_EQUAL, bytes((IPV4,))),
        _payload(_NETWORK_HEADER, 16, 1),
        _compare(_NOT_EQUAL, _LOOPBACK4[:1]),
    )


def _beyond_loopback6() -> tuple[bytes, ...]:
    return (
        _meta(_META_NFPROTO),
        _compare(_EQUAL, bytes((IPV6,))),
        _payload(_NETWORK_HEADER, 24, 16),
        _compare(_NOT_EQUAL, _LOOPBACK6),
    )


def _redirect(port: int) -> tuple[bytes, ...]:
    immediate = _number(1, _REGISTER) + _attribute(2 | _NESTED, _attribute(1, struct.pack(">H", port)))
    return _expression(b"immediate\0", immediate), _expression(b"redir\0", _number(1, _REGISTER))


def _refuse() -> bytes:
    return _expression(b"reject\0", _number(1, _REJECT_ICMPX) + _attribute(2, bytes((_ADMINISTRATIVELY,))))


def _meta(key: int) -> bytes:
    return _expression(b"meta\0", _number(1, _REGISTER) + _number(2, key))


def _payload(base: int, offset: int, length: int) -> bytes:
    return _expression(b"payload\0", _number(1, _REGISTER) + _number(2, base) + _number(3, offset) + _number(4, length))


def _compare(operation: int, value: bytes) -> bytes:
    return _expression(
        b"cmp\0", _number(1, _REGISTER) + _number(2, operation) + _attribute(3 | _NESTED, _attribute(1, value))
    )


def _expression(name: bytes, data: bytes) -> bytes:
    return _attribute(1, name) + _attribute(2 | _NESTED, data)


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack(">I", value))


# Framing


def _change(kind: int, sequence: int, attributes: bytes) -> bytes:
    body = struct.pack(">BBH", _ANY_FAMILY, 0, 0) + attributes
    return _message(_SUBSYSTEM << 8 | kind, _REQUEST | _ACK | _CREATE | _APPEND, sequence, body)


def _batch(kind: int, sequence: int) -> bytes:
    return _message(kind, _REQUEST, sequence, struct.pack(">BBH", 0, 0, _SUBSYSTEM))


def _message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    return _HEAD.pack(_HEAD.size + len(body), kind, flags, sequence, 0) + body


def _attribute(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(_padded(length) - length)


def _padded(length: int) -> int:
    return (length + 3) & ~3
