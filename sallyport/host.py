"""Hosts and host patterns: one spelling for each, everything ambiguous refused (contracts section 1, RFC 3986 3.2.2).

A host here is a lower-case A-label name without its trailing dot, a dotted quad, or a compressed IPv6 address
without brackets. Two hosts are the same exactly when their text is equal.
"""

import enum
import ipaddress
import re
from dataclasses import dataclass

MAX_NAME_LENGTH = 253  # RFC 1035 section 2.3.4: 255 octets on the wire, less the root label and its length

# What nearly every request carries; the last label begins with a letter, so it cannot be read as a number.
_PLAIN_NAME = re.compile(r"(?:[a-z0-9_][a-z0-9_-]{0,62}\.)*[a-z][a-z0-9_-]{0,62}")
# Underscores exist in real names. So do labels that end in a hyphen; one that begins with it reads as an option.
_LABEL = re.compile(r"[a-z0-9_][a-z0-9_-]{0,62}")
# WHATWG URL "ends in a number": resolvers read such names as IPv4 in octal, hex or with fewer parts.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORT = re.compile(r"[0-9]{1,16}")


class HostError(ValueError):
    """A host, authority or host pattern that has no single safe reading. The message never repeats the input."""


def normalize_host(text: str) -> str:
    """Give a host its one spelling; raise HostError where resolvers could disagree about what it names."""
    if _PLAIN_NAME.fullmatch(text) is not None and len(text) <= MAX_NAME_LENGTH:
        return text
    if not text.isascii():
        raise HostError("a host is ASCII: write an international name as A-labels (xn--...)")
    if text.startswith("[") or ":" in text:
        return _normalize_ipv6(text)
    name = text.lower().removesuffix(".")
    _check_labels(name.split("."), len(name))
    if _NUMBER.fullmatch(name.rpartition(".")[2]) is None:
        return name
    if text.endswith("."):
        raise HostError("an IPv4 address has no trailing dot")
    return _normalize_ipv4(name)


def is_loopback(host: str) -> bool:
    """Whether a normalized host is this machine by its own name: `localhost`, an address of 127.0.0.0/8, or ::1."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def split_authority(text: str, default_port: int | None) -> tuple[str, int]:
    """Split `host[:port]` into a normalized host and a port of 1..65535.

    An IPv6 address needs its brackets here. `default_port` answers for an absent port; None demands one.
    Userinfo is refused (egress case P6), and so is a colon with nothing behind it.
    """
    if text.startswith("["):
        host, bracket, rest = text.partition("]")
        if bracket == "":
            raise HostError("an IPv6 address is missing its closing bracket")
        host += bracket
        colon, port = rest[:1], rest[1:]
        if colon not in ("", ":"):
            raise HostError("only a port may follow the closing bracket")
    else:
        host, colon, port = text.partition(":")
        if ":" in port:
            raise HostError("an IPv6 address needs brackets before a port")
    if "@" in text:
        raise HostError("userinfo is not allowed in an authority")
    if colon:
        return normalize_host(host), _parse_port(port)
    if default_port is None:
        raise HostError("a port is required")
    return normalize_host(host), default_port


def _parse_port(text: str) -> int:
    if _PORT.fullmatch(text) is None or not 1 <= int(text) <= 65535:
        raise HostError("a port is a number from 1 to 65535")
    return int(text)


def _normalize_ipv4(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))  # four decimal parts, no leading zeros: nothing else is accepted
    except ValueError:
        raise HostError("a host that ends in a number must be a dotted quad without leading zeros") from None


def _normalize_ipv6(text: str) -> str:
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    if "%" in text:
        raise HostError("an IPv6 zone id is not allowed")
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        raise HostError("not an IPv6 address") from None


def _check_labels(labels: list[str], length: int) -> None:
    if length > MAX_NAME_LENGTH:
        raise HostError(f"a host name has at most {MAX_NAME_LENGTH} characters")
    for label in labels:
        if label == "":
            raise HostError("a host has no empty label")
        if _LABEL.fullmatch(label) is None:
            raise HostError("a label is 1 to 63 letters, digits, '-' or '_', and does not begin with '-'")


class HostPatternKind(enum.Enum):
    """What a host pattern claims: one host, everything below a name, or every host."""

    EXACT = "exact"
    WILDCARD = "wildcard"
    ANY = "any"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPattern:
    """A host pattern; `value` is the host, the name below which a wildcard claims, or "" for every host."""

    kind: HostPatternKind
    value: str

    def matches(self, host: str) -> bool:
        """Say whether a normalized host is claimed. `*.x` claims what is below x and not x itself."""
        if self.kind is HostPatternKind.ANY:
            return True
        if self.kind is HostPatternKind.EXACT:
            return host == self.value
        return host.endswith(f".{self.value}")

    def __str__(self) -> str:
        if self.kind is HostPatternKind.ANY:
            return "*"
        return self.value if self.kind is HostPatternKind.EXACT else f"*.{self.value}"


def parse_host_pattern(text: str) -> HostPattern:
    """Read `host`, `*.name` or `*`; raise HostError for anything else. The value is normalized."""
    if text == "*":
        return HostPattern(kind=HostPatternKind.ANY, value="")
    if not text.startswith("*."):
        return HostPattern(kind=HostPatternKind.EXACT, value=normalize_host(text))
    name = normalize_host(text[2:])
    if ":" in name or _NUMBER.fullmatch(name.rpartition(".")[2]) is not None:
        raise HostError("a wildcard stands before a name, not before an address")
    return HostPattern(kind=HostPatternKind.WILDCARD, value=name)
