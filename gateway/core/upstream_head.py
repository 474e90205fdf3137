"""The head sent upstream: the sandbox's own lines, less what is not theirs to say, plus what is ours."""

from collections.abc import Sequence
from typing import Final

from gateway.core.inject.prepare import Injection
from gateway.core.inject.query import check_parameters, strip_query, unescaped, with_pair
from gateway.core.route_table import RouteTable, RouteUpstream
from sallyport.wire.http1.head import CHUNKED, RequestHead
from sallyport.wire.http1.scan import join_lines

_join_lines: Final = join_lines
_PERCENT: Final = ord("%")  # a number: see gateway/core/authority.py

# C3: bytes after a 101 are scanned, so nothing may be compressed in them.
_EXTENSIONS: Final = frozenset({b"sec-websocket-extensions"})


class PlaceholderLeft(Exception):
    """A placeholder would have left unresolved (C5)."""


def upstream_head(
    table: RouteTable,
    injection: Injection | None,
    head: RequestHead,
    upstream: RouteUpstream,
    path: bytes,
    query: bytes | None,
    upgrade: bytes | None,
) -> bytes:
    """Write the whole head; raises PlaceholderLeft, Refused.

    Without an injection nothing is removed (a Forward). With one, in the order of contracts section 1: placeholders,
    removal of the sandbox's auth slots, then the credential in the one slot that is ours.
    """
    block = b"\r\n"
    if injection is None:
        lines = head.lines
    else:
        removed = injection.removed if upgrade is None else injection.removed | _EXTENSIONS
        lines = head.without(removed)
        if query and injection.strip_query:
            check_parameters(query)
            query = strip_query(query, injection.strip_query) or None
        block = injection.block
    if table.has_placeholders and _holds_placeholder(table, head, path, query, upstream, lines):
        # What is checked never has a secret in it but the one that took a placeholder's place.
        for replacement in () if injection is None else injection.replacements:
            lines = replacement.in_lines(lines)
            path = replacement.in_path(path)
            query = replacement.in_query(query)
        if _holds_placeholder(table, head, path, query, upstream, lines):
            raise PlaceholderLeft
    if injection is not None and injection.pair is not None:
        query = with_pair(query, injection.pair)
    if head.has_body or upgrade is not None:
        block = _framing(head, upgrade) + block
    return _write(head, path, query, upstream, lines, block)


def _holds_placeholder(
    table: RouteTable,
    head: RequestHead,
    path: bytes,
    query: bytes | None,
    upstream: RouteUpstream,
    lines: Sequence[bytes],
) -> bool:
    """Say whether a placeholder stands anywhere in the head, or percent-encoded in its target."""
    if table.holds_placeholder(_write(head, path, query, upstream, lines, b"")):
        return True
    target = path if query is None else path + b"?" + query
    return _PERCENT in target and table.holds_placeholder(unescaped(target))


def _write(
    head: RequestHead, path: bytes, query: bytes | None, upstream: RouteUpstream, lines: Sequence[bytes], end: bytes
) -> bytes:
    """Write request line, Host, the sandbox's lines, end. Concatenation: bytes formatting costs three times more."""
    target = path if query is None else path + b"?" + query
    return _join_lines(head.method.encode("ascii") + b" " + target + upstream.host_line, lines, end)


def _framing(head: RequestHead, upgrade: bytes | None) -> bytes:
    block = b""
    if head.has_body:
        block = b"Transfer-Encoding: chunked\r\n" if head.body == CHUNKED else b"Content-Length: %d\r\n" % head.body
    if head.expects_continue:
        block += b"Expect: 100-continue\r\n"
    if upgrade is not None:
        block += b"Connection: Upgrade\r\nUpgrade: %b\r\n" % upgrade
    return block
