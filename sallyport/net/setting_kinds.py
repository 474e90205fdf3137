"""Values of settings that several parts have: addresses to listen on and to be reached at, ids, patterns, networks."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from sallyport.host import HostError, HostPattern, normalize_host, parse_host_pattern, split_authority
from sallyport.net.loopback import LoopbackError, loopback_addresses
from sallyport.settings import Kind

# Also an id of contracts section 1: prefixed words.
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")


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


def _parse_base_url(value: object, _: Path) -> str:
    parts = urlsplit(str(value))
    if parts.username is not None or parts.password is not None:
        # The value itself is not repeated: it holds a password.
        raise ValueError("a URL with user and password is not supported; remove them")
    if parts.scheme not in ("http", "https") or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"{value!r} is not a base URL; write https://host or https://host:port")
    try:
        host, port = split_authority(parts.netloc, 443 if parts.scheme == "https" else 80)
    except HostError as error:
        raise ValueError(f"{value!r} is not a base URL; {error}") from None
    if parts.scheme == "http":
        # Tokens and credentials go this way.
        try:
            loopback_addresses(host)
        except LoopbackError:
            raise ValueError(f"{value!r} is cleartext off loopback; write https://") from None
    return f"{parts.scheme}://{HostPort(host, port)}"


def _parse_part_id(value: object, _: Path) -> str:
    if not isinstance(value, str) or _WORD.fullmatch(value) is None:
        raise ValueError("write 1 to 128 letters, digits, `_`, `.`, `:` or `-`, beginning with a letter or digit")
    return value


def _host(text: str) -> str:
    try:
        return normalize_host(text)
    except HostError as error:
        raise ValueError(f"{text!r} is not a host; {error}") from None


LISTEN = Kind(_parse_listen, "host:port; port 0 takes any free one")
PATTERN = Kind(_parse_pattern, "host patterns")
NETWORK = Kind(_parse_network, "networks in CIDR notation")
BASE_URL = Kind(_parse_base_url, "https://host[:port]; http:// on loopback only")
PART_ID = Kind(_parse_part_id, "1 to 128 letters, digits, `_`, `.`, `:`, `-`")
