"""Files on a real disk, and the links that must not lead them astray."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxd.setup.files import FileRefused, open_directory, write_file


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_directories_are_made_and_the_mode_is_exact(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        assert write_file(str(tmp_path / "a/b/file"), b"x", mode=0o775)
    finally:
        os.umask(before)
    assert (tmp_path / "a/b/file").read_bytes() == b"x"
    assert mode_of(tmp_path / "a/b/file") == 0o775
    assert os.listdir(tmp_path / "a/b") == ["file"]


def test_a_file_as_wanted_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert write_file(str(path), b"one", mode=0o600)
    first = path.stat()
    assert not write_file(str(path), b"one", mode=0o600)
    assert path.stat().st_ino == first.st_ino
    assert write_file(str(path), b"one", mode=0o640)
    assert mode_of(path) == 0o640
    assert write_file(str(path), b"two", mode=0o640)
    assert path.read_bytes() == b"two"


def test_if_absent_leaves_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    assert not write_file(str(path), b"theirs", mode=0o600, if_absent=True)
    assert path.read_text() == "mine"
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert not write_file(str(tmp_path / "link"), b"x", mode=0o600, if_absent=True)
    assert not (tmp_path / "nowhere").exists()
    assert write_file(str(tmp_path / "new"), b"x", mode=0o600, if_absent=True)
    assert sorted(os.listdir(tmp_path)) == ["file", "link", "new"]


def test_a_link_in_the_file_s_place_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("safe")
    link = tmp_path / "file"
    link.symlink_to(victim)
    assert write_file(str(link), b"x", mode=0o600)
    assert victim.read_text() == "safe"
    assert not link.is_symlink()


@pytest.mark.parametrize("depth", ["link/file", "link/deeper/file"])
def test_a_link_above_the_file_refuses_it(tmp_path: Path, depth: str) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (tmp_path / "link").symlink_to(victim)
    with pytest.raises(FileRefused, match=r"link is a symbolic link"):
        write_file(str(tmp_path / depth), b"x", mode=0o600)
    assert os.listdir(victim) == []


def test_a_link_to_nowhere_is_a_link_too(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileRefused, match="symbolic link"):
        write_file(str(tmp_path / "link/file"), b"x", mode=0o600)
    assert not (tmp_path / "nowhere").exists()


def test_what_cannot_hold_the_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileRefused, match="plain is not a directory"):
        write_file(str(tmp_path / "plain/file"), b"x", mode=0o600)
    with pytest.raises(FileRefused, match="folder is a directory"):
        write_file(str(tmp_path / "folder"), b"x", mode=0o600)
    with pytest.raises(FileRefused, match=r"\. or \.\."):
        write_file(f"{tmp_path}/folder/../file", b"x", mode=0o600)
    assert sorted(os.listdir(tmp_path)) == ["folder", "plain"]


def test_a_pipe_in_the_file_s_place_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "file", 0o600)
    assert write_file(str(tmp_path / "file"), b"", mode=0o600)
    assert (tmp_path / "file").is_file()


def test_what_a_killed_sandboxd_left_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".file.sallyport").symlink_to(tmp_path / "victim")
    assert write_file(str(tmp_path / "file"), b"x", mode=0o600)
    assert os.listdir(tmp_path) == ["file"]


def test_a_disk_that_refuses_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="File name too long"):
        write_file(str(tmp_path / ("x" * 256)), b"x", mode=0o600)
    assert os.listdir(tmp_path) == []


def test_the_longest_name(tmp_path: Path) -> None:
    assert write_file(str(tmp_path / ("ü" * 127)), b"x", mode=0o600)
    assert os.listdir(tmp_path) == ["ü" * 127]


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with open_directory(str(tmp_path / "a/b")):
        pass
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(FileRefused), open_directory(str(tmp_path / "link/c")):
        pass
    assert len(os.listdir("/proc/self/fd")) == before


@given(content=st.binary(max_size=300), again=st.binary(max_size=300))
def test_the_last_content_is_what_is_there(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, again: bytes
) -> None:
    path = tmp_path_factory.mktemp("files") / "file"
    write_file(str(path), content, mode=0o600)
    assert write_file(str(path), again, mode=0o600) == (content != again)
    assert path.read_bytes() == again
