"""Content codings of answers that are searched for secrets (C3): which can be undone, and gzip undone in steps. Pure.

Such an answer was asked for as identity. One that is gzip all the same is undone; what else there is stays as it came.
"""

import zlib
from enum import Enum
from typing import Final

from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.head import ResponseHead
from sallyport.wire.http1.scan import field_value
from sallyport.wire.http1.shape import field_name

CODING_FIELD: Final = b"content-encoding"
# What is said of the coded bytes and is not true of the others (RFC 9110 section 8.4, RFC 9530, RFC 3230, RFC 1864).
CODED_FIELDS: Final = frozenset({CODING_FIELD, b"etag", b"digest", b"content-digest", b"repr-digest", b"content-md5"})

# What one step gives at most. gzip grows up to a thousandfold, so whoever takes steps decides how far he goes.
STEP_BYTES: Final = 64 * 1024

# Of zlib: a window of 32 KiB, and a gzip head and trailer whose checksum and length are verified.
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
_GZIP_NAMES: Final = frozenset({b"gzip", b"x-gzip"})  # RFC 9110 section 8.4.1.3
_PARTIAL: Final = 206


class Coding(Enum):
    """How an answer that is searched stands to its coding."""

    IDENTITY = "none, as was asked for"
    GZIP = "to be undone"
    OPAQUE = "not to be read"


def read_coding(head: ResponseHead) -> Coding:
    """Say which coding an answer's head names. A part of something coded cannot be undone."""
    found: list[bytes] = []
    for name, line in zip(head.names, head.lines, strict=True):
        if name == CODING_FIELD:
            found += [word.strip(b" \t").lower() for word in field_value(line).split(b",")]
    codings = [word for word in found if word not in (b"", b"identity")]
    if not codings:
        return Coding.IDENTITY
    if len(codings) == 1 and codings[0] in _GZIP_NAMES and head.status != _PARTIAL:
        return Coding.GZIP
    return Coding.OPAQUE


def drop_coding(head: ResponseHead) -> None:
    """Make the head that of the answer without its coding; how long that is nobody knows yet."""
    head.remove(CODED_FIELDS)
    head.body = None


def drop_coded_trailers(trailers: list[bytes]) -> list[bytes]:
    """Return the trailers that are as true of the answer without its coding."""
    return [line for line in trailers if field_name(line.partition(b":")[0]) not in CODED_FIELDS]


class GzipReader:
    """Take gzip off a body, member after member (RFC 1952 section 2.2).

    Always: it holds what was fed and not yet undone, and one window of zlib; has_more while a step can give anything.
    """

    __slots__ = ("_input", "_member", "has_more")

    def __init__(self) -> None:
        self._input = b""
        self._member: zlib._Decompress | None = None
        self.has_more = False

    def feed(self, data: bytes) -> None:
        """Take some of the body."""
        if data:
            self._input = self._input + data if self._input else data
            self.has_more = True

    def step(self) -> bytes:
        """Return the next piece, at most STEP_BYTES and at most one member's; raises RemoteProtocolError."""
        member = self._member
        if member is None:
            member = self._member = zlib.decompressobj(_GZIP_WINDOW)
        try:
            piece = member.decompress(self._input, STEP_BYTES)
        except zlib.error:
            raise RemoteProtocolError("the answer says gzip and is not") from None
        if member.eof:
            self._input = member.unused_data
            self._member = None
            self.has_more = bool(self._input)
        else:
            self._input = member.unconsumed_tail
            self.has_more = bool(self._input) or len(piece) == STEP_BYTES
        return piece

    def finish(self) -> None:
        """Note the body's end, once has_more is False; raises RemoteProtocolError where a member is not whole."""
        if self._member is not None:
            raise RemoteProtocolError("the answer's gzip is cut short")

    def __repr__(self) -> str:
        state = "inside a member" if self._member is not None else "between members"
        return f"<GzipReader {state}, {len(self._input)} bytes held>"
