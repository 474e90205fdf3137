"""A small GET as an API client's library sends it: the row by which proxies are compared."""

from dataclasses import replace

from benchmarks.workloads.workload import NUMBER, Headers, Workload

CLIENT_HEADERS: Headers = (
    ("User-Agent", "OpenAI/Python 1.99.9"),
    ("Accept", "application/json"),
    ("Accept-Encoding", "gzip, deflate"),
    ("Content-Type", "application/json"),
    ("X-Stainless-Lang", "python"),
    ("X-Stainless-OS", "Linux"),
)
API_HEADERS: Headers = (
    ("Date", "Fri, 21 Nov 2025 12:00:00 GMT"),
    ("Content-Type", "application/json"),
    ("X-Request-Id", "req_0b1f2c3d4e5f60718293a4b5c6d7e8f9"),
    ("Strict-Transport-Security", "max-age=31536000; includeSubDomains"),
    ("Cache-Control", "no-store"),
)

WORKLOAD = Workload(
    name="small_get",
    title="small GET, credential written in",
    method="GET",
    path="/v1/models/small",
    request_headers=CLIENT_HEADERS,
    answer_headers=API_HEADERS,
    answer_body=(
        b'{"id":"small","object":"model","created":1763726400,"owned_by":"bench","permission":[{"id":"perm_1",'
        b'"object":"permission","allow_sampling":true,"allow_view":true}],"root":"small","parent":null}'
    ),
)

# No two requests are alike: another path, query and id each. What is remembered of those before is of no use.
VARIED = replace(
    WORKLOAD,
    name="small_get_varied",
    title="small GET, each another",
    path=f"/v1/varied/{NUMBER}?page={NUMBER}",
    request_headers=(*CLIENT_HEADERS, ("X-Request-Id", f"req_{NUMBER}")),
)

# On one link every request waits for the one before it: nothing is batched, in no proxy, and each costs more.
ONE_LINK = replace(WORKLOAD, name="small_get_1", title="small GET on one link", path="/v1/models/alone", links=1)
