"""Every workload by name. A new one is a module with a `WORKLOAD` and a line here."""

from benchmarks.workloads import get_1m, post_10k, small_get
from benchmarks.workloads.workload import Workload

WORKLOADS: dict[str, Workload] = {
    workload.name: workload for workload in (small_get.WORKLOAD, post_10k.WORKLOAD, get_1m.WORKLOAD)
}
