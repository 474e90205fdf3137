"""The head sent downstream: the upstream's own lines, with our framing."""

from sallyport.wire.http1.framing import has_answer_body
from sallyport.wire.http1.head import CHUNKED, ResponseHead

# A5: an alternative service would lead round the gateway.
_HIDDEN = frozenset({b"alt-svc"})


def answer_head(head: ResponseHead, method: str, *, close: bool) -> bytes:
    """Write a final answer's head; an answer that ends with its link goes on chunked."""
    if head.body is None:
        framing = b"Transfer-Encoding: chunked\r\n" if has_answer_body(method, head.status) else b""
    elif head.status == 204:
        framing = b""  # RFC 9110 section 8.6: never with 204
    elif head.body == CHUNKED:
        framing = b"Transfer-Encoding: chunked\r\n"
    else:
        framing = b"Content-Length: %d\r\n" % head.body
    if close:
        framing += b"Connection: close\r\n"
    return _head(head, framing)


def interim_head(head: ResponseHead) -> bytes:
    """Write a 1xx answer's head; it has neither body nor framing (RFC 9110 section 15.2)."""
    return _head(head, b"")


def switching_head(head: ResponseHead) -> bytes:
    """Write a 101; what follows are raw bytes."""
    assert head.upgrade is not None, "the caller has checked it"
    return _head(head, b"Connection: Upgrade\r\nUpgrade: %b\r\n" % head.upgrade)


def _head(head: ResponseHead, framing: bytes) -> bytes:
    lines = head.lines
    if not _HIDDEN.isdisjoint(head.names):
        lines = [line for name, line in zip(head.names, lines, strict=True) if name not in _HIDDEN]
    return b"\r\n".join((b"HTTP/1.1 %d %b" % (head.status, head.reason), *lines, framing + b"\r\n"))
