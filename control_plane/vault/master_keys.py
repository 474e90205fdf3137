"""The master keys: one line `<version> <key>` for each, the highest version wraps what is new.

They stand in a file, in a variable, or are what a command prints, such as one that asks a KMS. They are the only thing
that is not in the database and cannot be had again: without them nothing stored can be read.
"""

import base64
import binascii
import os
import re
import secrets
import shlex
import stat
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sallyport.secret import Secret

KEY_BYTES: Final = 32
# A rotation a week for ten years; a wrong path to something large is told apart early.
MAX_FILE_BYTES: Final = 64 * 1024
# Of a command's complaint; the last line says most.
MAX_WORDS: Final = 400
_KEY: Final = re.compile(r"[A-Za-z0-9_-]{43,}")
_LINE: Final = re.compile(r"([1-9][0-9]{0,8}) ([A-Za-z0-9_-]{43})")
_HEADER: Final = (
    "# Master keys of a Sallyport control plane. Without this file no stored secret can be read: back it up.\n"
)


@dataclass(frozen=True, slots=True)
class KeyText:
    """Master keys as a variable holds them: separated by commas instead of lines."""

    text: Secret

    def __str__(self) -> str:
        return "SALLYPORT_MASTER_KEY"


@dataclass(frozen=True, slots=True)
class KeyCommand:
    """A command that prints what a file would hold. Its words are split as a shell does, and run without one."""

    line: str
    timeout_seconds: float

    def __str__(self) -> str:
        return "SALLYPORT_MASTER_KEY_COMMAND"


type KeySource = Path | KeyText | KeyCommand


class MasterKeyError(Exception):
    """The master keys cannot be used; says why and what to do, and holds no key."""

    def __init__(self, source: KeySource, problem: str, fix: str) -> None:
        super().__init__(f"{source}: {problem}; {fix}")
        self.message = f"{source}: {problem}"
        self.hint = fix


class MasterKeys:
    """The keys of one reading, by version."""

    def __init__(self, keys: Mapping[int, AESGCM]) -> None:
        self._keys = dict(keys)
        self.newest = max(self._keys)

    def find(self, version: int) -> AESGCM | None:
        """Return one key."""
        return self._keys.get(version)

    def __repr__(self) -> str:
        return f"<MasterKeys {', '.join(map(str, sorted(self._keys)))}>"


def read_master_keys(source: KeySource) -> MasterKeys:
    """Read the keys from where they are; raise MasterKeyError. A command may take its time."""
    match source:
        case KeyText():
            content = source.text.reveal().replace(b",", b"\n")
        case KeyCommand():
            content = _printed(source)
        case _:
            content = _file(source)
    if len(content) > MAX_FILE_BYTES:
        raise MasterKeyError(source, "it is larger than 64 KiB", "these cannot be master keys")
    return MasterKeys(_parse(source, content))


def _file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            _refuse_readable(path, os.fstat(file.fileno()))
            return file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        fix = "name the file that holds them in SALLYPORT_MASTER_KEY_FILE, or make one with `control-plane keygen`"
        raise MasterKeyError(path, error.strerror or "it cannot be read", fix) from None


def _printed(command: KeyCommand) -> bytes:
    fix = "run it by hand as this user; it prints `<version> <key>` lines and nothing else"
    try:
        words = shlex.split(command.line)
        ended = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, timeout=command.timeout_seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise MasterKeyError(command, f"it did not end within {command.timeout_seconds:g} s", fix) from None
    except OSError as error:
        raise MasterKeyError(command, f"it cannot be run: {error.strerror}", fix) from None
    except ValueError:
        raise MasterKeyError(command, "its quotes do not match", "write it as for a shell") from None
    if ended.returncode != 0:
        raise MasterKeyError(command, f"it ended with status {ended.returncode}{_last_words(ended.stderr)}", fix)
    return ended.stdout


def _last_words(stderr: bytes) -> str:
    """Return the end of what a command complained of. A key it may have told there is left out."""
    text = _KEY.sub("...", stderr.decode("utf-8", "replace"))
    words = "".join(each if each.isprintable() else " " for each in text).strip()
    return f": {words[-MAX_WORDS:]}" if words else ""


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


def _parse(source: KeySource, content: bytes) -> dict[int, AESGCM]:
    keys: dict[int, AESGCM] = {}
    for number, line in enumerate(content.decode("ascii", "replace").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line.strip())
        key = _decode(found[2]) if found is not None else None
        if found is None or key is None or int(found[1]) in keys:
            problem = f"line {number} is not `<version> <key>`, or its version stands twice"
            raise MasterKeyError(source, problem, _RESTORE)
        keys[int(found[1])] = AESGCM(key)
    if not keys:
        raise MasterKeyError(source, "it holds no key", _RESTORE)
    return keys


_RESTORE: Final = "restore the keys from a backup; new ones cannot read what is stored"


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
