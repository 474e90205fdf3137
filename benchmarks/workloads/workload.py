"""One workload: the bytes of its request and of its answer."""

from dataclasses import dataclass
from enum import Enum

HOST = "api.bench.test"
PLACEHOLDER = "sk-placeholder-the-sandbox-holds-no-secret"
# Where it stands in a request, each request has another number of the same length.
NUMBER = "n0000000"

type Headers = tuple[tuple[str, str], ...]


def is_varied(request: bytes) -> bool:
    """Say whether NUMBER stands in it."""
    return NUMBER.encode("ascii") in request


def page_of(target: bytes) -> bytes:
    """Return what the requests of all numbers have in common at the beginning of their targets."""
    return target.partition(b"/n0")[0]


def numbered(request: bytes, number: int) -> bytes:
    """Return the request of this number; one without NUMBER in it is like all others."""
    return request.replace(NUMBER.encode("ascii"), b"n%07x" % number)


class Way(Enum):
    """How requests get to the origin."""

    PROXY = "to an explicit proxy, in absolute form"
    TUNNEL = "by the streams of a tunnel, to a gateway's tunnel listener"
    SANDBOXD = "by CONNECT and TLS to sandboxd, whose gateway is a stand-in"
    CHAIN = "by CONNECT and TLS through sandboxd, tunnel and gateway, TLS to the origin"
    TLS = "by TLS that the subject ends, after a CONNECT where it intercepts, and TLS to the origin"
    CONTROLLED = "all at once, to an explicit proxy that has to fetch the credential first"
    IDLE = "by many tunnels, each used once, to a gateway of its own"
    OPAQUE = "by CONNECT, as bytes that the subject does not look into"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A request sent over and over, and the one answer the origin gives to it.

    `path` is unique among workloads: by it the origin knows which answer to give. With `bulk` the figure that counts
    is megabytes per CPU second, not microseconds per request. `links` are streams where the way is a tunnel. With
    `cold` each request comes on a connection of its own, which ends with the answer. With `plan_routes` it comes from
    a sandbox whose plan has so many, which only a gateway has; with `plan_pushes` that plan is replaced all the time.

    `beside` is what so many further streams of the same tunnel load meanwhile, over and over, each as fast as it can or
    at so many bytes a second. With `tick_seconds` the answer is a stream of events, one each so many seconds.
    `is_secure` is said of the tunnel.
    """

    name: str
    title: str
    method: str
    path: str
    request_headers: Headers
    request_body: bytes = b""
    answer_headers: Headers
    answer_body: bytes
    links: int = 64
    open_rate: float = 200.0
    bulk: bool = False
    cold: bool = False
    plan_routes: int = 0
    plan_pushes: bool = False
    beside: "Workload | None" = None
    beside_streams: int = 0
    beside_bytes_per_second: int = 0
    tick_seconds: float = 0.0
    is_secure: bool = False
    way: Way = Way.PROXY

    def proxied_request(self, proxy_token: str) -> bytes:
        """Return what a client without the secret sends to a proxy (absolute form, RFC 9112 section 3.2.2)."""
        return self._request(
            f"http://{HOST}{self.path}", PLACEHOLDER, (("Proxy-Authorization", f"Bearer {proxy_token}"),)
        )

    def direct_request(self, credential: str) -> bytes:
        """Return the same request as the origin itself wants it."""
        return self._request(self.path, credential, ())

    def answer(self) -> bytes:
        framing = "Transfer-Encoding: chunked" if self.tick_seconds else f"Content-Length: {len(self.answer_body)}"
        head = _lines(("HTTP/1.1 200 OK", *_fields(self.answer_headers), framing))
        return head + self.answer_body

    def _request(self, url: str, credential: str, more: Headers) -> bytes:
        headers = (("Host", HOST), *self.request_headers, ("Authorization", f"Bearer {credential}"), *more)
        if self.request_body:
            headers += (("Content-Length", str(len(self.request_body))),)
        return _lines((f"{self.method} {url} HTTP/1.1", *_fields(headers))) + self.request_body


def _fields(headers: Headers) -> tuple[str, ...]:
    return tuple(f"{name}: {value}" for name, value in headers)


def _lines(lines: tuple[str, ...]) -> bytes:
    return "\r\n".join((*lines, "", "")).encode("ascii")
