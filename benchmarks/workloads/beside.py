"""One tunnel that carries two kinds of streams at once: what the one kind does to the other."""

from dataclasses import replace

from benchmarks.workloads.get_1m import WORKLOAD as GET_1M
from benchmarks.workloads.small_get import WORKLOAD as SMALL_GET
from benchmarks.workloads.tunnel import tunnel
from benchmarks.workloads.workload import Way

# Far more than the gateway may grow by; never read to its end. Zeros, which cost no memory before they are sent.
_HUGE = replace(GET_1M, name="huge", path="/v1/files/huge/content", answer_body=bytes(64 << 20))

# The same without anything beside, which the row with the slow reader is held against.
FAST_100 = tunnel(100)
SLOW_READER = replace(
    FAST_100,
    name="slow_reader",
    title="small GET on 100 streams beside one that reads 16 KiB/s",
    path="/v1/models/slowr",
    beside=_HUGE,
    beside_streams=1,
    beside_bytes_per_second=16 * 1024,
)
SSE_BESIDE_BULK = replace(
    SMALL_GET,
    name="sse_beside_bulk",
    title="events every 20 ms beside 8 downloads in one tunnel: jitter",
    path="/v1/responses/ticks",
    answer_headers=(("Content-Type", "text/event-stream"), ("Cache-Control", "no-store")),
    answer_body=b"",
    way=Way.TUNNEL,
    links=1,
    tick_seconds=0.02,
    beside=GET_1M,
    beside_streams=8,
)
