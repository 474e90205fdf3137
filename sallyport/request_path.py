"""The canonical path of a request: the one form that is matched and the one that is sent.

Contracts section 1: percent-encoded unreserved characters decoded, hex digits upper-cased, nothing else changed.
Whatever an upstream could read as another path than we matched is refused, never repaired.
"""

import enum
import re

# RFC 3986 pchar and "/". No segment may begin with a dot here; those take the careful way.
_PLAIN = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+,;=:@/]*")
_FORBIDDEN = re.compile(rb"[^!-~]|[\\#?]")
_QUERY = re.compile(rb'[!-"$-~]*')  # visible ASCII without "#"
_ESCAPE = re.compile(r"%(?:([0-9A-Fa-f]{2})|)")
# %2F and %3B count as what they may be read as: `..%2F` climbs at an upstream that decodes before it splits, and
# `..;x` at one that cuts parameters off first.
_DOT_SEGMENT = re.compile(r"(?:/|%2F)\.{1,2}(?=/|;|%2F|%3B|\Z)")
# What may as well stand as itself in a path: every visible character but "/", "#", "%", "?" and "\\".
_NEEDLESS_ESCAPE = re.compile(r"%(2[1246-9A-CE]|3[A-E]|40|5[BDE]|60|7[B-D])")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


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
    canonical = _ESCAPE.sub(_canonical_escape, path.decode("ascii"))
    if _DOT_SEGMENT.search(canonical) is not None:
        raise PathError(PathFault.DOT_SEGMENT)
    return canonical


def _canonical_escape(escape: re.Match[str]) -> str:
    digits = escape[1]
    if digits is None:
        raise PathError(PathFault.ESCAPE)
    code = int(digits, 16)
    if code < 0x20 or code == 0x7F:
        raise PathError(PathFault.CONTROL)
    if code == 0x5C:
        raise PathError(PathFault.BACKSLASH)
    character = chr(code)
    return character if character in _UNRESERVED else f"%{code:02X}"
