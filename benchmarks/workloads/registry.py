"""Every workload by name. A new one is a value in a module and a line here."""

from benchmarks.workloads import beside, credential, door, get_1m, idle, post_10k, routes, sandbox, small_get, tunnel
from benchmarks.workloads.workload import Workload

WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for workload in (
        small_get.WORKLOAD,
        small_get.VARIED,
        small_get.ONE_LINK,
        post_10k.WORKLOAD,
        get_1m.WORKLOAD,
        door.TLS_TLS,
        door.COLD_INTERCEPT,
        door.PASSTHROUGH_BULK,
        routes.ROUTES_10,
        routes.ROUTES_1000,
        routes.PLAN_SWAP,
        credential.COLD_CREDENTIAL,
        *tunnel.WORKLOADS,
        idle.IDLE_WS,
        idle.IDLE_WSS,
        beside.FAST_100,
        beside.SLOW_READER,
        beside.SSE_BESIDE_BULK,
        sandbox.SANDBOXD_INTERCEPTED,
        sandbox.CHAIN_400,
    )
}

# What --quick measures.
QUICK = ("small_get", "tunnel_1", "tunnel_64", "sandboxd_intercepted", "chain_400")
