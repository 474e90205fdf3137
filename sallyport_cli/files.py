"""Files, with the two things that go wrong told as failures."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from sallyport_cli.failure import environment

# No plan, key, token or bundle of roots comes near.
MAX_FILE_BYTES = 16 * 1024 * 1024


def read_file(path: Path) -> bytes:
    """Return what a file holds; `-` is not special. Raises Failure."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise environment(f"{path} cannot be read: {error.strerror}", "correct the path or its permissions") from None
    if len(content) > MAX_FILE_BYTES:
        raise environment(f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB", "this cannot be the right file")
    return content


def create_file(path: Path, content: bytes, *, mode: int) -> None:
    """Write a new file, its folder too where there is none; a file that is there already is a Failure."""
    try:
        _make_folder(path.parent)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError:
        hint = "it is not overwritten: choose another place or remove it"
        raise environment(f"{path} exists already", hint) from None
    except OSError as error:
        raise environment(f"{path} cannot be written: {error.strerror}", "choose another place") from None
    with open(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)  # whatever the umask took away
        file.write(content)


@contextlib.contextmanager
def file_made_whole(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write; it stands under its name once the block has ended well, and not before. Raises Failure."""
    beside = path.with_name(f".{path.name}.new")
    if path.exists():
        raise environment(f"{path} exists already", "it is not overwritten: choose another place or remove it")
    beside.unlink(missing_ok=True)
    create_file(beside, b"", mode=0o600)
    try:
        with beside.open("wb") as file:
            yield file
        beside.rename(path)
    except OSError as error:
        raise environment(f"{path} cannot be written: {error.strerror}", "choose another place") from None
    finally:
        beside.unlink(missing_ok=True)


def replace_file(path: Path, content: bytes) -> None:
    """Put new content in a file's place, so that a reader sees the old one or the new one. Raises Failure."""
    from sallyport.net import whole_file

    try:
        whole_file.replace_file(path, content, mode=stat.S_IMODE(path.stat().st_mode))
    except OSError as error:
        raise environment(f"{path} cannot be written: {error.strerror}", "correct its permissions") from None


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, "its folder is a file", str(path)) from None
