"""The small GET as a sandbox process sends it: by CONNECT and TLS to sandboxd; that alone, and the whole chain."""

from dataclasses import replace

from benchmarks.workloads.small_get import WORKLOAD as SMALL_GET
from benchmarks.workloads.workload import Way

SANDBOXD_INTERCEPTED = replace(
    SMALL_GET,
    name="sandboxd_intercepted",
    title="small GET through sandboxd alone, intercepted",
    path="/v1/models/sandd",
    way=Way.SANDBOXD,
)
CHAIN_400 = replace(
    SMALL_GET,
    name="chain_400",
    title="small GET through the whole chain at 400 a second",
    path="/v1/models/chain",
    way=Way.CHAIN,
    links=16,
    open_rate=400.0,
)
