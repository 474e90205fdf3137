"""The small GET inside a tunnel: one, 64 and 512 streams at once, each CONNECTed once and kept, as sandboxd does it."""

from dataclasses import replace

from benchmarks.workloads.small_get import WORKLOAD as SMALL_GET
from benchmarks.workloads.workload import Way, Workload


def tunnel(streams: int) -> Workload:
    """Return the small GET on so many streams."""
    return replace(
        SMALL_GET,
        name=f"tunnel_{streams}",
        title=f"small GET through one tunnel, {streams} streams",
        path=f"/v1/models/t{streams:04}",  # as long as small_get's
        way=Way.TUNNEL,
        links=streams,
    )


WORKLOADS = tuple(map(tunnel, (1, 64, 512)))
