"""The place of a serving process: what its parent gives it, as one text on its command line."""

import asyncio
import dataclasses
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a serving process has of its parent. Descriptors are of bound sockets; those of `tunnel` may be none."""

    number: int  # from 1, for the log
    proxy: tuple[int, ...]
    tunnel: tuple[int, ...]
    admin_socket: Path
    # Held while audit records are written to the standard output, which all of them share.
    audit_lock: Path
    # Relative paths in the settings start here; the file itself is a copy.
    settings_folder: Path
    # Where the parent listens: no sandbox may reach it as an upstream.
    parent_addresses: tuple[tuple[str, int], ...]

    def to_text(self) -> str:
        """Return it as from_text() reads it."""
        return json.dumps(dataclasses.asdict(self), default=str)

    @classmethod
    def from_text(cls, text: str) -> "Place":
        """Read what to_text() wrote; raises ValueError for anything else."""
        try:
            members = json.loads(text)
            return cls(
                number=int(members["number"]),
                proxy=tuple(map(int, members["proxy"])),
                tunnel=tuple(map(int, members["tunnel"])),
                admin_socket=Path(members["admin_socket"]),
                audit_lock=Path(members["audit_lock"]),
                settings_folder=Path(members["settings_folder"]),
                parent_addresses=tuple((str(host), int(port)) for host, port in members["parent_addresses"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError("not the place of a serving process") from error


def drain_with_parent(loop: asyncio.AbstractEventLoop, drain: Callable[[], None]) -> None:
    """Call drain() when the parent has gone: it holds the other end of our standard input, and writes nothing there."""

    def readable() -> None:
        if not os.read(0, 1):
            loop.remove_reader(0)
            drain()

    loop.add_reader(0, readable)
