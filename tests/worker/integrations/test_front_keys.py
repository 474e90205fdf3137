"""Keys of a file: by digest, read anew, closed when it cannot be read."""

import hashlib
import os
from pathlib import Path

import pytest

from worker.integrations.front_keys import Caller, KeyFile

ADMIN, STANDARD = f"sp_sk_{'a' * 64}", f"sp_sk_{'b' * 64}"


def line(name: str, tier: str, key: str) -> str:
    return f"{name} {tier} {hashlib.sha256(key.encode()).hexdigest()}\n"


def test_a_key_is_found_by_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("# ours\n\n" + line("ops", "admin", ADMIN) + line("all", "standard", STANDARD))
    keys = KeyFile(path)
    assert keys.find(ADMIN) == Caller(name="ops", tier="admin")
    assert keys.find(STANDARD) == Caller(name="all", tier="standard")
    for other in ("", "x", f"sp_sk_{'c' * 64}", ADMIN + "a", ADMIN.upper(), "sp_sk_\udcff"):
        assert keys.find(other) is None
    assert repr(keys) == "<KeyFile 2 keys>"


def test_a_changed_file_is_read_anew_and_one_that_is_gone_opens_nothing(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(line("ops", "admin", ADMIN))
    keys = KeyFile(path)
    path.write_text(line("other", "standard", STANDARD) + "# longer\n")
    assert (keys.find(ADMIN), keys.find(STANDARD) is not None) == (None, True)
    path.write_text("nonsense")
    assert keys.find(STANDARD) is None
    path.write_text(line("ops", "admin", ADMIN))
    assert keys.find(ADMIN) is not None
    os.unlink(path)
    assert keys.find(ADMIN) is None


def test_a_faulty_line_is_told_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(line("ops", "admin", ADMIN) + "ops root 00\n")
    with pytest.raises(ValueError, match="line 2"):
        KeyFile(path)


def test_tiers() -> None:
    standard, admin = Caller(name="a", tier="standard"), Caller(name="b", tier="admin")
    assert [caller.may_call(tier) for caller in (standard, admin) for tier in ("standard", "admin")] == [
        True,
        False,
        True,
        True,
    ]
