"""The small GET under plans of ten and a thousand routes, and under one that is replaced all the time."""

from dataclasses import replace

from benchmarks.workloads.small_get import WORKLOAD as SMALL_GET
from benchmarks.workloads.workload import Workload


def _routes(count: int) -> Workload:
    return replace(
        SMALL_GET,
        name=f"routes_{count}",
        title=f"small GET under a plan of {count} routes",
        path=f"/v1/models/r{count:04}",
        plan_routes=count,
    )


ROUTES_10, ROUTES_1000 = _routes(10), _routes(1000)
# Latency is what counts here, and a push has to meet requests: many of them.
PLAN_SWAP = replace(
    _routes(100),
    name="plan_swap",
    title="small GET while a plan of 100 routes is pushed every 0.1 s: longest delay",
    open_rate=1000.0,
    plan_pushes=True,
)
