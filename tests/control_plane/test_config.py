from pathlib import Path

import pytest

from control_plane.config import describe_settings, load_config, process_environment
from control_plane.vault.master_keys import KeyCommand, KeyText
from sallyport.secret import Secret
from sallyport.settings import ConfigError
from tests.support.setting_rows import documented, row


def test_everything_has_a_default(tmp_path: Path) -> None:
    config = load_config({}, tmp_path)
    assert config.data_dir == tmp_path / "sallyport-data"
    assert config.database == f"sqlite:///{tmp_path}/sallyport-data/control-plane.db"
    assert config.master_keys == tmp_path / "sallyport-data" / "master.keys"
    assert config.is_embedded
    assert str(config.api.listen) == "127.0.0.1:7500"
    assert config.tokens_issuer == "sallyport"


def test_variables(tmp_path: Path) -> None:
    variables = {
        "SALLYPORT_DATABASE_URL": "postgresql://u@h/d",
        "SALLYPORT_MASTER_KEY_FILE": "keys/master",
        "SALLYPORT_TOKENS_ISSUER": "here",
        "SALLYPORT_API_LISTEN": "0.0.0.0:80",
    }
    config = load_config(variables, tmp_path)
    assert config.database == "postgresql://u@h/d"
    assert config.master_keys == tmp_path / "keys" / "master"
    assert not config.is_embedded
    assert (config.tokens_issuer, str(config.api.listen)) == ("here", "0.0.0.0:80")


def test_master_keys_are_in_one_place(tmp_path: Path) -> None:
    by_text = load_config({"SALLYPORT_MASTER_KEY": "1 canary"}, tmp_path)
    assert isinstance(by_text.master_keys, KeyText)
    assert "canary" not in repr(by_text)
    by_command = load_config(
        {"SALLYPORT_MASTER_KEY_COMMAND": "kms get", "SALLYPORT_MASTER_KEY_TIMEOUT": "5s"}, tmp_path
    )
    assert by_command.master_keys == KeyCommand("kms get", 5.0)
    assert not by_text.is_embedded
    assert not by_command.is_embedded
    with pytest.raises(ConfigError, match="in one place"):
        load_config({"SALLYPORT_MASTER_KEY": "1 canary", "SALLYPORT_MASTER_KEY_FILE": "keys"}, tmp_path)


def test_where_browsers_come_back_to(tmp_path: Path) -> None:
    assert load_config({}, tmp_path).public_url == "http://127.0.0.1:7500"
    given = {"SALLYPORT_API_PUBLIC_URL": "https://sallyport.example.com/"}
    assert load_config(given, tmp_path).public_url == "https://sallyport.example.com"
    for wrong in ("sallyport.example.com", "https://h/path", "https://h/?q", "ftp://h"):
        with pytest.raises(ConfigError, match="SALLYPORT_API_PUBLIC_URL"):
            load_config({"SALLYPORT_API_PUBLIC_URL": wrong}, tmp_path)


def test_what_is_given_on_the_command_line_wins(tmp_path: Path) -> None:
    variables = {"SALLYPORT_DATA_DIR": "a", "SALLYPORT_API_LISTEN": "127.0.0.1:1"}
    config = load_config(variables, tmp_path, {"data_dir": "b", "api": {"listen": "127.0.0.1:2"}})
    assert (config.data_dir, config.api.listen.port) == (tmp_path / "b", 2)


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    variables = {"SALLYPORT_LOG_LEVEL": "loud", "SALLYPORT_API_LISTEN": "nowhere", "SALLYPORT_API_PORT": "1"}
    with pytest.raises(ConfigError) as caught:
        load_config(variables, tmp_path)
    pointers = {issue.pointer for issue in caught.value.issues}
    assert pointers == {"SALLYPORT_LOG_LEVEL", "SALLYPORT_API_LISTEN", "SALLYPORT_API_PORT"}


def test_the_variables_of_a_gateway_do_not_stop_a_control_plane(tmp_path: Path) -> None:
    gateway = {
        "SALLYPORT_LISTEN_PROXY": "127.0.0.1:3128",
        "SALLYPORT_TOKENS_JWKS": "jwks.json",
        "SALLYPORT_CONTROL_URL": "http://127.0.0.1:7500",
        "SALLYPORT_LOG_LEVEL": "debug",
    }
    assert load_config(gateway, tmp_path).log_level == "debug"


def test_the_keys_of_a_client_do_not_stop_a_control_plane(tmp_path: Path) -> None:
    assert load_config({"SALLYPORT_API_KEY_ADMIN": "sp_sk_a"}, tmp_path) == load_config({}, tmp_path)


def test_a_subscriber_by_the_variables_that_clients_know(tmp_path: Path) -> None:
    assert load_config({"WEBHOOK_CLIENT_SECRET": "canary"}, tmp_path).pushes.configured() == ()
    given = {"WEBHOOK_CLIENT_URL": "https://app.test/x", "WEBHOOK_CLIENT_SECRET": "canary"}
    [client] = load_config(given, tmp_path).pushes.configured()
    assert (client.name, client.url, client.tier, client.instance_id) == (
        "client",
        "https://app.test/x",
        "standard",
        None,
    )
    assert client.secret == Secret(b"canary")
    ours = given | {"SALLYPORT_PUSHES_CLIENT_URL": "http://127.0.0.1:1/", "WEBHOOK_CLIENT_TIER": "admin"}
    config = load_config(ours, tmp_path)
    assert [(each.url, each.tier) for each in config.pushes.configured()] == [("http://127.0.0.1:1/", "admin")]
    assert "canary" not in repr(config)


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"WEBHOOK_CLIENT_URL": "https://app.test/x"}, "a subscriber has a secret"),
        ({"WEBHOOK_CLIENT_URL": "http://app.test/x", "WEBHOOK_CLIENT_SECRET": "canary"}, "https is expected"),
        ({"WEBHOOK_CLIENT_URL": "https://app.test/x", "WEBHOOK_CLIENT_SECRET": "two canaries"}, "not repeated here"),
        ({"WEBHOOK_CLIENT_TIER": "root"}, "SALLYPORT_PUSHES_CLIENT_TIER"),
        ({"SALLYPORT_PUSHES_SUBSCRIBERS": "none.yaml"}, "cannot be read"),
        ({"SALLYPORT_PUSHES_SUBSCRIBERS": "file.yaml"}, "choose another name"),
    ],
)
def test_a_subscriber_that_could_not_be_told_refuses_to_start(
    tmp_path: Path, variables: dict[str, str], told: str
) -> None:
    (tmp_path / "secret").write_text("canary")
    entry = "{name: client, url: https://app.test/x, secretFile: secret}"
    (tmp_path / "file.yaml").write_text(f"subscribers: [{entry}]")
    with pytest.raises(ConfigError) as caught:
        load_config(variables, tmp_path)
    assert told in str(caught.value)
    assert "canar" not in str(caught.value)


def test_the_documentation_has_a_row_for_each_setting_and_no_other() -> None:
    assert documented("the control plane") == [row(named) for named in describe_settings()]


def test_every_setting_says_what_it_is_for() -> None:
    for named in describe_settings():
        assert named.setting.meaning.endswith(".")
        assert named.setting.reason.endswith(".")
    assert "PATH" in process_environment()
