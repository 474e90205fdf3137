"""Values of settings that several parts have: an address to listen on, patterns of hosts, networks."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import NamedTuple

from sallyport.host import HostError, HostPattern, normalize_host, parse_host_pattern
from sallyport.settings import Kind


class HostPort(NamedTuple):
    """A host and port as an operator wrote them, normalized; port 0 on a listener means any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _parse_listen(value: object, _: Path) -> HostPort:
    if not isinstance(value, str):
        raise ValueError("write host:port, such as 127.0.0.1:3128")
    host, _colon, port = value.rpartition(":")
    if re.fullmatch("[0-9]{1,5}", port) is None or int(port) > 65535:
        raise ValueError(f"{value!r} has no port; write host:port, such as 127.0.0.1:3128")
    if ":" in host and not host.startswith("["):
        raise ValueError(f"{value!r} is ambiguous; write an IPv6 address in brackets, such as [::1]:3128")
    return HostPort(_host(host), int(port))


def _parse_pattern(value: object, _: Path) -> HostPattern:
    try:
        return parse_host_pattern(str(value))
    except HostError as error:
        raise ValueError(f"{value!r} is not a host or *.host; {error}") from None


def _parse_network(value: object, _: Path) -> IPv4Network | IPv6Network:
    try:
        return ip_network(str(value))
    except ValueError as error:
        raise ValueError(f"{value!r} is not a network; write address/bits, such as 10.0.0.0/8 ({error})") from None


def _host(text: str) -> str:
    try:
        return normalize_host(text)
    except HostError as error:
        raise ValueError(f"{text!r} is not a host; {error}") from None


LISTEN = Kind(_parse_listen, "host:port; port 0 takes any free one")
PATTERN = Kind(_parse_pattern, "host patterns")
NETWORK = Kind(_parse_network, "networks in CIDR notation")
