import shlex
import stat
import sys
from pathlib import Path

import pytest

from control_plane.vault.master_keys import (
    KeyCommand,
    KeyText,
    MasterKeyError,
    add_master_key,
    make_master_keys,
    read_master_keys,
)
from sallyport.secret import Secret

KEY = "A" * 43


def write(path: Path, content: str, mode: int = 0o600) -> Path:
    path.write_text(content, encoding="ascii")
    path.chmod(mode)
    return path


def test_a_file_is_made_for_its_owner_alone_and_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "master.keys"
    make_master_keys(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_master_keys(path).newest == 1
    with pytest.raises(FileExistsError):
        make_master_keys(path)


def test_a_key_is_added_and_the_older_stay(tmp_path: Path) -> None:
    path = tmp_path / "master.keys"
    make_master_keys(path)
    assert add_master_key(path) == 2
    keys = read_master_keys(path)
    assert keys.newest == 2
    assert keys.find(1) is not None
    assert keys.find(3) is None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert repr(keys) == "<MasterKeys 1, 2>"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(MasterKeyError, match="others may read") as caught:
        read_master_keys(write(tmp_path / "keys", f"1 {KEY}\n", mode))
    assert "chmod 600" in caught.value.hint


@pytest.mark.parametrize(
    "content",
    [
        "",
        "# nothing\n",
        "nonsense\n",
        f"0 {KEY}\n",
        f"1 {KEY}\n1 {KEY}\n",
        f"1 {KEY[:-1]}\n",
        f"1 {KEY}x\n",
        f"1  {KEY}\n",
        "1 " + "?" * 43 + "\n",
        "1 " + "x" * 70_000,
    ],
)
def test_what_is_no_file_of_keys_is_refused_and_not_quoted(tmp_path: Path, content: str) -> None:
    with pytest.raises(MasterKeyError) as caught:
        read_master_keys(write(tmp_path / "keys", content))
    assert KEY[:-1] not in str(caught.value)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(MasterKeyError, match="keygen"):
        read_master_keys(tmp_path / "none")


def python(code: str, timeout_seconds: float = 30.0) -> KeyCommand:
    """Return a command that runs some Python."""
    return KeyCommand(shlex.join([sys.executable, "-c", code]), timeout_seconds)


def test_a_variable_holds_keys_too() -> None:
    source = KeyText(Secret(f"1 {KEY}, 2 {KEY}".encode()))
    assert repr(read_master_keys(source)) == "<MasterKeys 1, 2>"
    assert KEY not in repr(source)
    with pytest.raises(MasterKeyError, match="SALLYPORT_MASTER_KEY: line 1") as caught:
        read_master_keys(KeyText(Secret(KEY.encode())))
    assert KEY not in str(caught.value)


def test_a_command_prints_them(tmp_path: Path) -> None:
    make_master_keys(tmp_path / "keys")
    assert repr(read_master_keys(KeyCommand(shlex.join(["cat", str(tmp_path / "keys")]), 30.0))) == "<MasterKeys 1>"


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (python("import sys; sys.exit(3)"), "ended with status 3"),
        (python(f"import sys; sys.exit('access denied for {KEY}')"), "status 1: access denied for ..."),
        (python("import sys; sys.exit('a\\nb\\0' + ' x' * 999)"), "status 1: "),
        (python("print('nonsense')"), "line 1 is not"),
        (python("print('1 ' + 'x' * 70_000)"), "larger than 64 KiB"),
        (python("pass"), "holds no key"),
        (python("input()"), "ended with status 1"),  # nobody types anything
        (python("import time; time.sleep(60)", 0.1), "did not end within 0.1 s"),
        (KeyCommand("/nowhere/kms", 1.0), "cannot be run: No such file"),
        (KeyCommand("kms 'a", 1.0), "quotes"),
    ],
)
def test_a_command_that_fails_says_why_and_never_a_key(source: KeyCommand, told: str) -> None:
    with pytest.raises(MasterKeyError) as caught:
        read_master_keys(source)
    assert told in str(caught.value)
    assert str(caught.value).startswith("SALLYPORT_MASTER_KEY_COMMAND: ")
    assert KEY not in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 700
