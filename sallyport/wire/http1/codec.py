"""Head bytes into heads, strictly (RFC 9112). The pure-Python codec.

Stateless: every call gets the whole head, without its final empty line. A line that is kept is kept as it came. Costs
are measured (docs/performance.md): `re` over a head costs more than all of this, so the checks are one look at every
byte (scan.py) and one look-up of its shape (shape.py).
"""

from collections.abc import Sequence
from typing import Final

from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.head import CHUNKED, FieldKind, RequestHead, ResponseHead
from sallyport.wire.http1.scan import CRLF, TEXT, cut_request_line, field_value, split_head, split_plain
from sallyport.wire.http1.shape import (
    MAX_SHAPE_BYTES,
    MAX_SHAPE_FIELDS,
    MAX_SHAPES,
    TOKEN,
    HeadShape,
    ShapeTable,
    field_kind,
    field_name,
)

_DIGITS: Final = b"0123456789"

# 18 digits stay within 2^63; nobody sends an exabyte.
MAX_LENGTH_DIGITS: Final = 18

# Connection options of a head, over all of its lines. Clients and servers name one to three; every one is checked and
# looked for among the fields, and a head has room for tens of thousands.
MAX_OPTIONS: Final = 64

# What a stream keeps of its last head: a few KiB, of which there may be as many as there are streams.
MAX_REPEATED_BYTES: Final = 4096
MAX_MISSES: Final = 4
type _Said = tuple[HeadShape, Sequence[bytes], Sequence[bytes], bytes | None, bytes | None]

_split_plain: Final = split_plain
_field_value: Final = field_value
_cut_request_line: Final = cut_request_line

# Local names: an enum member costs two look-ups. Final, because a compiled module looks other names up in a dict.
_HOST: Final = FieldKind.HOST
_PROXY_AUTHORIZATION: Final = FieldKind.PROXY_AUTHORIZATION
_LENGTH: Final = FieldKind.CONTENT_LENGTH
_CODING: Final = FieldKind.TRANSFER_ENCODING
_CONNECTION: Final = FieldKind.CONNECTION
_CONNECTIONS: Final = FieldKind.CONNECTIONS
_UPGRADE: Final = FieldKind.UPGRADE

_request_shapes: Final = ShapeTable(is_answer=False)
_answer_shapes: Final = ShapeTable(is_answer=True)
# The same shapes by their names run together: one key to hash, not one a line. Bounded like the tables.
_known_request_shapes: Final[dict[bytes, HeadShape]] = {}
_known_answer_shapes: Final[dict[bytes, HeadShape]] = {}
# What was read before: status lines (origins send a handful) and values of Connection (nearly all are one of three).
_MAX_KNOWN_BYTES: Final = 64
_MAX_KNOWN_STATUS_LINES: Final = 256
_known_status_lines: Final[dict[bytes, tuple[int, bytes, int]]] = {}
_MAX_KNOWN_OPTIONS: Final = 64
_known_options: Final[dict[bytes, frozenset[bytes]]] = {}
_METHODS: Final = {
    name: name.decode()
    for name in (b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"HEAD", b"OPTIONS", b"CONNECT", b"TRACE")
}
_NO_OPTIONS: Final[frozenset[bytes]] = frozenset()


def parse_request(head: bytes) -> RequestHead:
    """Read a request head; raises RemoteProtocolError with the status to answer (400 or 505)."""
    first, names, lines = _split_plain(head) or split_head(head)
    request = RequestHead()
    _read_request_line(request, first)
    shape = _known_request_shapes.get(names)
    if shape is None:
        shape = _learn(_request_shapes, _known_request_shapes, names, lines)
    request.shape = shape
    request.names = shape.names
    request.fields = lines
    options = _NO_OPTIONS
    for index, kind in shape.hop:
        value = _field_value(lines[index])
        if kind is _HOST:
            request.host = value
        elif kind is _PROXY_AUTHORIZATION:
            request.proxy_authorization = value
        elif kind is _LENGTH or kind is _CODING:
            request.has_body = True
            request.body = _read_framing(kind, value)
        elif kind is _CONNECTION:
            options = _read_options(value)
        elif kind is _UPGRADE:
            request.upgrade = value if request.upgrade is None else b""
        elif kind is _CONNECTIONS:
            options = _read_options(_join_values(lines, shape.connections))
        elif value.lower() == b"100-continue":
            request.expects_continue = True
        else:
            raise RemoteProtocolError("an expectation other than 100-continue")
    if options:
        request.close = b"close" in options
        _drop_named(request, options)
    if request.upgrade is not None and b"upgrade" not in options:
        request.upgrade = None
    if request.minor == 0 and request.body == CHUNKED:
        raise RemoteProtocolError("Transfer-Encoding in HTTP/1.0")
    return request


