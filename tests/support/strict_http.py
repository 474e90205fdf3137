"""A second, independent and strict reader of HTTP/1.1 (RFC 9112), used to judge what reached an origin, and our reader.

It shares no code and no shortcut with the gateway's reader: it takes whole byte strings, knows one spelling of
everything, and calls the rest a fault. Slow and small on purpose.
"""

from dataclasses import dataclass
from enum import Enum

_TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_DIGITS = frozenset(b"0123456789")
_HEX_DIGITS = frozenset(b"0123456789ABCDEFabcdef")
_VALUE = frozenset([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])
# An origin behind CGI reads both spellings as one header: such a twin would be a second framing.
_FRAMING_TWINS = (b"content_length", b"transfer_encoding")
_MAX_DIGITS = 15


class Malformed(Exception):
    """These bytes are not exactly one way to read a request; the text says why."""


class Framing(Enum):
    """How the end of a request body is known."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """One request head; `end` is the offset of the first byte after it."""

    method: str
    target: str
    headers: tuple[tuple[str, bytes], ...]  # names in lower case
    framing: Framing
    length: int
    end: int

    def values(self, name: str) -> list[bytes]:
        """Return every value of one header, in order."""
        return [value for known, value in self.headers if known == name.lower()]

    @property
    def host(self) -> str:
        return self.values("host")[0].decode("latin-1")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerHead:
    """One head of an answer."""

    status: int
    reason: bytes
    headers: tuple[tuple[str, bytes], ...]  # names in lower case
    framing: Framing
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One whole request; `end` is the offset of the first byte after it."""

    head: Head
    body: bytes
    trailers: tuple[tuple[str, bytes], ...]
    end: int

    def __str__(self) -> str:
        return f"{self.head.method} {self.head.target}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a byte string holds: whole requests, perhaps a head whose body is not complete, and no doubt about either.

    `unfinished` is such a head; `rest` are bytes of a head that is not complete.
    """

    requests: tuple[Request, ...]
    unfinished: Head | None
    rest: bytes

    def heads(self) -> list[Head]:
        """Return every complete head, the unfinished one last."""
        return [request.head for request in self.requests] + ([self.unfinished] if self.unfinished else [])


def read_all(data: bytes) -> Reading:
    """Read a whole link; raises `Malformed` where the bytes are ambiguous."""
    requests: list[Request] = []
    start = 0
    while start < len(data):
        head = read_head(data, start)
        if head is None:
            return Reading(requests=tuple(requests), unfinished=None, rest=data[start:])
        request = read_request(data, start)
        if request is None:
            return Reading(requests=tuple(requests), unfinished=head, rest=b"")
        requests.append(request)
        start = request.end
    return Reading(requests=tuple(requests), unfinished=None, rest=b"")


def read_request(data: bytes, start: int) -> Request | None:
    """Read one request at `start`; None where it is not complete, `Malformed` where it is not one."""
    head = read_head(data, start)
    if head is None:
        return None
    if head.framing is Framing.CHUNKED:
        return _read_chunks(data, head)
    end = head.end + head.length
    if len(data) < end:
        return None
    return Request(head=head, body=data[head.end : end], trailers=(), end=end)


def read_head(data: bytes, start: int) -> Head | None:
    """Read one head at `start`; None where its empty line has not come, `Malformed` where it is not one."""
    stop = data.find(b"\r\n\r\n", start)
    if stop < 0:
        return None
    request_line, *lines = data[start:stop].split(b"\r\n")
    method, target = _read_request_line(request_line)
    headers = _read_fields(lines)
    if len([value for name, value in headers if name == "host" and value]) != 1:
        raise Malformed("not exactly one Host")
    framing, length = _read_framing(headers)
    return Head(method=method, target=target, headers=headers, framing=framing, length=length, end=stop + 4)


def read_answer_head(block: bytes) -> AnswerHead:
    """Read the head of an answer, given without its empty line; `Malformed` where it is not one."""
    status_line, *lines = block.split(b"\r\n")
    version, code, reason = status_line[:9], status_line[9:12], status_line[12:]
    if version not in (b"HTTP/1.1 ", b"HTTP/1.0 ") or len(code) != 3 or not _DIGITS.issuperset(code):
        raise Malformed(f"status line {status_line!r}")
    if not _VALUE.issuperset(reason) or reason[:1] not in (b"", b" ") or not b"100" <= code <= b"599":
        raise Malformed(f"status line {status_line!r}")
    headers = _read_fields(lines)
    framing, length = _read_framing(headers)
    return AnswerHead(status=int(code), reason=reason[1:], headers=headers, framing=framing, length=length)


def _read_request_line(line: bytes) -> tuple[str, str]:
    parts = line.split(b" ")
    if len(parts) != 3 or parts[2] != b"HTTP/1.1":
        raise Malformed(f"request line {line!r}")
    method, target, _ = parts
    if not method or not _TOKEN.issuperset(method):
        raise Malformed(f"method {method!r}")
    if not target or any(byte <= 0x20 or byte >= 0x7F for byte in target):
        raise Malformed(f"target {target!r}")
    return method.decode("ascii"), target.decode("ascii")


def _read_fields(lines: list[bytes]) -> tuple[tuple[str, bytes], ...]:
    fields: list[tuple[str, bytes]] = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or not _TOKEN.issuperset(name):
            raise Malformed(f"field {line!r}")
        if not _VALUE.issuperset(value):
            raise Malformed(f"value of {name!r}: {value!r}")
        if name.lower() in _FRAMING_TWINS:
            raise Malformed(f"twin of a framing header {name!r}")
        fields.append((name.decode("ascii").lower(), value.strip(b" \t")))
    return tuple(fields)


def _read_framing(headers: tuple[tuple[str, bytes], ...]) -> tuple[Framing, int]:
    lengths = [value for name, value in headers if name == "content-length"]
    codings = [value for name, value in headers if name == "transfer-encoding"]
    if lengths and codings:
        raise Malformed("Content-Length beside Transfer-Encoding")
    if len(lengths) > 1 or len(codings) > 1:
        raise Malformed("a framing header twice")
    if codings:
        # Other codings in front of chunked are legal, and an origin that does not know them has to guess.
        if codings[0].lower() != b"chunked":
            raise Malformed(f"transfer coding {codings[0]!r}")
        return Framing.CHUNKED, 0
    if not lengths:
        return Framing.NONE, 0
    if not lengths[0] or len(lengths[0]) > _MAX_DIGITS or not _DIGITS.issuperset(lengths[0]):
        raise Malformed(f"length {lengths[0]!r}")
    return Framing.LENGTH, int(lengths[0])


def _read_chunks(data: bytes, head: Head) -> Request | None:
    body = bytearray()
    at = head.end
    while True:
        line_end = data.find(b"\r\n", at)
        if line_end < 0:
            return None
        size = _read_chunk_size(data[at:line_end])
        at = line_end + 2
        if size == 0:
            return _read_trailers(data, head, bytes(body), at)
        if len(data) < at + size + 2:
            return None
        if data[at + size : at + size + 2] != b"\r\n":
            raise Malformed("chunk data does not end where its size says")
        body += data[at : at + size]
        at += size + 2


def _read_chunk_size(line: bytes) -> int:
    digits, semicolon, extension = line.partition(b";")
    if semicolon:
        digits = digits.rstrip(b" \t")  # BWS
    if not digits or len(digits) > _MAX_DIGITS or not _HEX_DIGITS.issuperset(digits):
        raise Malformed(f"chunk size {line!r}")
    if semicolon and (not extension or not _VALUE.issuperset(extension)):
        raise Malformed(f"chunk extension {line!r}")
    return int(digits, 16)


def _read_trailers(data: bytes, head: Head, body: bytes, at: int) -> Request | None:
    if data[at : at + 2] == b"\r\n":
        return Request(head=head, body=body, trailers=(), end=at + 2)
    stop = data.find(b"\r\n\r\n", at)
    if stop < 0:
        return None
    trailers = _read_fields(data[at:stop].split(b"\r\n"))
    forbidden = {"content-length", "transfer-encoding", "host", "authorization", "trailer"}
    if forbidden.intersection(name for name, _ in trailers):
        raise Malformed("a trailer that frames, routes or authenticates")
    return Request(head=head, body=body, trailers=trailers, end=stop + 4)
