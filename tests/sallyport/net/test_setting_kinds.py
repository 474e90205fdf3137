"""Addresses to listen on, host patterns and networks, as settings write them."""

from ipaddress import ip_network
from pathlib import Path

import pytest

from sallyport.net.setting_kinds import LISTEN, NETWORK, PATTERN
from sallyport.settings import Kind

BASE = Path("/etc/sallyport")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:3128", ("127.0.0.1", 3128)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:9900", ("::1", 9900)),
        ("0.0.0.0:65535", ("0.0.0.0", 65535)),
    ],
)
def test_listeners(text: str, address: tuple[str, int]) -> None:
    found = LISTEN.parse(text, BASE)
    assert found == address
    assert str(found) == text


@pytest.mark.parametrize(
    "value", [3128, "3128", ":3128", "127.0.0.1", "127.1:80", "a b:1", "host:65536", "::1:80", None]
)
def test_what_is_no_listener(value: object) -> None:
    with pytest.raises(ValueError, match=r"write host:port|is not a host|in brackets"):
        LISTEN.parse(value, BASE)


def test_patterns() -> None:
    assert str(PATTERN.parse("*.Example.com", BASE)) == "*.example.com"
    with pytest.raises(ValueError, match="is not a host"):
        PATTERN.parse("a*.example.com", BASE)


def test_networks_name_the_host_bits() -> None:
    assert NETWORK.parse("10.0.0.0/8", BASE) == ip_network("10.0.0.0/8")
    assert NETWORK.parse("::1", BASE) == ip_network("::1/128")
    with pytest.raises(ValueError, match=r"has host bits set"):
        NETWORK.parse("10.0.0.1/8", BASE)


@pytest.mark.parametrize("kind", [LISTEN, NETWORK, PATTERN])
def test_each_kind_says_what_it_takes(kind: Kind[object]) -> None:
    assert kind.bounds
