"""A port that refuses connections for as long as a test needs that."""

import contextlib
import socket
from collections.abc import Iterator


@contextlib.contextmanager
def refusing_port() -> Iterator[int]:
    """Hold a port of 127.0.0.1 without listening on it: nobody else gets it, as one that was closed may be got."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
