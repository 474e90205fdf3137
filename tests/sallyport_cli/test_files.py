import stat
from pathlib import Path

import pytest

from sallyport_cli import files
from sallyport_cli.failure import ExitStatus, Failure
from sallyport_cli.files import create_file, file_made_whole, read_file, replace_file


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="cannot be read: No such file") as caught:
        read_file(tmp_path / "none")
    assert caught.value.status == ExitStatus.ENVIRONMENT


def test_a_huge_file_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 4)
    (tmp_path / "a").write_bytes(b"12345")
    with pytest.raises(Failure, match="is larger than"):
        read_file(tmp_path / "a")


def test_a_new_file_has_its_mode_and_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "key"
    create_file(path, b"k", mode=0o600)
    assert path.read_bytes() == b"k"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    create_file(tmp_path / "a", b"1", mode=0o600)
    with pytest.raises(Failure, match="exists already"):
        create_file(tmp_path / "a", b"2", mode=0o600)
    assert (tmp_path / "a").read_bytes() == b"1"


def test_a_place_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Failure, match="cannot be written"):
        create_file(tmp_path / "file" / "a", b"", mode=0o600)


def test_replacing_keeps_the_mode_and_leaves_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(b"old")
    path.chmod(0o640)
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_replacing_what_is_not_there_fails(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="cannot be written"):
        replace_file(tmp_path / "none", b"")


def test_a_file_stands_under_its_name_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out"
    with file_made_whole(path) as file:
        file.write(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(Failure, match="exists already"), file_made_whole(path):
        raise AssertionError("not begun")
    with pytest.raises(KeyError), file_made_whole(tmp_path / "other"):
        raise KeyError
    assert sorted(each.name for each in tmp_path.rglob("*")) == ["new", "out"]
