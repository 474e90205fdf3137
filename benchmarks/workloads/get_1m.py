"""GET answered by 1 MiB: what moving bytes costs."""

from benchmarks.workloads.small_get import API_HEADERS, CLIENT_HEADERS
from benchmarks.workloads.workload import Workload

WORKLOAD = Workload(
    name="get_1m",
    title="1 MiB answer",
    method="GET",
    path="/v1/files/big/content",
    request_headers=CLIENT_HEADERS,
    answer_headers=API_HEADERS,
    answer_body=b"0123456789abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ" * 16_644 + b"end.",
    open_rate=50.0,
    bulk=True,
)
