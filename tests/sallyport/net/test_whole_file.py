from pathlib import Path

import pytest

from sallyport.net.whole_file import offer_file, replace_file


def test_a_file_takes_the_place_of_the_one_before_with_its_own_mode(tmp_path: Path) -> None:
    path = tmp_path / "a"
    replace_file(path, b"1", mode=0o600)
    replace_file(path, b"2", mode=0o644)
    assert path.read_bytes() == b"2"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_replaced_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="directory"):
        replace_file(tmp_path / "taken", b"x", mode=0o600)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_file_that_cannot_be_written_whole_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sallyport.net.whole_file.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        replace_file(tmp_path / "a", b"x", mode=0o600)
    assert not list(tmp_path.iterdir())


def test_an_offered_file_yields_to_the_one_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a"
    offer_file(path, b"first", mode=0o600)
    offer_file(path, b"second", mode=0o600)
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]
