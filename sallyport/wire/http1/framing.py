"""Which framing a message has (RFC 9112 section 6.3), and whether its link may carry another."""

from typing import Final

from sallyport.wire.http1.body import BodyReader, ChunkedReader, LengthReader, UntilCloseReader
from sallyport.wire.http1.head import CHUNKED, RequestHead, ResponseHead

# RFC 9110 section 9.2.2: sending one of these twice does what sending it once does.
IDEMPOTENT_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})


def request_reader(head: RequestHead) -> BodyReader:
    """Return the reader of a request's body; one that is done at once where there is none."""
    return ChunkedReader() if head.body == CHUNKED else LengthReader(head.body)


def has_answer_body(method: str, status: int) -> bool:
    """Say whether an answer can have a body at all (RFC 9110 section 6.4.1)."""
    return method != "HEAD" and status >= 200 and status not in (204, 304)


def answer_reader(method: str, head: ResponseHead) -> BodyReader:
    """Return the reader of an answer's body."""
    if not has_answer_body(method, head.status):
        return LengthReader(0)
    if head.body is None:
        return UntilCloseReader()
    return ChunkedReader() if head.body == CHUNKED else LengthReader(head.body)
