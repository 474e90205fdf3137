"""The settings of an embedded client: from the environment alone, every fault at once, no secret in any word."""

from pathlib import Path

import pytest

from control_client.config import describe_settings, load_config
from sallyport.secret import Secret
from sallyport.settings import ConfigError
from tests.support.setting_rows import documented, row


def test_the_defaults_are_whole(tmp_path: Path) -> None:
    config = load_config({}, tmp_path)
    assert (config.client.url, config.client.poll, config.client.grace) == ("http://127.0.0.1:7500", 900, 10)
    assert (config.api_key.standard, config.api_key.admin, config.client.state_dir) == (None, None, None)


def test_each_setting_is_a_variable_and_keys_have_an_older_name(tmp_path: Path) -> None:
    config = load_config(
        {
            "SALLYPORT_API_KEY_STANDARD": "ours",
            "INFRASTRACTURE_API_KEY_STANDARD": "older",
            "INFRASTRACTURE_API_KEY_ADMIN": "admin",
            "WEBHOOK_CLIENT_SECRET": "push",
            "SALLYPORT_CLIENT_USER_ID": "42",
            "SALLYPORT_PLANS": "another part's",
        },
        tmp_path,
    )
    assert (config.api_key.standard, config.api_key.admin) == (Secret(b"ours"), Secret(b"admin"))
    assert (config.push_secret.standard, config.push_secret.admin) == (Secret(b"push"), None)
    assert config.client.user_id == "42"
    assert "ours" not in repr(config)


def test_every_fault_is_told_at_once_and_no_secret(tmp_path: Path) -> None:
    environment = {
        "SALLYPORT_API_KEY_STANDARD": "a secret with spaces",
        "SALLYPORT_API_KEY_ADMIN": "größe",
        "SALLYPORT_CLIENT_POLL": "soon",
        "SALLYPORT_CLIENT_URL": "control:7500",
        "SALLYPORT_CLIENT_POL": "1s",
        "SALLYPORT_PUSH_SECRET_STANDARD": "same",
        "SALLYPORT_PUSH_SECRET_ADMIN": "same",
    }
    with pytest.raises(ConfigError) as caught:
        load_config(environment, tmp_path)
    assert sorted(issue.pointer for issue in caught.value.issues) == sorted(
        name for name in environment if name != "SALLYPORT_PUSH_SECRET_STANDARD"
    )
    assert "spaces" not in str(caught.value)
    assert "größe" not in str(caught.value)


def test_the_documentation_has_a_row_for_each_setting_and_no_other() -> None:
    assert documented("the client") == [row(named) for named in describe_settings()]


def test_every_setting_says_what_it_is_for() -> None:
    assert all(named.setting.meaning and named.setting.reason for named in describe_settings())