class RequestReader:
    """Reads the request heads of one stream, as parse_request does.

    What stands behind a first line is mostly what stood behind the last one, byte for byte: then only the first line is
    read. What is remembered follows from those bytes alone, whoever sends them: it is what they said before anybody
    acted on them. A stream whose heads are never alike is soon let alone.
    """

    __slots__ = ("_block", "_misses", "_said")

    def __init__(self) -> None:
        self._block = b""  # from the end of the first line on
        self._said: _Said | None = None
        self._misses = 0  # in a row

    def read(self, head: bytes) -> RequestHead:
        """Read a request head; raises RemoteProtocolError with the status to answer (400 or 505)."""
        if self._misses == MAX_MISSES:
            return parse_request(head)
        begin = len(head) - len(self._block)
        if self._said is None or not head.endswith(self._block) or head.find(CRLF) != begin:
            return self._read_anew(head)
        self._misses = 0
        line = head[:begin]
        first, _, _ = _split_plain(line) or split_head(line)
        request = RequestHead()
        _read_request_line(request, first)
        request.shape, request.names, request.fields, request.host, request.proxy_authorization = self._said
        return request

    def _read_anew(self, head: bytes) -> RequestHead:
        request = parse_request(head)
        self._said = None
        self._misses += 1
        block = head[head.find(CRLF) :]
        shape = request.shape
        if shape is not None and shape.is_usual and not request.close and len(block) <= MAX_REPEATED_BYTES:
            self._block = block
            self._said = (shape, request.names, request.fields, request.host, request.proxy_authorization)
        if self._misses == MAX_MISSES:
            self._block, self._said = b"", None
        return request

    def __repr__(self) -> str:
        if self._misses == MAX_MISSES:
            return "<RequestReader lets this stream alone>"
        return f"<RequestReader remembers {0 if self._said is None else len(self._block)} bytes>"


def parse_response(head: bytes) -> ResponseHead:
    """Read an answer head; raises RemoteProtocolError."""
    first, names, lines = _split_plain(head) or split_head(head)
    response = ResponseHead()
    response.status, response.reason, response.minor = _read_status_line(first)
    if response.minor == 0:
        response.close = True
    shape = _known_answer_shapes.get(names)
    if shape is None:
        shape = _learn(_answer_shapes, _known_answer_shapes, names, lines)
    response.shape = shape
    response.names = shape.names
    response.fields = lines
    options = _NO_OPTIONS
    for index, kind in shape.hop:
        value = _field_value(lines[index])
        if kind is _LENGTH or kind is _CODING:
            response.body = _read_framing(kind, value)
        elif kind is _CONNECTION:
            options = _read_options(value)
        elif kind is _CONNECTIONS:
            options = _read_options(_join_values(lines, shape.connections))
        else:
            response.upgrade = value if response.upgrade is None else b""
    if options:
        response.close = response.close or b"close" in options
        _drop_named(response, options)
    if response.body and (response.status < 200 or response.status == 204):
        if response.status < 200:
            raise RemoteProtocolError("an interim answer that claims a body")
        # A 204 has none either (RFC 9112 section 6.1); what follows one that claims it may not be the next answer.
        response.close = True
    if response.minor == 0 and response.body == CHUNKED:
        raise RemoteProtocolError("Transfer-Encoding in HTTP/1.0")
    return response


def parse_trailers(block: bytes) -> list[bytes]:
    """Trailer lines that may be passed on; raises RemoteProtocolError for malformed or forbidden ones.

    RFC 9110 section 6.5.1: framing, routing, authentication and hop fields have no business in a trailer.
    """
    if not block:
        return []
    rows = block.split(CRLF)
    if block.translate(None, TEXT) != CRLF * (len(rows) - 1):
        raise RemoteProtocolError("control byte or bare line end in the trailers")
    for line in rows:
        name, colon, _ = line.partition(b":")
        if not colon:
            raise RemoteProtocolError("a line without a colon")
        if field_kind(name) is not FieldKind.PLAIN or field_name(name) in _NOT_IN_TRAILERS:
            raise RemoteProtocolError("a field that may not be a trailer")
    return rows


_NOT_IN_TRAILERS: Final = frozenset(
    {
        b"authorization",
        b"www-authenticate",
        b"x-api-key",
        b"api-key",
        b"private-token",
        b"cookie",
        b"set-cookie",
        b"content-encoding",
        b"content-type",
        b"content-range",
        b"trailer",
        b"cache-control",
        b"max-forwards",
        b"age",
        b"expires",
        b"date",
        b"location",
        b"retry-after",
        b"vary",
        b"warning",
    }
)


