"""Heads of requests and answers as values, and what each header name means to a proxy.

A head keeps the peer's own header lines: they are forwarded as they came, not rebuilt. Only lines
that concern this hop (RFC 9110 section 7.6.1), the framing and the Host are taken out at parsing.
"""

from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sallyport.wire.http1.shape import HeadShape


class FieldKind(Enum):
    """What a header field is to a proxy."""

    PLAIN = 0
    HOST = 1
    CONTENT_LENGTH = 2
    TRANSFER_ENCODING = 3
    CONNECTION = 4
    HOP = 5  # dropped: Keep-Alive, Proxy-Connection, TE, and every Proxy-* but the next
    PROXY_AUTHORIZATION = 6
    UPGRADE = 7
    EXPECT = 8
    OURS = 9  # Sallyport-*: refused from a sandbox (contracts section 2)
    CONNECTIONS = 10  # the first Connection of several, which say one thing together (RFC 9110 section 5.2)


# RFC 9110 section 7.6.1 and appendix A; S6: Proxy-* never reaches the next hop.
FIELD_KINDS: Final[dict[bytes, FieldKind]] = {
    b"host": FieldKind.HOST,
    b"content-length": FieldKind.CONTENT_LENGTH,
    b"transfer-encoding": FieldKind.TRANSFER_ENCODING,
    b"connection": FieldKind.CONNECTION,
    b"keep-alive": FieldKind.HOP,
    b"te": FieldKind.HOP,
    b"proxy-authorization": FieldKind.PROXY_AUTHORIZATION,
    b"upgrade": FieldKind.UPGRADE,
    b"expect": FieldKind.EXPECT,
}

# Fields whose underscore spelling some servers read as the real one (S1).
FRAMING_NAMES: Final = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"expect", b"proxy-authorization"}
)

CHUNKED: Final = -1
UNTIL_CLOSE: Final = -2


class Head:
    """What a request's head and an answer's have in common.

    names are those of the fields that are meant for the other end (lower case, `_` as `-`). fields are all lines as
    they came, of which the shape knows which those are.
    """

    names: Sequence[bytes]
    fields: Sequence[bytes]
    # None where fields were taken out, as Connection names them: then names and fields run in parallel.
    shape: "HeadShape | None" = None

    @property
    def lines(self) -> Sequence[bytes]:
        """The untouched lines of what is meant for the other end, in parallel with names."""
        return self.fields if self.shape is None else self.shape.pick(self.fields)

    def without(self, removed: frozenset[bytes]) -> Sequence[bytes]:
        """Return those of lines whose names are not removed."""
        if self.shape is not None:
            return self.shape.without(removed, self.fields)
        return [line for line, name in zip(self.fields, self.names, strict=True) if name not in removed]

    def has(self, name: bytes) -> bool:
        """Whether such a field is meant for the other end."""
        return name in (self.names if self.shape is None else self.shape.known)

    def remove(self, removed: frozenset[bytes]) -> None:
        """Take fields out."""
        fields = self.without(removed)
        self.names = tuple([name for name in self.names if name not in removed])
        self.fields = fields
        self.shape = None


class RequestHead(Head):
    """One request head. body is a length in bytes, or CHUNKED."""

    method: str
    target: bytes
    # What a head says that says nothing of it; on the class, because setting each per head costs more than reading it.
    minor = 1
    host: bytes | None = None
    body = 0
    has_body = False
    close = False
    expects_continue = False
    upgrade: bytes | None = None
    proxy_authorization: bytes | None = None

    def __repr__(self) -> str:
        # A target's query may hold a secret, and so may every value: names only.
        return f"<RequestHead {self.method} HTTP/1.{self.minor} {len(self.names)} fields>"


class ResponseHead(Head):
    """One answer head; body is None where no framing header stood (RFC 9112 section 6.3)."""

    status: int
    reason: bytes
    minor = 1
    body: int | None = None
    close = False
    upgrade: bytes | None = None

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status} HTTP/1.{self.minor} {len(self.names)} fields>"
