"""Files that are put in their place whole: a reader finds the one before or the new one, also after a loss of power."""

import contextlib
import os
import tempfile
from pathlib import Path


def replace_file(path: Path, content: bytes, *, mode: int) -> None:
    """Put a whole file in a path's place; raises OSError and leaves nothing behind."""
    temporary = _write_beside(path, content, mode)
    try:
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise


def offer_file(path: Path, content: bytes, *, mode: int) -> None:
    """Put a whole file at a path unless one is there, which then counts; raises OSError."""
    temporary = _write_beside(path, content, mode)
    try:
        with contextlib.suppress(FileExistsError):  # another process was faster
            os.link(temporary, path)
    finally:
        os.unlink(temporary)


def _write_beside(path: Path, content: bytes, mode: int) -> str:
    descriptor, temporary = tempfile.mkstemp(prefix=".new-", dir=path.parent)  # 0600 from its first moment
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        os.unlink(temporary)
        raise
    return temporary
