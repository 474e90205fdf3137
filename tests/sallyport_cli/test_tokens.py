from pathlib import Path

import pytest

from tests.support.command import call


@pytest.fixture
def key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert call(capsys, "token", "keygen", "--out", tmp_path / "keys").status == 0
    return tmp_path / "keys" / "private.pem"


def test_mint_prints_the_token_and_nothing_else(key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = call(capsys, "token", "mint", "--key", key, "--sandbox", "sbx_1", "--org", "org_1")
    assert outcome.status == 0
    assert outcome.err == ""
    assert outcome.out.count(".") == 2
    assert outcome.out == outcome.out.strip() + "\n"


def test_mint_as_json(key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = call(capsys, "token", "mint", "--key", key, "--sandbox", "sbx_1", "--org", "org_1", "--json")
    assert set(outcome.json()) == {"token", "tokenId", "expiresAt"}


def test_keygen_says_what_each_file_is_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = call(capsys, "token", "keygen", "--out", tmp_path / "k")
    assert "private.pem" in outcome.out
    assert "tokens: {public_key:" in outcome.out
    assert "PRIVATE KEY" not in outcome.out


def test_keygen_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = call(capsys, "token", "keygen", "--out", tmp_path / "k", "--json").json()
    assert Path(document["public"]).is_file()


def test_a_folder_with_keys_is_left_alone(key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = call(capsys, "token", "keygen", "--out", key.parent)
    assert outcome.status == 3
    assert "exists already" in outcome.err


def test_a_bad_ttl(key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = call(capsys, "token", "mint", "--key", key, "--sandbox", "s", "--org", "o", "--ttl", "1")
    assert outcome.status == 2
    assert "--ttl" in outcome.err
