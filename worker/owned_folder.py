"""A folder of a worker's own: one worker uses it at a time, and its mark tells that worker's processes from others."""

import fcntl
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sallyport.net.whole_file import replace_file

_PRIVATE: Final = 0o600


class StateTaken(Exception):
    """Another worker uses the folder, or it cannot be used; str() says which."""


@dataclass(frozen=True, slots=True)
class OwnedFolder:
    """The folder, which is ours until close()."""

    root: Path
    mark: str
    lock: int

    def close(self) -> None:
        """Let another worker have the folder."""
        os.close(self.lock)


def own_folder(root: Path) -> OwnedFolder:
    """Make or open the folder, for one worker at a time; raises StateTaken."""
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE)
    except OSError as error:
        raise StateTaken(f"{root} cannot be used: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise StateTaken(f"another worker uses {root}") from None
    mark = root / "mark"
    if not mark.exists():
        replace_file(mark, secrets.token_hex(12).encode(), mode=_PRIVATE)
    return OwnedFolder(root, mark.read_text(encoding="ascii"), lock)
