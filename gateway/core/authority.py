"""Where a request says it goes: its target and its Host, which must agree (A1 to A3, P6, P7)."""

from gateway.core.decision import Deny
from sallyport.destination import DEFAULT_PORTS, Destination
from sallyport.host import HostError, split_authority
from sallyport.problem import Code


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
    for index, byte in enumerate(rest):
        if byte in b"/?":
            origin = rest[index:] if byte == 0x2F else b"/" + rest[index:]
            return scheme.lower().decode("ascii"), rest[:index], origin
    return scheme.lower().decode("ascii"), rest, b"/"


def read_destination(scheme: str, authority: bytes) -> Destination:
    """Read an authority as a destination; raises Refused for anything but one unambiguous host and port."""
    try:
        host, port = split_authority(authority.decode("ascii"), DEFAULT_PORTS[scheme])
    except HostError as error:
        raise invalid(f"the authority is refused: {error}") from None
    return Destination(scheme, host, port)


def read_connect_destination(target: bytes) -> Destination:
    """Read the authority-form of CONNECT; the port is not optional (RFC 9112 section 3.2.3)."""
    try:
        host, port = split_authority(target.decode("ascii"), None)
    except HostError as error:
        raise invalid(f"the CONNECT target is refused: {error}") from None
    return Destination("https", host, port)


def check_host(host: bytes | None, destination: Destination) -> None:
    """Refuse a Host that is missing (400) or names another destination (421)."""
    if host is None:
        raise invalid("the Host field is missing")
    if read_destination(destination.scheme, host) != destination:
        raise mismatch("the Host field does not name the host of the request")
