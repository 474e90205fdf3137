"""The head sent upstream: the sandbox's own lines, less what is not theirs to say, plus what is ours."""

from gateway.core.inject.prepare import Injection
from gateway.core.inject.query import strip_query, with_pair
from gateway.core.route_table import InjectRoute, RouteTable, RouteUpstream
from sallyport.wire.http1.head import CHUNKED, RequestHead

# C3: bytes after a 101 are scanned, so nothing may be compressed in them.
_EXTENSIONS = frozenset({b"sec-websocket-extensions"})


class PlaceholderLeft(Exception):
    """A placeholder would have left unresolved (C5)."""


def injected_head(
    table: RouteTable,
    route: InjectRoute,
    injection: Injection,
    head: RequestHead,
    upstream: RouteUpstream,
    path: bytes,
    query: bytes | None,
    upgrade: bytes | None,
) -> bytes:
    """Write the credential into the one slot that is ours; raises PlaceholderLeft.

    Order (contracts section 1): placeholders, removal of the sandbox's auth slots, ours.
    """
    removed = injection.removed if upgrade is None else injection.removed | _EXTENSIONS
    names = head.names
    lines = head.lines
    if not removed.isdisjoint(names):
        lines = [line for name, line in zip(names, lines, strict=True) if name not in removed]
    if query is not None and route.strip_query:
        query = strip_query(query, route.strip_query) or None
    # What is checked for placeholders is the request before any secret is in it.
    left = _join(head.method, path, query, upstream, lines)
    if table.holds_placeholder(left):
        for replacement in injection.replacements:
            lines = replacement.in_lines(lines)
            path = replacement.in_path(path)
            query = replacement.in_query(query)
        left = _join(head.method, path, query, upstream, lines)
        if table.holds_placeholder(left):
            raise PlaceholderLeft
    if injection.pair is not None:
        left = _join(head.method, path, with_pair(query, injection.pair), upstream, lines)
    return b"%b%b%b\r\n" % (left, injection.block, _framing(head, upgrade))


def forwarded_head(
    table: RouteTable,
    head: RequestHead,
    upstream: RouteUpstream,
    path: bytes,
    query: bytes | None,
    upgrade: bytes | None,
) -> bytes:
    """Send a request on as it is (a Forward removes nothing); raises PlaceholderLeft."""
    left = _join(head.method, path, query, upstream, head.lines)
    if table.holds_placeholder(left):
        raise PlaceholderLeft
    return b"%b%b\r\n" % (left, _framing(head, upgrade))


def _join(method: str, path: bytes, query: bytes | None, upstream: RouteUpstream, lines: list[bytes]) -> bytes:
    target = path if query is None else b"%b?%b" % (path, query)
    return b"\r\n".join((b"%b %b%b" % (method.encode("ascii"), target, upstream.host_line), *lines, b""))


def _framing(head: RequestHead, upgrade: bytes | None) -> bytes:
    block = b""
    if head.has_body:
        block = b"Transfer-Encoding: chunked\r\n" if head.body == CHUNKED else b"Content-Length: %d\r\n" % head.body
    if head.expects_continue:
        block += b"Expect: 100-continue\r\n"
    if upgrade is not None:
        block += b"Connection: Upgrade\r\nUpgrade: %b\r\n" % upgrade
    return block
