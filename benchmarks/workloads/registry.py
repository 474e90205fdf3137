"""Every workload by name. A new one is a value in a module and a line here."""

from benchmarks.workloads import get_1m, post_10k, sandbox, small_get, tunnel
from benchmarks.workloads.workload import Workload

WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for workload in (
        small_get.WORKLOAD,
        small_get.ONE_LINK,
        post_10k.WORKLOAD,
        get_1m.WORKLOAD,
        *tunnel.WORKLOADS,
        sandbox.SANDBOXD_INTERCEPTED,
        sandbox.CHAIN_400,
    )
}

# What --quick measures.
QUICK = ("small_get", "tunnel_1", "tunnel_64", "sandboxd_intercepted", "chain_400")
