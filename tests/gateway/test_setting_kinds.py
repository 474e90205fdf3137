"""The values of gateway settings: addresses, patterns, networks, credential places."""

from pathlib import Path

import pytest

from gateway.setting_kinds import (
    AUDIT_PATH,
    CONNECT_TO,
    CREDENTIAL,
    PROXY,
    EnvironmentPlace,
    FilePlace,
)
from sallyport.net.setting_kinds import HostPort
from sallyport.settings import Kind

BASE = Path("/etc/sallyport")


def test_connect_to_normalizes_both_sides() -> None:
    pair = CONNECT_TO.parse(("API.example.com:443", "[::1]:8443"), BASE)
    assert pair == (HostPort("api.example.com", 443), HostPort("::1", 8443))


def test_a_proxy_is_http_without_a_password() -> None:
    assert PROXY.parse("http://proxy.example.com:3128", BASE) == ("proxy.example.com", 3128)
    for value in ("https://proxy.example.com:1", "proxy.example.com:1", "http://p.example.com:1/x", "http://p"):
        with pytest.raises(ValueError, match="not"):
            PROXY.parse(value, BASE)
    with pytest.raises(ValueError, match="remove them") as refused:
        PROXY.parse("http://user:canary@proxy.example.com:1", BASE)
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        (("con_1", {"env": "KEY"}), (("con_1",), EnvironmentPlace(variable="KEY"))),
        (("con_1/api_key", {"file": "k"}), (("con_1", "api_key"), FilePlace(path=BASE / "k"))),
        (("con_1/api_key/b", "env:KEY"), (("con_1", "api_key", "b"), EnvironmentPlace(variable="KEY"))),
        (("con_1", "file:/run/k"), (("con_1",), FilePlace(path=Path("/run/k")))),
    ],
)
def test_credential_places(pair: object, expected: object) -> None:
    assert CREDENTIAL.parse(pair, BASE) == expected


@pytest.mark.parametrize(
    "pair",
    [
        ("con_1", "canary"),
        ("con_1", {"value": "canary"}),
        ("con_1", {"env": "canary value"}),
        ("con_1", {"env": "A", "file": "canary"}),
        ("con_1", {"file": ["canary"]}),
        ("con_1", None),
        ("", {"env": "A"}),
        ("a/b/c/d", {"env": "A"}),
        ("a//c", {"env": "A"}),
    ],
)
def test_a_wrong_credential_entry_is_never_quoted(pair: object) -> None:
    with pytest.raises(ValueError, match="write") as refused:
        CREDENTIAL.parse(pair, BASE)
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(("value", "kept"), [("-", "-"), ("off", "off"), ("audit.log", "/etc/sallyport/audit.log")])
def test_audit_paths(value: str, kept: str) -> None:
    assert AUDIT_PATH.parse(value, BASE) == kept


@pytest.mark.parametrize("kind", [CONNECT_TO, PROXY, CREDENTIAL, AUDIT_PATH])
def test_each_kind_says_what_it_takes(kind: Kind[object]) -> None:
    assert kind.bounds
