"""Where a request says it goes: its target and its Host, which must agree (A1 to A3, P6, P7)."""

from typing import Final

from gateway.core.decision import Deny
from sallyport.destination import DEFAULT_PORTS, Destination
from sallyport.host import HostError, split_authority
from sallyport.problem import Code
from sallyport.wire.http1.head import RequestHead


class Refused(Exception):
    """A request is refused before anything is sent upstream; the reason is a Deny."""

    def __init__(self, deny: Deny) -> None:
        super().__init__(deny.detail)
        self.deny = deny


def invalid(detail: str, hint: str | None = None) -> Refused:
    """Refuse with 400 invalid_request."""
    return Refused(Deny(code=Code.INVALID_REQUEST, detail=detail, hint=hint))


def mismatch(detail: str) -> Refused:
    """Refuse with 421: two parts of a request name two hosts (A1)."""
    hint = "send the request on a stream of its own host"
    return Refused(Deny(code=Code.AUTHORITY_MISMATCH, detail=detail, hint=hint))


def split_absolute_form(target: bytes) -> tuple[str, bytes, bytes]:
    """Split `scheme://authority/path?query` into scheme, authority and origin form (RFC 9112 section 3.2.2)."""
    scheme, separator, rest = target.partition(b"://")
    if not separator or scheme.lower() not in (b"http", b"https"):
        raise invalid("the target is neither an absolute URL nor a path")
    authority, slash, path = rest.partition(b"/")
    authority, question, query = authority.partition(b"?")
    origin = b"/" + (question + query + slash + path if question else path)
    return scheme.lower().decode("ascii"), authority, origin


def read_destination(scheme: str, authority: bytes) -> Destination:
    """Read an authority as a destination; raises Refused for anything but one unambiguous host and port."""
    try:
        host, port = split_authority(authority.decode("latin-1"), DEFAULT_PORTS[scheme])
    except HostError as error:
        raise invalid(f"the authority is refused: {error}") from None
    return Destination(scheme, host, port)


def read_connect_destination(target: bytes) -> Destination:
    """Read the authority-form of CONNECT; the port is not optional (RFC 9112 section 3.2.3)."""
    try:
        host, port = split_authority(target.decode("latin-1"), None)
    except HostError as error:
        raise invalid(f"the CONNECT target is refused: {error}") from None
    return Destination("https", host, port)


def check_host(host: bytes | None, destination: Destination) -> None:
    """Refuse a Host that is missing (400) or names another destination (421)."""
    if host is None:
        raise invalid("the Host field is missing")
    if read_destination(destination.scheme, host) != destination:
        raise mismatch("the Host field does not name the host of the request")


def check_connect_host(head: RequestHead, destination: Destination) -> None:
    """Refuse the Host of a CONNECT that names another host; its port may be missing (A1, S4)."""
    if head.host is None:
        if head.minor == 0:
            return
        raise invalid("the Host field is missing")
    try:
        host, port = split_authority(head.host.decode("latin-1"), destination.port)
    except HostError as error:
        raise invalid(f"the Host field is refused: {error}") from None
    if (host, port) != (destination.host, destination.port):
        raise Refused(Deny(code=Code.AUTHORITY_MISMATCH, detail="the Host field does not name the host of the CONNECT"))


# Numbers, because looking for a byte string by `in` raises and drops an exception first.
_HASH: Final = ord("#")
_QUESTION_MARK: Final = ord("?")
# A Host that no request can have: control bytes do not pass the codec.
_UNREAD: Final = b"\0"


class TargetReader:
    """Say where the requests of one stream go, and refuse those that say two things (A1, A2).

    destination is fixed where the stream was opened to one host; else each request names its own by absolute-form.
    The last answer is remembered as the bytes it was read from: most streams stay with one host.
    """

    __slots__ = ("_cut", "_host", "_last", "_prefix", "destination")

    def __init__(self, destination: Destination | None) -> None:
        self.destination = destination
        self._last = destination
        # What a target begins with that goes to _last, and how much of it stands before its path.
        self._prefix = _UNREAD if destination is None else b"/"
        self._cut = 0
        self._host: bytes | None = _UNREAD if destination is None else destination.authority.encode("ascii")

    def read(self, target: bytes, host: bytes | None) -> tuple[Destination, bytes, bytes, bytes]:
        """Return destination, path, `?` where there is a query, and query; raises Refused."""
        if target[: len(self._prefix)] == self._prefix and self._last is not None:
            destination, origin = self._last, target[self._cut :]
        else:
            destination, origin = self._read_absolute(target)
        if host != self._host:
            check_host(host, destination)
            self._host = host
        if _HASH in origin:
            raise invalid("the target has a fragment")
        if _QUESTION_MARK not in origin:
            return destination, origin, b"", b""
        path, question, query = origin.partition(b"?")
        return destination, path, question, query

    def _read_absolute(self, target: bytes) -> tuple[Destination, bytes]:
        if target[:1] == b"/":
            raise invalid("a proxy request has an absolute URL as its target", "use the gateway as an HTTP proxy")
        scheme, authority, origin = split_absolute_form(target)
        if self.destination is None and scheme != "http":
            raise invalid("https:// is not proxied in the clear", "open a CONNECT stream to the host")
        asked = read_destination(scheme, authority)
        if self.destination is not None and asked != self.destination:
            raise mismatch("the target does not name the host that was connected to")
        if self.destination is not None:
            return self.destination, origin
        self._last = asked
        self._cut = target.find(b"://") + 3 + len(authority)
        self._prefix = target[: self._cut] + b"/"
        self._host = _UNREAD  # whatever the Host is, it has to be compared with this destination
        return asked, origin
