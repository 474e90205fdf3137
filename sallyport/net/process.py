"""What a long-running part asks of its process: no dumps of its memory, room for descriptors, a quiet collector."""

import ctypes
import gc
import resource
import sys
from typing import Final

# linux/prctl.h
_PR_SET_DUMPABLE: Final = 4


def harden_process() -> None:
    """Leave no secret in a core file, and let no other process of this user read our memory (C14)."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def raise_descriptor_limit() -> None:
    """Take all the descriptors the system grants: every stream needs two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def descriptor_limit() -> int:
    """Return how many descriptors this process may have."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def settle_memory() -> None:
    """Keep the collector away from what lives for ever, for requests make few cycles; give back what the start used.

    What outlives one collection and ends then is found by every third: of connections that come and go, those of the
    last seconds are always among it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 2, 50)
    return_memory()


def leave_memory() -> None:
    """End the process without looking for cycles in what ends with it: with large plans that takes seconds."""
    gc.disable()
    gc.freeze()


def return_memory() -> None:
    """Give the system back what the allocator keeps and nobody uses."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone
    if trim is not None:
        trim(0)
