"""The master keys: one file, one line `<version> <key>` for each, the highest version wraps what is new.

The file is the only thing that is not in the database and cannot be had again: without it nothing stored can be read.
"""

import base64
import binascii
import os
import re
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES: Final = 32
# A rotation a week for ten years; a wrong path to something large is told apart early.
MAX_FILE_BYTES: Final = 64 * 1024
_LINE: Final = re.compile(r"([1-9][0-9]{0,8}) ([A-Za-z0-9_-]{43})")
_HEADER: Final = (
    "# Master keys of a Sallyport control plane. Without this file no stored secret can be read: back it up.\n"
)


class MasterKeyError(Exception):
    """The file of master keys cannot be used; says why and what to do, and holds no key."""

    def __init__(self, path: Path, problem: str, fix: str) -> None:
        super().__init__(f"{path}: {problem}; {fix}")
        self.message = f"{path}: {problem}"
        self.hint = fix


class MasterKeys:
    """The keys of one reading of the file, by version."""

    def __init__(self, keys: Mapping[int, AESGCM]) -> None:
        self._keys = dict(keys)
        self.newest = max(self._keys)

    def find(self, version: int) -> AESGCM | None:
        """Return one key."""
        return self._keys.get(version)

    def __repr__(self) -> str:
        return f"<MasterKeys {', '.join(map(str, sorted(self._keys)))}>"


def read_master_keys(path: Path) -> MasterKeys:
    """Read the file; raise MasterKeyError."""
    try:
        with path.open("rb") as file:
            _refuse_readable(path, os.fstat(file.fileno()))
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        fix = "name the file that holds them in SALLYPORT_MASTER_KEY_FILE, or make one with `control-plane keygen`"
        raise MasterKeyError(path, error.strerror or "it cannot be read", fix) from None
    if len(content) > MAX_FILE_BYTES:
        raise MasterKeyError(path, "it is larger than 64 KiB", "this is not a file of master keys")
    return MasterKeys(_parse(path, content))


def make_master_keys(path: Path) -> None:
    """Make a file with a first key; raise FileExistsError where there is one, OSError where none can be made."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    _write(descriptor, _HEADER + _line(1))


def add_master_key(path: Path) -> int:
    """Add a key of the next version, which wraps from now on; return the version. Raises MasterKeyError, OSError."""
    version = read_master_keys(path).newest + 1
    content = path.read_text(encoding="ascii")
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    _write(descriptor, content if content.endswith("\n") else f"{content}\n", _line(version))
    beside.replace(path)
    return version


def _parse(path: Path, content: bytes) -> dict[int, AESGCM]:
    keys: dict[int, AESGCM] = {}
    for number, line in enumerate(content.decode("ascii", "replace").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line.strip())
        key = _decode(found[2]) if found is not None else None
        if found is None or key is None or int(found[1]) in keys:
            raise MasterKeyError(path, f"line {number} is not `<version> <key>`, or its version stands twice", _RESTORE)
        keys[int(found[1])] = AESGCM(key)
    if not keys:
        raise MasterKeyError(path, "it holds no key", _RESTORE)
    return keys


_RESTORE: Final = "restore the file from a backup; a new one cannot read what is stored"


def _decode(text: str) -> bytes | None:
    try:
        key = base64.urlsafe_b64decode(f"{text}=")
    except binascii.Error:
        return None
    return key if len(key) == KEY_BYTES else None


def _line(version: int) -> str:
    key = base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).rstrip(b"=").decode("ascii")
    return f"{version} {key}\n"


def _write(descriptor: int, *parts: str) -> None:
    with open(descriptor, "w", encoding="ascii") as file:
        file.writelines(parts)
        file.flush()
        os.fsync(file.fileno())


def _refuse_readable(path: Path, status: os.stat_result) -> None:
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise MasterKeyError(path, "others may read the master keys", f"chmod 600 {path}")
