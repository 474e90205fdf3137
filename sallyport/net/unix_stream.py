"""Byte streams to a process of this machine, over a socket that has a path: whoever may use the folder may connect."""

import asyncio
from pathlib import Path

# The kernel's limit for the name of such a socket, its end included (unix(7): 108; 104 on the BSDs).
MAX_PATH_BYTES = 103


class UnixStream:
    """One stream. Whoever has it closes it."""

    __slots__ = ("reader", "writer")

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def close(self) -> None:
        """Close, once what was written has gone out."""
        self.writer.close()

    def abort(self) -> None:
        """Close now."""
        self.writer.transport.abort()


async def connect_unix(path: Path, *, limit: int) -> UnixStream:
    """Connect; raises OSError. `limit` bounds what a read up to a separator takes."""
    return UnixStream(*await asyncio.open_unix_connection(path, limit=limit))
