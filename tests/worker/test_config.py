"""The worker's settings: from the environment alone, every fault at once."""

from pathlib import Path

import pytest

from sallyport.settings import ConfigError
from tests.support.setting_rows import documented, row
from worker.config import describe_settings, inherited, load_config


def test_the_defaults_are_whole(tmp_path: Path) -> None:
    config = load_config({}, tmp_path)
    assert (str(config.listen), config.control.url) == ("127.0.0.1:4200", "http://127.0.0.1:7500")


def test_each_setting_is_a_variable(tmp_path: Path) -> None:
    environment = {"SALLYPORT_WORKER_CONTROL_TOKEN_FILE": "token", "SALLYPORT_WORKER_TIMEOUTS_SETUP": "2h"}
    config = load_config(environment, tmp_path)
    assert (config.control.token_file, config.timeouts.setup) == (tmp_path / "token", 7200)


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    environment = {
        "SALLYPORT_WORKER_LISTEN": "0.0.0.0:4200",
        "SALLYPORT_WORKER_TIMEOUTS_SETUP": "soon",
        "SALLYPORT_WORKER_CONTROL_TOKN_FILE": "x",
    }
    with pytest.raises(ConfigError) as caught:
        load_config(environment, tmp_path)
    missing = "SALLYPORT_WORKER_API_URL"
    assert sorted(issue.pointer for issue in caught.value.issues) == sorted([*environment, missing])


def test_it_leaves_loopback_only_by_tls(tmp_path: Path) -> None:
    abroad = {"SALLYPORT_WORKER_LISTEN": "0.0.0.0:4200", "SALLYPORT_WORKER_API_URL": "https://worker.test"}
    certificate = {"SALLYPORT_WORKER_TLS_CERTIFICATE_FILE": "worker.pem"}
    key = {"SALLYPORT_WORKER_TLS_KEY_FILE": "worker.key"}
    with pytest.raises(ConfigError, match="off loopback the API needs tls"):
        load_config(abroad, tmp_path)
    with pytest.raises(ConfigError, match="write both certificate_file and key_file"):
        load_config({**abroad, **key}, tmp_path)
    config = load_config({**abroad, **certificate, **key}, tmp_path)
    assert (config.tls.key_file, config.tokens.issuer) == (tmp_path / "worker.key", "sallyport")
    assert config.api_url == "https://worker.test:443"
    del abroad["SALLYPORT_WORKER_API_URL"]
    with pytest.raises(ConfigError, match="write the https:// name that the certificate of tls has"):
        load_config({**abroad, **certificate, **key}, tmp_path)


def test_the_front_leaves_loopback_only_by_tls(tmp_path: Path) -> None:
    front = "SALLYPORT_WORKER_FRONT"
    abroad = {f"{front}_LISTEN": "0.0.0.0:4201", f"{front}_KEYS_FILE": "keys"}
    with pytest.raises(ConfigError, match="off loopback the front needs"):
        load_config(abroad, tmp_path)
    alone = load_config({f"{front}_LISTEN": "127.0.0.1:4201"}, tmp_path).front
    assert (alone.keys_file, alone.keys_stale) == (None, 60.0)
    with pytest.raises(ConfigError, match="write both certificate_file and key_file"):
        load_config({f"{front}_TLS_KEY_FILE": "k"}, tmp_path)
    whole = abroad | {f"{front}_TLS_CERTIFICATE_FILE": "c", f"{front}_TLS_KEY_FILE": "k"}
    with pytest.raises(ConfigError, match=r"the certificate of front.tls has"):
        load_config(whole, tmp_path)
    whole |= {f"{front}_URL": "https://front.test"}
    assert load_config(whole | {f"{front}_ALLOWED_HOSTS": "a.test, b.test"}, tmp_path).front.allowed_hosts == (
        "a.test",
        "b.test",
    )


def test_a_gateway_for_integration_servers_is_named_with_its_ca(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name the CA as well"):
        load_config({"SALLYPORT_WORKER_INTEGRATIONS_PROXY": "http://127.0.0.1:3128"}, tmp_path)


def test_the_environment_is_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "x")
    assert inherited()["A_SECRET"] == "x"


def test_the_documentation_has_a_row_for_each_setting_and_no_other() -> None:
    assert documented("the worker") == [row(named) for named in describe_settings()]


def test_every_setting_says_what_it_is_for() -> None:
    assert all(named.setting.meaning and named.setting.reason for named in describe_settings())
