"""Tokens for the other parts of this machine, in files beside the data: `service-token.<caller>`, 0600.

Each is for the control plane (`aud sallyport-control`) and lives a day; a running control plane writes a fresh one
every few hours, so whoever reads the file when it needs a token always has a good one.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from control_plane.signing import KeyRing
from control_plane.store.database import DatabaseUnavailable
from sallyport.claims import AUDIENCE_CONTROL

CALLERS: Final = ("gateway", "worker", "cli")
SERVICE_SECONDS: Final = 24 * 3600
FRESH_SECONDS: Final = SERVICE_SECONDS / 4
# After a failure, sooner.
AGAIN_SECONDS: Final = 60.0

_log = structlog.get_logger(__name__)


def token_file(data_dir: Path, caller: str) -> Path:
    """Return where a caller's token lies."""
    return data_dir / f"service-token.{caller}"


class TokenFiles:
    """Writes the files and keeps them fresh."""

    def __init__(self, data_dir: Path, ring: KeyRing, now: Callable[[], float]) -> None:
        self._data_dir = data_dir
        self._ring = ring
        self._now = now

    async def write(self) -> None:
        """Write every file. Raises OSError, DatabaseUnavailable."""
        for caller in CALLERS:
            minted = await self._ring.mint(
                audience=AUDIENCE_CONTROL, subject=caller, ttl_seconds=SERVICE_SECONDS, now=self._now()
            )
            _replace(token_file(self._data_dir, caller), minted.token.encode("ascii") + b"\n")

    async def keep_fresh(self) -> None:
        """Write them again and again."""
        wait = FRESH_SECONDS
        while True:
            await asyncio.sleep(wait)
            try:
                await self.write()
                wait = FRESH_SECONDS
            except (OSError, DatabaseUnavailable) as error:
                _log.warning("service_tokens_not_written", error=type(error).__name__)
                wait = AGAIN_SECONDS


def _replace(path: Path, content: bytes) -> None:
    """Put a file in place whole, so that a reader sees the old token or the new one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        beside.unlink()
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
    beside.replace(path)
