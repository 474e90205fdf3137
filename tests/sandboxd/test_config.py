"""sandboxd's settings: what is needed, what is refused, and a documentation that says the same."""

from pathlib import Path

import pytest

from sallyport.settings import ConfigError
from sandboxd.config import GATEWAY, describe_settings, load_config
from tests.support.setting_rows import documented, row

BASE = Path("/srv")
NEEDED = {"SALLYPORT_GATEWAY_URL": "wss://gateway.example.com", "SALLYPORT_TOKEN_FILE": "token"}


def test_two_settings_are_enough() -> None:
    config = load_config(NEEDED, BASE)
    assert str(config.gateway) == "wss://gateway.example.com:443"
    assert config.tokens == BASE / "token"
    assert str(config.listen) == "127.0.0.1:3129"
    assert (config.timeouts.hold, config.limits.connections) == (5.0, 1024)


def test_the_variables_of_the_contract() -> None:
    config = load_config(
        {
            "SALLYPORT_GATEWAY_URL": "ws://127.0.0.1:8443/v1/tunnel",
            "SALLYPORT_TOKEN_FILE": "/run/token",
            "SALLYPORT_GATEWAY_CA_FILE": "/run/ca.pem",
            "SALLYPORT_STATE_DIR": "/run/state",
            "SALLYPORT_LISTEN": "[::1]:0",
            "SALLYPORT_INTERCEPTION_PASSTHROUGH_HOSTS": "a.test, *.b.test",
            "SALLYPORT_SOMETHING_ELSE": "of another program",
        },
        BASE,
    )
    assert (config.gateway.is_secure, config.gateway.authority) == (False, "127.0.0.1:8443")
    assert (config.gateway_ca_file, config.state_dir) == (Path("/run/ca.pem"), Path("/run/state"))
    assert [str(pattern) for pattern in config.interception.passthrough_hosts] == ["a.test", "*.b.test"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("wss://Gateway.example.com/", "wss://gateway.example.com:443"),
        ("wss://[2001:db8::1]:8443", "wss://[2001:db8::1]:8443"),
        ("ws://localhost", "ws://localhost:80"),
        ("ws://[::1]:1", "ws://[::1]:1"),
    ],
)
def test_where_a_gateway_can_be(text: str, shown: str) -> None:
    assert str(GATEWAY.parse(text, BASE)) == shown


@pytest.mark.parametrize(
    "text",
    [
        *("https://g.test", "g.test:8443", "wss://", "wss://u:p@g.test", "wss://g.test/x", "wss://g.test?a"),
        *("ws://g.test", "ws://10.0.0.1:1", "wss://g.test:0", "wss://127.1"),
    ],
)
def test_what_is_no_gateway(text: str) -> None:
    with pytest.raises(ValueError, match=r"write|refused"):
        GATEWAY.parse(text, BASE)


def test_inherited_sockets_are_numbers_of_descriptors() -> None:
    config = load_config(NEEDED | {"SALLYPORT_REDIRECT_CONNECTIONS": "7,8", "SALLYPORT_REDIRECT_QUESTIONS": "9"}, BASE)
    assert (config.redirect.connections, config.redirect.questions) == ((7, 8), (9,))
    for value in ("2", "-3", "x", "3.0", "9999999"):
        with pytest.raises(ConfigError, match="SALLYPORT_REDIRECT_CONNECTIONS"):
            load_config(NEEDED | {"SALLYPORT_REDIRECT_CONNECTIONS": value}, BASE)
    with pytest.raises(ConfigError, match="SALLYPORT_REDIRECT_CONNECTIONS: is needed as well"):
        load_config(NEEDED | {"SALLYPORT_REDIRECT_QUESTIONS": "9"}, BASE)


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as refused:
        load_config({"SALLYPORT_LISTEN": "0.0.0.0:3129", "SALLYPORT_TIMEOUTS_HOLDD": "1s"}, BASE)
    assert {issue.pointer for issue in refused.value.issues} == {
        "SALLYPORT_GATEWAY_URL",
        "SALLYPORT_TOKEN_FILE",
        "SALLYPORT_LISTEN",
        "SALLYPORT_TIMEOUTS_HOLDD",
    }
    with pytest.raises(ConfigError) as refused:
        load_config(NEEDED | {"SALLYPORT_GATEWAY_URL": "gateway"}, BASE)
    assert len(refused.value.issues) == 1


def test_the_documentation_has_a_row_for_each_setting_and_no_other() -> None:
    assert documented("sandboxd") == [row(named) for named in describe_settings()]


def test_every_setting_says_what_it_means_and_why() -> None:
    for named in describe_settings():
        assert named.setting.meaning.endswith("."), named.name
        assert named.setting.reason.endswith("."), named.name
