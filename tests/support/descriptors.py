"""What a process has open, and a process that can open nothing more."""

import contextlib
import os
import resource
from collections.abc import Iterator


def open_sockets_and_pipes() -> int:
    """Count them in this process; files are left out, of which a loop opens one whenever it likes."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one that lists the folder
            found += os.readlink(f"/proc/self/fd/{name}").startswith(("socket:", "pipe:"))
    return found


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """Let this process open no file and no socket until the block ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    kept = [os.dup(0)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))), hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                kept.append(os.dup(0))
        yield
    finally:
        for descriptor in kept:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
