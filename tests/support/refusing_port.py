"""A port that refuses connections for as long as a test needs that."""

import contextlib
import socket
from collections.abc import Iterator


@contextlib.contextmanager
def refusing_port() -> Iterator[int]:
    """Hold a port of 127.0.0.1 without listening on it: nobody else gets it, as one that was closed may be got.

    A program of the test that asks for SO_REUSEPORT may listen there.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
