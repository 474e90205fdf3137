"""Write the files of a setup document: at once, with their mode, and never through a symbolic link.

Every directory of a path is opened by itself, relative to the one before it (openat with O_NOFOLLOW), so that no
link, made before or meanwhile, leads a file to another place than the document names. A machine's own links (such as
/var/run) are refused as well: the document names the real path, and only one spelling of it is right.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import Final

# O_PATH: a directory of a path need not be readable to be gone through.
_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_DIRECTORY_MODE: Final = 0o755
_NAME_MAX: Final = 255  # Linux


class FileRefused(OSError):
    """A path that is not written to, although the system might allow it; says why in words for a status."""


def write_file(path: str, content: bytes, *, mode: int, if_absent: bool = False) -> bool:
    """Write the whole file or nothing, and make the directories above it; False when it was as wanted already.

    Raises OSError, FileRefused among them. A symbolic link in the file's own place is replaced, not followed; with
    `if_absent` anything in that place is left alone.
    """
    parent, name = os.path.split(path)
    with open_directory(parent) as directory:
        is_there = _is_there(name, directory)
        if is_there and (if_absent or _holds(directory, name, content, mode)):
            return False
        temporary = _write_beside(directory, name, content, mode)
        try:
            _put_in_place(directory, temporary, name, path, if_absent)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=directory)
        return True


@contextlib.contextmanager
def open_directory(path: str) -> Iterator[int]:
    """Open an absolute path as a directory descriptor, making what is missing of it; raises OSError."""
    descriptor = os.open("/", _DIRECTORY)
    try:
        walked = ""
        for part in path.split("/"):
            if part in (".", ".."):
                raise FileRefused("a path with . or .. is not followed")
            if part:
                walked += f"/{part}"
                below = _enter(part, descriptor, walked)
                os.close(descriptor)
                descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def _enter(part: str, above: int, walked: str) -> int:
    try:
        return os.open(part, _DIRECTORY, dir_fd=above)
    except FileNotFoundError:
        with contextlib.suppress(FileExistsError):
            os.mkdir(part, _NEW_DIRECTORY_MODE, dir_fd=above)
        return os.open(part, _DIRECTORY, dir_fd=above)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
    if stat.S_ISLNK(os.stat(part, dir_fd=above, follow_symlinks=False).st_mode):
        raise FileRefused(f"{walked} is a symbolic link; the document has to name the path it leads to")
    raise FileRefused(f"{walked} is not a directory")


def _is_there(name: str, directory: int) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _holds(directory: int, name: str, content: bytes, mode: int) -> bool:
    """Whether the file is as wanted: one that is not written again wakes no program that watches it."""
    try:
        # Not blocking: in the file's place may stand a pipe that nobody writes to.
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return False
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or stat.S_IMODE(found.st_mode) != mode or found.st_size != len(content):
            return False
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(len(content) + 1) == content
    finally:
        os.close(descriptor)


def _write_beside(directory: int, name: str, content: bytes, mode: int) -> str:
    """Write a file that nothing looks for yet; return its name."""
    suffix = ".sallyport"
    temporary = f".{os.fsdecode(os.fsencode(name)[: _NAME_MAX - len(suffix) - 1])}{suffix}"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=directory)  # left over from a sandboxd that was killed
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600, dir_fd=directory)
    with open(descriptor, "wb") as file:
        file.write(content)
        os.fchmod(descriptor, mode)  # whatever the umask
    return temporary


def _put_in_place(directory: int, temporary: str, name: str, path: str, if_absent: bool) -> None:
    try:
        if if_absent:
            with contextlib.suppress(FileExistsError):  # made in between: left alone
                os.link(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        else:
            os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except (IsADirectoryError, NotADirectoryError):
        raise FileRefused(f"{path} is a directory") from None