def _learn(table: ShapeTable, known: dict[bytes, HeadShape], names: bytes, lines: Sequence[bytes]) -> HeadShape:
    """Work a shape out, and remember it where the table does; raises RemoteProtocolError."""
    shape = table.learn(tuple([line[: line.find(b":") + 1] for line in lines]))
    if len(lines) <= MAX_SHAPE_FIELDS and len(names) <= MAX_SHAPE_BYTES:
        if len(known) >= MAX_SHAPES:
            known.clear()
        known[names] = shape
    return shape


def _read_request_line(request: RequestHead, line: bytes) -> None:
    cut = _cut_request_line(line)
    if cut is not None:
        method, target, version = cut
    else:
        parts = line.split(b" ")
        if len(parts) != 3 or not parts[1]:
            raise RemoteProtocolError("the request line is not METHOD TARGET VERSION")
        method, target, version = parts
    known = _METHODS.get(method)
    if known is None:
        if not method or method.translate(None, TOKEN):
            raise RemoteProtocolError("the method is not a token")
        if method == b"PRI":
            # RFC 9113 section 3.4: the HTTP/2 preface, whatever version follows (S4).
            raise RemoteProtocolError("HTTP/2 is not served", 505)
        known = method.decode("ascii")
    request.method = known
    if cut is None and (not target.isascii() or target.find(b"\t") >= 0):
        raise RemoteProtocolError("a byte in the target that must be percent-encoded")
    request.target = target
    if version == b"HTTP/1.1":
        return
    if version == b"HTTP/1.0":
        # S4: Python 3.11 sends CONNECT in 1.0; every other 1.0 request is refused.
        if known != "CONNECT":
            raise RemoteProtocolError("HTTP/1.0 requests are not served", 505)
        request.minor = 0
    elif len(version) == 8 and version[:5] == b"HTTP/" and version[5::2].isdigit() and version[6] == 0x2E:
        raise RemoteProtocolError("only HTTP/1.1 is served", 505)
    else:
        raise RemoteProtocolError("the request line is not METHOD TARGET VERSION")


def _read_status_line(line: bytes) -> tuple[int, bytes, int]:
    """Read a status line: code, reason, minor version."""
    known = _known_status_lines.get(line)
    if known is not None:
        return known
    version, space, rest = line.partition(b" ")
    code, _, reason = rest.partition(b" ")
    if version not in (b"HTTP/1.1", b"HTTP/1.0") or not space or len(code) != 3 or code.translate(None, _DIGITS):
        raise RemoteProtocolError("the status line is not VERSION CODE REASON")
    status = int(code)
    if not 100 <= status <= 599:
        raise RemoteProtocolError("a status outside 100 to 599")
    known = (status, reason, version[7] - 0x30)
    if len(_known_status_lines) < _MAX_KNOWN_STATUS_LINES and len(line) <= _MAX_KNOWN_BYTES:
        _known_status_lines[line] = known
    return known


def _read_framing(kind: FieldKind, value: bytes) -> int:
    if kind is _CODING:
        if value.lower() != b"chunked":
            raise RemoteProtocolError("a Transfer-Encoding other than chunked")
        return CHUNKED
    if len(value) > MAX_LENGTH_DIGITS or not value.isdigit():  # bytes.isdigit() knows ASCII only
        raise RemoteProtocolError("Content-Length is not one decimal number")
    return int(value)


def _join_values(lines: Sequence[bytes], indexes: Sequence[int]) -> bytes:
    return b",".join([_field_value(lines[index]) for index in indexes])


def _read_options(value: bytes) -> frozenset[bytes]:
    known = _known_options.get(value)
    if known is not None:
        return known
    if value.count(b",") >= MAX_OPTIONS:
        raise RemoteProtocolError("more than 64 Connection options")
    # Keep-Alive is dropped whether it is named or not, and says nothing else.
    options = frozenset(field_name(option.strip(b" \t")) for option in value.split(b",")) - {b"", b"keep-alive"}
    for option in options:
        if option.translate(None, TOKEN):
            raise RemoteProtocolError("a Connection option that is not a token")
    if len(_known_options) < _MAX_KNOWN_OPTIONS and len(value) <= _MAX_KNOWN_BYTES:
        _known_options[value] = options
    return options


def _drop_named(head: RequestHead | ResponseHead, options: frozenset[bytes]) -> None:
    """Take out the fields that Connection names (S5); Host and framing are not among them, they were read apart."""
    if not options.isdisjoint(head.names):
        head.remove(options)
