"""An answer that is searched for secrets, as mitmproxy hands it over: its coding read, undone where it is gzip (C3).

The rule is gateway/answer.py's, the code that undoes and searches the same. It knows no mitmproxy.
"""

from collections.abc import Iterator, Sequence

from gateway.core.content_coding import CODED_FIELDS, CODING_FIELD, Coding, GzipReader, read_coding
from gateway.core.scrub import Scrubber
from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.codec import parse_response
from sallyport.wire.http1.framing import has_answer_body
from sallyport.wire.http1.scan import CRLF
from sallyport.wire.http1.shape import field_name

_LENGTH_FIELDS = frozenset({b"content-length", b"transfer-encoding"})

type Fields = list[tuple[bytes, bytes]]


def answer_coding(status: int, fields: Fields) -> Coding:
    """Say which coding an answer's fields name; what our own codec cannot read is not to be read either."""
    if all(field_name(name) != CODING_FIELD for name, _ in fields):
        return Coding.IDENTITY
    lines = [b"HTTP/1.1 %d " % status, *map(b"%b: %b".__mod__, fields)]
    try:
        return read_coding(parse_response(CRLF.join(lines)))
    except RemoteProtocolError:
        return Coding.OPAQUE


def has_body(method: str, status: int, fields: Fields) -> bool:
    """Whether bytes follow the head."""
    is_empty = any(field_name(name) == b"content-length" and not value.strip(b"0") for name, value in fields)
    return has_answer_body(method, status) and not is_empty


def without_coding(fields: Fields, *, is_followed: bool) -> Fields:
    """Return the fields of the answer without its gzip; how long that is nobody knows."""
    dropped = CODED_FIELDS | _LENGTH_FIELDS
    kept = [pair for pair in fields if field_name(pair[0]) not in dropped]
    return [*kept, (b"Transfer-Encoding", b"chunked")] if is_followed else kept


class AnswerBody:
    """The body of one answer, piece by piece."""

    def __init__(self, scrubber: Scrubber, *, is_gzip: bool) -> None:
        self._scrubber = scrubber
        self._gzip = GzipReader() if is_gzip else None

    def take(self, data: bytes) -> Iterator[bytes]:
        """Yield what may go out now, never an empty piece; b"" is the end. Raises RemoteProtocolError."""
        for payload in self._undone(data):
            if piece := self._scrubber.feed(payload):
                yield piece
        if not data and (piece := self._scrubber.finish()):
            yield piece

    def _undone(self, data: bytes) -> Iterator[bytes]:
        gzip = self._gzip
        if gzip is None:
            yield from _present(data)
            return
        gzip.feed(data)
        while gzip.has_more:
            yield from _present(gzip.step())
        if not data:
            gzip.finish()


def _present(piece: bytes) -> Sequence[bytes]:
    return [piece] if piece else []
