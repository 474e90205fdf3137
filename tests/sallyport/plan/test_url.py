import ipaddress
from collections.abc import Callable
from typing import Any

import pytest

from sallyport.destination import DEFAULT_PORTS, Destination
from sallyport.plan.url import Url, UrlError, split_url


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://api.example.com", Url(Destination("https", "api.example.com", 443), "", None)),
        ("HTTP://API.example.com:0080/x?", Url(Destination("http", "api.example.com", 80), "/x", "")),
        ("wss://[::1]:8443/x/../y?a=?&b", Url(Destination("https", "::1", 8443), "/x/../y", "a=?&b")),
        ("ws://localhost", Url(Destination("http", "localhost", 80), "", None)),
    ],
)
def test_a_url_comes_apart(text: str, expected: Url) -> None:
    assert split_url(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "api.example.com",
        "//api.example.com",
        "https:/api.example.com",
        "https://",
        "ftp://api.example.com",
        "https://api.example.com#x",
        "https://api.example.com/#",
        "https://api.example.com/ x",
        "https://api.example.com/ü",
        "https://api.example.com/\n",
        "https://api.example.com:0",
        "https://api.example.com\\@evil.test",
        pytest.param("https://user:hunter2@api.example.com", id="P6-userinfo"),
    ],
)
def test_other_urls_are_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(UrlError) as refused:
        split_url(text)
    assert "hunter2" not in str(refused.value)


def test_every_url_we_accept_names_the_host_and_port_that_browsers_read(corpus: Callable[[str], Any]) -> None:
    """H3, H6: where the WHATWG parser fails or reads another host, we refuse."""
    accepted = 0
    for case in corpus("urltestdata.json"):
        if isinstance(case, str):
            continue
        try:
            destination = split_url(case["input"]).destination
        except UrlError:
            continue
        accepted += 1
        assert "failure" not in case, case["input"]
        port = int(case["port"] or DEFAULT_PORTS[destination.scheme])
        assert (destination.host, destination.port) == (case["hostname"].strip("[]"), port), case["input"]
    assert accepted > 50


def test_no_url_reaches_an_address_by_an_ambiguous_spelling(corpus: Callable[[str], Any]) -> None:
    """H6: an address is accepted in its one canonical form only, so that the address policy sees it."""
    addresses = 0
    for case in corpus("ssrf_patt_urls.json"):
        try:
            host = split_url(case["url"]).destination.host
        except UrlError:
            continue
        if ":" in host or host.rpartition(".")[2][:1].isdigit():
            addresses += 1
            assert str(ipaddress.ip_address(host)) == host, case["url"]
    assert addresses > 0
