"""Byte streams between processes of this machine, over UNIX sockets.

One that has a path: whoever may use the folder may connect. One whose name begins with a zero byte: whoever is in the
network namespace that it was bound in.
"""

import asyncio
import socket
from collections.abc import Callable
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


async def connect_name[P: asyncio.Protocol](make: Callable[[], P], name: str) -> P:
    """Connect a new protocol to a name without a path; raises OSError, also where too many wait there already."""
    # By hand, because uvloop takes a name for what stands before its first zero byte.
    connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        connecting.connect(name)
        _, protocol = await asyncio.get_running_loop().create_unix_connection(make, sock=connecting)
    except BaseException:
        connecting.close()
        raise
    return protocol


async def adopt_unix(descriptor: int, make: Callable[[], asyncio.Protocol]) -> asyncio.Server:
    """Make a server of a bound socket that this process has inherited; it accepts at once, and closes the socket."""
    listening = socket.socket(fileno=descriptor)
    if listening.family != socket.AF_UNIX:
        listening.close()
        raise OSError("it is no UNIX socket")
    return await asyncio.get_running_loop().create_unix_server(make, sock=listening)
