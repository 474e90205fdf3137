"""What looks at every byte: a head split into lines, needles sought in an answer. In Python, and in C where built.

The one place where the two meet (docs/decisions/0009): everybody else imports from here. `split_plain` is the C twin
of `split_head` where there is one; it answers None to a head with any fault, and `split_head` says which fault it is.
"""

from collections.abc import Callable, Sequence
from typing import Final

from sallyport.wire.errors import RemoteProtocolError

CRLF: Final = b"\r\n"
HEAD_END: Final = b"\r\n\r\n"
# What head_end() answers where there is no end to a head yet, or too many lines before it.
NO_END: Final = -1
TOO_MANY_LINES: Final = -2

# RFC 9110 section 5.5: tab, space, visible ASCII, obs-text. Everything else in a head is a control byte.
TEXT: Final = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])

# In the place of a name where a line has no colon. No name has it, so such a head is like no other.
NAMELESS: Final = b"\n"

# CPython's `find` compares a pattern at place after place until too much of that was in vain, then goes over to a way
# that takes linear time; but not for the last 2000 places, nor in less than 2500 bytes. So a pattern of so many bytes
# is sought with room behind the data, or data much like it would take long. Shorter ones have little to compare.
LONG_PATTERN: Final = 512
_ROOM: Final = bytes(2048)

type SplitHead = tuple[bytes, bytes, Sequence[bytes]]


def split_head(head: bytes) -> SplitHead:
    """Return the first line, the names of the others run together, each with its colon, and the others.

    Raises RemoteProtocolError for control bytes and bare line ends, and for nothing else.
    """
    lines = head.split(CRLF)
    if head.translate(None, TEXT) != CRLF * (len(lines) - 1):
        raise RemoteProtocolError("control byte or bare line end in the head")
    first = lines.pop(0)
    return first, b"".join([line[: line.find(b":") + 1] or NAMELESS for line in lines]), lines


def _field_value(line: bytes) -> bytes:
    return line.partition(b":")[2].strip(b" \t")


def _head_end(data: bytes, most_lines: int) -> int:
    end = data.find(HEAD_END)
    return TOO_MANY_LINES if end > 0 and data.count(CRLF, 0, end) > most_lines else end


def _cut_request_line(line: bytes) -> tuple[bytes, bytes, bytes] | None:
    return None  # nothing in Python is quicker than the codec's own way


def _join_lines(start: bytes, lines: Sequence[bytes], end: bytes) -> bytes:
    return b"\r\n".join((start, *lines, end))


def find_room(patterns: tuple[bytes, ...]) -> bytes:
    """Return what must stand behind data in which these are sought by `find`; a match that ends in it is none."""
    return _ROOM if max(map(len, patterns), default=0) >= LONG_PATTERN else b""


def _holds_any(data: bytes, patterns: tuple[bytes, ...], table: bytes) -> bool:
    if not table or len(data) < LONG_PATTERN:
        return max(map(data.find, patterns), default=-1) >= 0
    roomy = data + table
    for pattern in patterns:
        last = len(data) - len(pattern)
        if last >= 0 and 0 <= roomy.find(pattern) <= last:
            return True
    return False


split_plain: Callable[[bytes], SplitHead | None]
# What stands behind a line's colon, without the spaces and tabs around it.
field_value: Callable[[bytes], bytes]
# Where the first empty line begins, NO_END, or TOO_MANY_LINES where more than so many line ends stand before it.
head_end: Callable[[bytes, int], int]
# Method, target and version of a request line without fault, or None.
cut_request_line: Callable[[bytes], tuple[bytes, bytes, bytes] | None]
# A head of its first line, a list or tuple of lines, and its end.
join_lines: Callable[[bytes, Sequence[bytes], bytes], bytes]
# Whether any pattern (each four bytes or more) stands in the data; the third is what scan_table() made of the patterns.
holds_any: Callable[[bytes, tuple[bytes, ...], bytes], bool]
scan_table: Callable[[tuple[bytes, ...]], bytes]

try:
    from sallyport.wire.http1._scan import cut_request_line, field_value, head_end, holds_any, join_lines, scan_table
    from sallyport.wire.http1._scan import split_head as split_plain
except ImportError:
    split_plain, cut_request_line, field_value = split_head, _cut_request_line, _field_value
    head_end, join_lines, holds_any, scan_table = _head_end, _join_lines, _holds_any, find_room
