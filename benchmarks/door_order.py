"""What the loads that enter by a door are told, and the first bytes that they send."""

import ssl
from dataclasses import dataclass

from benchmarks.pace import Pace

# HAProxy, squid and Go write HTTP/1.1, goproxy and mitmproxy have said 1.0 in some versions.
CONNECTED = (b"HTTP/1.1 200 ", b"HTTP/1.0 200 ")


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorOrder:
    """What to measure. With `authority` each link begins with a CONNECT to it, which carries `token` if there is one.

    With `ca_file` TLS follows, and the other end shows a certificate for `host` that this file vouches for. `request`
    is Latin-1 text of raw bytes. `cold`: each request on a connection of its own. `at_once`: one request on each link,
    all at the same time.
    """

    port: int
    authority: str
    token: str
    host: str
    ca_file: str
    links: int
    cold: bool
    at_once: bool
    request: str
    answer_bytes: int
    pace: Pace

    def context(self) -> ssl.SSLContext | None:
        """Return how TLS is spoken, or None where it is not."""
        if not self.ca_file:
            return None
        context = ssl.create_default_context(cafile=self.ca_file)
        context.set_alpn_protocols(["http/1.1"])
        return context


def connect_request(order: DoorOrder) -> bytes:
    """Return the CONNECT that a link begins with."""
    lines = [f"CONNECT {order.authority} HTTP/1.1", f"Host: {order.authority}"]
    lines += [f"Proxy-Authorization: Bearer {order.token}"] if order.token else []
    return "\r\n".join((*lines, "", "")).encode("ascii")
