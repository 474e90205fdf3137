"""What does not come to a proxy in plain HTTP: TLS that the subject ends, kept or cold, and bytes it never reads."""

from dataclasses import replace

from benchmarks.workloads.get_1m import WORKLOAD as GET_1M
from benchmarks.workloads.small_get import WORKLOAD as SMALL_GET
from benchmarks.workloads.workload import Way

TLS_TLS = replace(
    SMALL_GET,
    name="tls_tls",
    title="small GET by TLS, to the origin by TLS",
    path="/v1/models/totls",
    way=Way.TLS,
)
COLD_INTERCEPT = replace(
    SMALL_GET,
    name="cold_intercept",
    title="connection, CONNECT, TLS handshake and one small GET",
    path="/v1/models/acold",
    way=Way.TLS,
    cold=True,
    links=16,
    open_rate=25.0,
)
PASSTHROUGH_BULK = replace(
    GET_1M,
    name="passthrough_bulk",
    title="1 MiB through an opaque CONNECT",
    path="/v1/files/opaque/content",
    way=Way.OPAQUE,
)
