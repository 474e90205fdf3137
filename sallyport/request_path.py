"""The canonical path of a request: the one form that is matched and the one that is sent.

Contracts section 1: percent-encoded unreserved characters decoded, hex digits upper-cased, nothing else changed.
Whatever an upstream could read as another path than we matched is refused, never repaired.
"""

import enum
import re
from typing import Final

# Three times what a key of an object store has bytes, and a name of 1,000 characters in any script. nginx and Apache
# take no request line of more than 8 KiB by themselves, which holds 2,730. A head of 64 KiB holds 21,000.
MAX_ESCAPES: Final = 4096

# RFC 3986 pchar and "/". No segment may begin with a dot here; those take the careful way.
_PLAIN = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+,;=:@/]*")
_FORBIDDEN = re.compile(rb'[^!"$->@-[\]-~]')  # all but visible ASCII, and "#", "?" and "\\"
_QUERY = re.compile(rb'[!-"$-~]*')  # visible ASCII without "#"
_REFUSED_ESCAPE = re.compile(r"%(?:(?![0-9A-Fa-f]{2})|[01].|7[Ff]|5[Cc])")
# %2F and %3B count as what they may be read as: `..%2F` climbs at an upstream that decodes before it splits, and
# `..;x` at one that cuts parameters off first. Two, because each is looked for by the text that it begins with.
_DOT_SEGMENTS = tuple(re.compile(slash + r"\.\.?(?=/|;|%2F|%3B|\Z)") for slash in ("/", "%2F"))
# What may as well stand as itself in a path: every visible character but "/", "#", "%", "?" and "\\".
_NEEDLESS_ESCAPE = re.compile(r"%(2[1246-9A-CE]|3[A-E]|40|5[BDE]|60|7[B-D])")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_DIGITS = [high + low for high in "0123456789ABCDEFabcdef" for low in "0123456789ABCDEFabcdef"]
# What each two digits stand for in a canonical path.
_CANONICAL = {
    digits: chr(int(digits, 16)) if chr(int(digits, 16)) in _UNRESERVED else f"%{digits.upper()}" for digits in _DIGITS
}


class PathFault(enum.StrEnum):
    """Why a request target is refused; the value goes to the audit record."""

    EMPTY = "empty_path"
    NO_SLASH = "path_without_slash"
    FRAGMENT = "fragment"
    QUERY = "query_in_path"
    BACKSLASH = "backslash"
    RAW_BYTE = "raw_byte"
    CONTROL = "encoded_control"
    ESCAPE = "malformed_escape"
    TOO_MANY_ESCAPES = "too_many_escapes"
    DOT_SEGMENT = "dot_segment"


_HINTS = {
    PathFault.EMPTY: "a request target begins with '/'",
    PathFault.NO_SLASH: "a request target begins with '/'",
    PathFault.FRAGMENT: "a fragment is not sent: remove '#' and what follows it, or write %23",
    PathFault.QUERY: "a path has no '?': write %3F",
    PathFault.BACKSLASH: "'\\' and %5C are refused: some upstreams read them as '/'",
    PathFault.RAW_BYTE: "percent-encode spaces, control characters and everything beyond ASCII",
    PathFault.CONTROL: "%00 to %1F and %7F are refused in a path",
    PathFault.ESCAPE: "'%' is followed by two hex digits: write %25 for the character itself",
    PathFault.TOO_MANY_ESCAPES: f"a path has at most {MAX_ESCAPES} '%': send what is longer in the query or a body",
    PathFault.DOT_SEGMENT: "'.' and '..' segments are refused in any spelling: send the resolved path",
}
_RAW_FAULTS = {b"#": PathFault.FRAGMENT, b"?": PathFault.QUERY, b"\\": PathFault.BACKSLASH}


class PathError(ValueError):
    """A target with no single safe reading; answered 400 with `hint`. Neither field repeats the input."""

    def __init__(self, reason: PathFault) -> None:
        super().__init__(_HINTS[reason])
        self.reason = reason
        self.hint = _HINTS[reason]


def split_target(origin_form: bytes) -> tuple[bytes, bytes | None]:
    """Split an origin-form target at its first `?` into the path and the query, None when there is no `?`.

    The query is checked for raw bytes (egress cases P5, P7) and otherwise left byte for byte (P10); the path is
    not checked, canonical_path does that. An empty target raises PathError.
    """
    path, mark, query = origin_form.partition(b"?")
    if not path:
        raise PathError(PathFault.EMPTY)
    if not mark:
        return path, None
    if _QUERY.fullmatch(query) is None:
        raise PathError(PathFault.FRAGMENT if b"#" in query else PathFault.RAW_BYTE)
    return path, query


def canonical_path(path: bytes) -> str:
    """Give a path (without its query) its canonical form, or raise PathError. Idempotent."""
    text = path.decode("latin-1")  # never fails, and `in` is ten times slower on bytes
    if _PLAIN.fullmatch(text) is not None and "/." not in text:
        return text
    return _canonical_slowly(path)


def without_needless_escapes(path: str) -> str:
    """Give a canonical path as most upstreams read it: `%40` as `@`. What an escape keeps apart stays: `%2F`, `%25`."""
    return _NEEDLESS_ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), path)


def _canonical_slowly(path: bytes) -> str:
    if not path:
        raise PathError(PathFault.EMPTY)
    if not path.startswith(b"/"):
        raise PathError(PathFault.NO_SLASH)
    forbidden = _FORBIDDEN.search(path)
    if forbidden is not None:
        raise PathError(_RAW_FAULTS.get(forbidden[0], PathFault.RAW_BYTE))
    canonical = _with_canonical_escapes(path.decode("ascii"))
    for dot_segment in _DOT_SEGMENTS:
        if dot_segment.search(canonical) is not None:
            raise PathError(PathFault.DOT_SEGMENT)
    return canonical


def _with_canonical_escapes(path: str) -> str:
    if path.count("%") > MAX_ESCAPES:
        raise PathError(PathFault.TOO_MANY_ESCAPES)
    refused = _REFUSED_ESCAPE.search(path)
    if refused is not None:
        raise PathError(_escape_fault(refused[0]))
    first, *others = path.split("%")
    return "".join([first, *[_CANONICAL[text[:2]] + text[2:] for text in others]])


def _escape_fault(escape: str) -> PathFault:
    if escape == "%":
        return PathFault.ESCAPE
    return PathFault.BACKSLASH if escape[1] == "5" else PathFault.CONTROL
