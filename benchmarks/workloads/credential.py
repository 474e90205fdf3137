"""As many requests at once as an agent's fan-out may be, when nobody has fetched the credential yet."""

from dataclasses import replace

from benchmarks.workloads.small_get import WORKLOAD as SMALL_GET
from benchmarks.workloads.workload import Way

COLD_CREDENTIAL = replace(
    SMALL_GET,
    name="cold_credential",
    title="1,000 small GETs at once on a cold credential: resolutions",
    path="/v1/models/herds",
    way=Way.CONTROLLED,
    links=1000,
)
