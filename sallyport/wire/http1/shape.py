"""The shape of a head: its field names, in order, as the peer spelled them.

A client sends the same few shapes over and over, whatever the values are. What follows from the names alone is worked
out once per shape: which lines are passed on, which concern this hop and where they stand, what is removed on a route,
and whether the head is refused (a name that is no token, two Hosts). Then a head costs one look-up, not one a line.
"""

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Final

from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.head import FIELD_KINDS, FRAMING_NAMES, FieldKind

type Names = tuple[bytes, ...]
type Lines = Sequence[bytes]

# Bounded in number, length and fields: a peer that invents names must not fill memory. A full table starts afresh.
# A thousand fields of one letter cost 120 KB to remember, though their names are short.
MAX_SHAPES: Final = 1024
MAX_SHAPE_BYTES: Final = 2048
MAX_SHAPE_FIELDS: Final = 64
MAX_REMOVALS: Final = 64

# RFC 9110 section 5.6.2.
TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

# Written to an upstream proxy, with every CONNECT: who is asked so, and is one of us, has been led back to
# (docs/decisions/0011-loops.md).
HOP_MARKER: Final = b"sallyport-hop"
_LOOP: Final = "the request has come through a gateway already: an upstream proxy has led it back"

# Of each of these there may be one. Content-Length and Transfer-Encoding count as one: they say the same thing (S1).
_ONCE: Final = {
    FieldKind.HOST: "more than one Host",
    FieldKind.PROXY_AUTHORIZATION: "more than one Proxy-Authorization",
    FieldKind.CONTENT_LENGTH: "more than one Content-Length or Transfer-Encoding",
}
_USUAL: Final = frozenset({FieldKind.HOST, FieldKind.PROXY_AUTHORIZATION, FieldKind.CONNECTION, FieldKind.HOP})
# Nothing is to be read in these; they are only left out.
_DROPPED: Final = FieldKind.HOP
# In an answer these mean nothing to this hop and are passed on.
_PLAIN_IN_ANSWERS: Final = frozenset({FieldKind.HOST, FieldKind.EXPECT, FieldKind.OURS})


class HeadShape:
    """What follows from the names of a head.

    names are those of the lines that are passed on, to be compared by (field_name), and known are the same as a set;
    hop are the index and kind of the lines that concern this hop; of several Connection lines the first stands there
    for all, and connections are where they stand. What picks lines takes them all, as they came.
    is_usual says of a request that beside its Host it says nothing of framing, of an upgrade or of what it expects.
    """

    __slots__ = ("_kept", "_removals", "connections", "hop", "is_usual", "known", "names", "pick")

    def __init__(self, spelled: Names, *, is_answer: bool) -> None:
        """spelled are the names with their colons; raises RemoteProtocolError."""
        kept: list[int] = []
        names: list[bytes] = []
        hop: list[tuple[int, FieldKind]] = []
        connections: list[int] = []
        seen: set[FieldKind] = set()
        for index, name in enumerate(spelled):
            lower, kind = _read_name(name)
            if kind is FieldKind.OURS and not is_answer:
                raise RemoteProtocolError(_LOOP if lower == HOP_MARKER else "a Sallyport-* field from a sandbox")
            if kind is FieldKind.PLAIN or (is_answer and kind in _PLAIN_IN_ANSWERS):
                kept.append(index)
                names.append(lower)
                continue
            once = FieldKind.CONTENT_LENGTH if kind is FieldKind.TRANSFER_ENCODING else kind
            if once in _ONCE and once in seen and not (is_answer and kind is FieldKind.PROXY_AUTHORIZATION):
                raise RemoteProtocolError(_ONCE[once])
            seen.add(once)
            if kind is FieldKind.CONNECTION:
                connections.append(index)
                if len(connections) > 1:
                    continue
            if kind is not _DROPPED and not (is_answer and kind is FieldKind.PROXY_AUTHORIZATION):
                hop.append((index, kind))
        self.names = tuple(names)
        self.known = frozenset(names)
        if len(connections) > 1:
            hop[hop.index((connections[0], FieldKind.CONNECTION))] = (connections[0], FieldKind.CONNECTIONS)
        self.hop = tuple(hop)
        self.connections = tuple(connections)
        self.is_usual = FieldKind.HOST in seen and seen <= _USUAL
        self._kept = kept
        self.pick = _picker(kept)
        self._removals: dict[frozenset[bytes], Callable[[Lines], Lines]] = {}

    def without(self, removed: frozenset[bytes], lines: Lines) -> Lines:
        """Return the lines that are passed on, less those whose names are removed."""
        remove = self._removals.get(removed)
        if remove is None:
            if len(self._removals) >= MAX_REMOVALS:
                self._removals.clear()
            pairs = zip(self._kept, self.names, strict=True)
            remove = _picker([index for index, name in pairs if name not in removed])
            self._removals[removed] = remove
        return remove(lines)

    def __repr__(self) -> str:
        return f"<HeadShape {len(self.names)} fields passed on, {len(self.hop)} for this hop>"


class ShapeTable:
    """The shapes of one direction that were seen."""

    __slots__ = ("_is_answer", "_shapes", "known")

    def __init__(self, *, is_answer: bool) -> None:
        self._is_answer = is_answer
        self._shapes: dict[Names, HeadShape] = {}
        self.known = self._shapes.get

    def learn(self, spelled: Names) -> HeadShape:
        """Work a shape out and remember it; raises RemoteProtocolError."""
        shape = HeadShape(spelled, is_answer=self._is_answer)
        if len(spelled) <= MAX_SHAPE_FIELDS and sum(map(len, spelled)) <= MAX_SHAPE_BYTES:
            if len(self._shapes) >= MAX_SHAPES:
                self._shapes.clear()
            self._shapes[spelled] = shape
        return shape


def field_name(name: bytes) -> bytes:
    """Return what a name is compared by: lower case, `_` as `-`, because CGI and WSGI servers read both as one."""
    return name.lower().replace(b"_", b"-")


def field_kind(name: bytes) -> FieldKind:
    """Check a name and say what it means (S1: no space before the colon, no underscore twins)."""
    if not name or name.translate(None, TOKEN):
        raise RemoteProtocolError("a field name that is not a token")
    lower = field_name(name)
    if lower in FRAMING_NAMES and b"_" in name:
        raise RemoteProtocolError("an underscore twin of a framing field")
    kind = FIELD_KINDS.get(lower)
    if kind is not None:
        return kind
    if lower.startswith(b"proxy-"):
        return FieldKind.HOP
    return FieldKind.OURS if lower.startswith(b"sallyport-") else FieldKind.PLAIN


def _read_name(spelled: bytes) -> tuple[bytes, FieldKind]:
    if not spelled:
        raise RemoteProtocolError("a line without a colon")
    return field_name(spelled[:-1]), field_kind(spelled[:-1])


def _picker(indexes: list[int]) -> Callable[[Lines], Lines]:
    match indexes:
        case []:
            return lambda _: ()
        case [only]:
            return lambda lines: (lines[only],)
        case _:
            return itemgetter(*indexes)
