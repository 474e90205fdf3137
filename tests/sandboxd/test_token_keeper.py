"""The token file, what is kept beside it, and what is never written. The conversation is test_tunnel_client.py."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sandboxd.log import Log
from sandboxd.token_keeper import STATE_NAME, TokenFileError, TokenKeeper, make_state_dir

NOW = 1_800_000_000.0

type Make = Callable[[], TokenKeeper]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    return lambda: TokenKeeper(tmp_path / "token", tmp_path, Log("error"))


def answer(name: str) -> dict[str, object]:
    return {
        "requestId": f"for {name}",
        "token": name,
        "expiresAt": int(NOW) + 900,
        "renewalToken": f"{name}-renewal",
        "renewalExpiresAt": int(NOW) + 86400,
    }


def test_a_file_is_read_once_and_again_when_it_is_another(tmp_path: Path, make: Make) -> None:
    keeper = make()
    (tmp_path / "token").write_text("one")
    assert keeper.read(NOW)
    assert not keeper.read(NOW)
    (tmp_path / "token").touch()
    assert not keeper.read(NOW), "it holds what it held"
    (tmp_path / "token").write_text("three")
    assert keeper.read(NOW)
    assert keeper.renewal.tokens.token == "three"


def test_a_file_that_cannot_be_used_leaves_what_there_is(tmp_path: Path, make: Make) -> None:
    keeper = make()
    with pytest.raises(TokenFileError, match="No such file"):
        keeper.read(NOW)
    (tmp_path / "token").write_text("one")
    keeper.read(NOW)
    (tmp_path / "token").write_text("two canaries")
    with pytest.raises(TokenFileError) as refused:
        keeper.read(NOW)
    assert "canar" not in str(refused.value)
    assert keeper.renewal.tokens.token == "one"


def test_only_the_renewal_token_is_kept_and_only_for_its_own_file(tmp_path: Path, make: Make) -> None:
    (tmp_path / "token").write_text("one")
    keeper = make()
    keeper.read(NOW)
    keeper.answered(answer("two"), NOW)
    kept = (tmp_path / STATE_NAME).read_bytes()
    assert (tmp_path / STATE_NAME).stat().st_mode & 0o777 == 0o600
    assert b'"two"' not in kept
    assert b'"one"' not in kept
    again = make()
    again.read(NOW)
    assert (again.renewal.tokens.token, again.renewal.tokens.renewal) == ("one", "two-renewal")
    (tmp_path / "token").write_text(json.dumps({"token": "other", "renewalToken": "brought"}))
    assert again.read(NOW)
    assert again.renewal.tokens.renewal == "brought"


@pytest.mark.parametrize("kept", [b"", b"{", b"[]", b'{"source": 1}', b"\xff", b'{"renewalToken": "x y"}'])
def test_a_state_file_that_is_none_is_passed_over(tmp_path: Path, make: Make, kept: bytes) -> None:
    (tmp_path / "token").write_text("one")
    (tmp_path / STATE_NAME).write_bytes(kept)
    keeper = make()
    assert keeper.read(NOW)
    assert keeper.renewal.tokens.renewal == ""


def test_a_disk_that_is_full_loses_no_token_in_memory(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "token").write_text("one")
    keeper = make()
    keeper.read(NOW)
    monkeypatch.setattr("sandboxd.token_keeper.replace_file", full)
    keeper.answered(answer("two"), NOW)
    assert keeper.renewal.tokens.token == "two"
    assert "renewal_token_not_kept" in capsys.readouterr().err


def test_others_may_enter_the_state_directory(tmp_path: Path) -> None:
    make_state_dir(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o755
    make_state_dir(tmp_path / "a" / "b")
