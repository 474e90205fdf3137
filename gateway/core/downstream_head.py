"""The head sent downstream: the upstream's own lines, with our framing."""

from typing import Final

from sallyport.wire.http1.head import CHUNKED, ResponseHead
from sallyport.wire.http1.scan import join_lines
from sallyport.wire.http1.shape import field_name

# A5: an alternative service would lead round the gateway. And no upstream speaks for us (docs/errors.md).
HIDDEN: Final = frozenset({b"alt-svc", b"x-sallyport-error"})
_join_lines: Final = join_lines


def answer_head(head: ResponseHead, *, has_body: bool, close: bool) -> bytes:
    """Write a final answer's head; an answer that ends with its link goes on chunked.

    has_body says whether this answer can have one (RFC 9110 section 6.4.1); one to HEAD describes it all the same.
    """
    body = head.body
    if body is None:
        framing = b"Transfer-Encoding: chunked\r\n\r\n" if has_body else b"\r\n"
    elif head.status == 204:
        framing = b"\r\n"  # RFC 9110 section 8.6: never with 204
    elif body == CHUNKED:
        framing = b"Transfer-Encoding: chunked\r\n\r\n"
    else:
        framing = b"Content-Length: %d\r\n\r\n" % body
    if close:
        framing = b"Connection: close\r\n" + framing
    return _head(head, framing)


def interim_head(head: ResponseHead) -> bytes:
    """Write a 1xx answer's head; it has neither body nor framing (RFC 9110 section 15.2)."""
    return _head(head, b"\r\n")


def switching_head(head: ResponseHead) -> bytes:
    """Write a 101; what follows are raw bytes."""
    assert head.upgrade is not None, "the caller has checked it"
    return _head(head, b"Connection: Upgrade\r\nUpgrade: %b\r\n\r\n" % head.upgrade)


def without_hidden(trailers: list[bytes]) -> list[bytes]:
    """Return the trailers that may go on: a client may read what stands there as if it stood in the head."""
    return [line for line in trailers if field_name(line.partition(b":")[0]) not in HIDDEN]


def _head(head: ResponseHead, framing: bytes) -> bytes:
    return _join_lines(b"HTTP/1.1 %d %b" % (head.status, head.reason), head.without(HIDDEN), framing)
