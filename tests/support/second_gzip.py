"""A second reading of gzip (RFC 1952), beside the one that gateway.core.content_coding has zlib do.

Heads and trailers are read here, byte by byte; zlib sees nothing but what is between them.
"""

import zlib

TEXT, HEAD_CHECK, EXTRA, NAME, COMMENT = 1, 2, 4, 8, 16
_FLAGS = TEXT | HEAD_CHECK | EXTRA | NAME | COMMENT


class NoGzip(Exception):
    """The bytes are no gzip, whatever follows them."""


class CutShort(Exception):
    """What there is may be the beginning of gzip."""


def undo(data: bytes) -> list[bytes]:
    """Return the content of each member; raises NoGzip or CutShort."""
    members: list[bytes] = []
    while data:
        content, data = _member(data)
        members.append(content)
    return members


def _member(data: bytes) -> tuple[bytes, bytes]:
    deflate = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = deflate.decompress(data[_head(data) :])
    except zlib.error:
        raise NoGzip from None
    if not deflate.eof:
        raise CutShort
    behind = deflate.unused_data
    if _take(behind, 0, 4) != zlib.crc32(content).to_bytes(4, "little"):
        raise NoGzip
    if _take(behind, 4, 4) != (len(content) % (1 << 32)).to_bytes(4, "little"):
        raise NoGzip
    return content, behind[8:]


def _head(data: bytes) -> int:
    """Return where the head ends."""
    if _take(data, 0, 2) != b"\x1f\x8b":
        raise NoGzip
    method, flags = _take(data, 2, 2)
    if method != 8 or flags & ~_FLAGS:
        raise NoGzip
    _take(data, 4, 6)  # when, by which effort, on which system
    at = 10
    if flags & EXTRA:
        length = int.from_bytes(_take(data, at, 2), "little")
        _take(data, at + 2, length)
        at += 2 + length
    for flag in (NAME, COMMENT):
        if flags & flag:
            at = data.find(b"\0", at) + 1
            if not at:
                raise CutShort
    if flags & HEAD_CHECK:
        if _take(data, at, 2) != zlib.crc32(data[:at]).to_bytes(4, "little")[:2]:
            raise NoGzip
        at += 2
    return at


def _take(data: bytes, at: int, size: int) -> bytes:
    taken = data[at : at + size]
    if len(taken) < size:
        raise CutShort
    return taken
