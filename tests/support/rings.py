"""What is over and refers to itself is the collector's to find, and costs its time."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def no_rings_of(*kinds: type) -> Iterator[None]:
    """Assert that a block leaves nothing of these kinds to the collector."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield
        gc.collect()
        left = [type(each).__name__ for each in gc.garbage if isinstance(each, kinds)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert left == []
