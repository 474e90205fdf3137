"""Whose calls the front takes: a key alone decides who somebody is and what tier they have."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol, cast

import structlog

MAX_FILE_BYTES: Final = 1024 * 1024
KEY_PATTERN: Final = re.compile(r"sp_sk_[0-9a-f]{64}")

type Tier = Literal["standard", "admin"]

_LINE: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,127})\s+(standard|admin)\s+([0-9a-f]{64})")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who a key belongs to."""

    name: str
    tier: Tier

    def may_call(self, tier: Tier) -> bool:
        """Say whether a server of that tier is there for them."""
        return self.tier == "admin" or tier == "standard"


class FrontKeys(Protocol):
    """Where keys are looked up."""

    def find(self, key: str) -> Caller | None:
        """Return whose key it is; None for one that opens nothing."""


class KeyFile:
    """Keys from a file, a line `NAME TIER SHA256` each; `#` begins a comment. Read anew when it has changed."""

    def __init__(self, path: Path) -> None:
        """Raises OSError, and ValueError that names the faulty line."""
        self._path = path
        self._version = self._stat()
        self._callers = read_keys(path)

    def find(self, key: str) -> Caller | None:
        """Return whose key it is. A file that cannot be read any more opens nothing."""
        self._refresh()
        if KEY_PATTERN.fullmatch(key) is None:
            return None
        # By digest: what a lookup's time tells is of no use to whoever does not know the key.
        return self._callers.get(hashlib.sha256(key.encode("ascii")).hexdigest())

    def _refresh(self) -> None:
        try:
            version = self._stat()
            if version == self._version:
                return
            self._callers = read_keys(self._path)
            self._version = version
        except (OSError, ValueError) as error:
            self._callers = {}
            self._version = None
            _log.error("front_keys_not_read", reason=str(error))

    def _stat(self) -> tuple[int, int, int] | None:
        found = self._path.stat()
        return found.st_mtime_ns, found.st_size, found.st_ino

    def __repr__(self) -> str:
        return f"<KeyFile {len(self._callers)} keys>"


def read_keys(path: Path) -> Mapping[str, Caller]:
    """Return the callers by the digest of their key; raises OSError, ValueError."""
    with path.open("rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"{path} is longer than {MAX_FILE_BYTES} bytes")
    callers = {}
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        match = _LINE.fullmatch(text)
        if match is None:
            raise ValueError(f"{path}, line {number}: write NAME, standard or admin, and the key's SHA-256")
        callers[match[3]] = Caller(name=match[1], tier=cast(Tier, match[2]))
    return callers
