"""Bodies: the peer's framing taken off as bytes arrive, and ours put on.

Framing is never copied from one side to the other: what leaves was framed here, so both ends can
only read it one way (docs/decisions/0004). A reader is fed bytes and returns the payload in them;
once `done`, `rest` holds what came after the body.
"""

from typing import Final

from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.codec import parse_trailers

# A chunk-size line is a few hex digits; extensions are allowed and dropped. 256 bytes is generous (nginx: no
# extensions kept; h11: 20 digits).
MAX_CHUNK_LINE_BYTES: Final = 256
# 15 hex digits stay below 2^60.
MAX_CHUNK_DIGITS: Final = 15
MAX_TRAILER_BYTES: Final = 16 * 1024

LAST_CHUNK: Final = b"0\r\n\r\n"

_HEX: Final = b"0123456789abcdefABCDEF"
_EXTENSION_TEXT: Final = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])


class BodyReader:
    """What takes a body's framing off. A class and not a union of the three: a class attribute of a union would be
    left unset when compiled (docs/decisions/0009)."""

    __slots__ = ("done", "rest")

    def __init__(self, *, done: bool) -> None:
        self.done = done
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """Return the payload in data; raises RemoteProtocolError."""
        raise NotImplementedError

    @property
    def trailers(self) -> list[bytes]:
        """Only a chunked body can have any."""
        return []


class LengthReader(BodyReader):
    """A body of known length. Always: bytes returned so far + remaining == length."""

    __slots__ = ("remaining",)

    def __init__(self, length: int) -> None:
        super().__init__(done=length == 0)
        self.remaining = length

    def feed(self, data: bytes) -> bytes:
        """Return the payload in data."""
        size = len(data)
        if size < self.remaining:
            self.remaining -= size
            return data
        payload = data if size == self.remaining else data[: self.remaining]
        self.rest = data[self.remaining :]
        self.remaining = 0
        self.done = True
        return payload


class UntilCloseReader(BodyReader):
    """An answer that ends with its link (RFC 9112 section 6.3, rule 8)."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(done=False)

    def feed(self, data: bytes) -> bytes:
        """Return data: all of it is payload."""
        return data


class ChunkedReader(BodyReader):
    """A chunked body (RFC 9112 section 7.1).

    _left is what is still missing of the current chunk: -1 between chunks (a size line is due), 0 when
    the CRLF after a chunk is due, -2 in the trailers. _held never exceeds the longest line allowed.
    """

    __slots__ = ("_held", "_left", "_trailers")

    def __init__(self) -> None:
        super().__init__(done=False)
        self._held = b""
        self._left = -1
        self._trailers: list[bytes] = []

    def feed(self, data: bytes) -> bytes:
        """Return the payload in data; raises RemoteProtocolError (S2)."""
        if self._held:
            data = self._held + data
            self._held = b""
        parts: list[bytes] = []
        at = 0
        end = len(data)
        while at < end:
            if self._left > 0:
                take = min(self._left, end - at)
                parts.append(data if take == end else data[at : at + take])
                self._left -= take
                at += take
            elif self._left == 0:
                if data[at : at + 2] == b"\r\n":
                    self._left = -1
                    at += 2
                elif data[at : at + 1] == b"\r" and end - at == 1:
                    self._held = b"\r"
                    break
                else:
                    raise RemoteProtocolError("a chunk that is longer than its size")
            elif self._left == -1:
                line_end = data.find(b"\n", at, at + MAX_CHUNK_LINE_BYTES)
                if line_end < 0:
                    self._hold(data[at:], MAX_CHUNK_LINE_BYTES, "an endless chunk-size line")
                    break
                size = _chunk_size(data[at : line_end + 1])
                self._left = size or -2
                at = line_end + 1
            elif self._end_of_trailers(data, at):
                break
            else:
                self._hold(data[at:], MAX_TRAILER_BYTES, "endless trailers")
                break
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _hold(self, data: bytes, limit: int, reason: str) -> None:
        if len(data) >= limit:
            raise RemoteProtocolError(reason)
        self._held = data

    def _end_of_trailers(self, data: bytes, at: int) -> bool:
        if data[at : at + 2] == b"\r\n":
            self.rest = data[at + 2 :]
            self.done = True
            return True
        end = data.find(b"\r\n\r\n", at, at + MAX_TRAILER_BYTES)
        if end < 0:
            return False
        self._trailers = parse_trailers(data[at:end])
        self.rest = data[end + 4 :]
        self.done = True
        return True

    @property
    def trailers(self) -> list[bytes]:
        """The lines behind the last chunk, once done."""
        return self._trailers


def _chunk_size(line: bytes) -> int:
    if line[-2:] != b"\r\n":
        raise RemoteProtocolError("a bare line feed after a chunk size")
    digits, semicolon, extension = line[:-2].partition(b";")
    if semicolon:
        digits = digits.rstrip(b" \t")  # RFC 9112 section 7.1.1: BWS before an extension
        if extension.translate(None, _EXTENSION_TEXT):
            raise RemoteProtocolError("a control byte in a chunk extension")
    if not digits or len(digits) > MAX_CHUNK_DIGITS or digits.translate(None, _HEX):
        raise RemoteProtocolError("a chunk size that is not a hexadecimal number")
    return int(digits, 16)


def frame_chunk(payload: bytes) -> bytes:
    """Frame payload as one chunk; payload is not empty (an empty chunk would end the body)."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def frame_end(trailers: list[bytes]) -> bytes:
    """End a chunked body, with its trailers."""
    if not trailers:
        return LAST_CHUNK
    return b"0\r\n" + b"\r\n".join(trailers) + b"\r\n\r\n"
