"""The small GET under a plan of ten routes and one of a thousand: what finding the right one costs."""

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
