"""What becomes of a captured connection: the managed set, the decision, and the head its stream begins with.

The set holds host patterns with ports and says nothing of routes or credentials. The gateway decides again by itself;
what is decided here is only where TLS ends.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, cast

from sallyport.host import HostError, HostPattern, parse_host_pattern, split_authority
from sallyport.problem import Code
from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.codec import parse_request
from sallyport.wire.http1.head import RequestHead
from sallyport.wire.http1.scan import CRLF, HEAD_END
from sallyport.wire.http1.shape import HOP_MARKER, field_name

# In a set, where no port is 0: every port.
EVERY_PORT: Final = 0
# Of one set, which may come in several messages: more than a plan of 2 MiB can name.
_MAX_ENTRIES: Final = 65_536
_MAX_REVISION: Final = 2**53 - 1
_OURS: Final = b"sallyport-"


class Refused(Exception):
    """A request is answered here, because no stream can be opened for it."""

    def __init__(self, code: Code, detail: str, hint: str | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.hint = hint


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedHost:
    """One entry of the set. `ports` holds EVERY_PORT where the rule names none."""

    pattern: HostPattern
    ports: frozenset[int]

    def covers(self, host: str, port: int) -> bool:
        """Say whether a normalized host and port are claimed."""
        return (port in self.ports or EVERY_PORT in self.ports) and self.pattern.matches(host)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedSet:
    """What the gateway wants to see inside of, and the plan revision it follows from."""

    revision: int
    hosts: tuple[ManagedHost, ...]

    def covers(self, host: str, port: int) -> bool:
        """Say whether a normalized host and port are managed."""
        return any(entry.covers(host, port) for entry in self.hosts)

    def __repr__(self) -> str:
        return f"<ManagedSet revision {self.revision}, {len(self.hosts)} entries>"


class Choice(enum.Enum):
    """What becomes of a connection."""

    INTERCEPT = "intercept"
    PASSTHROUGH = "passthrough"
    PLAIN = "plain"
    WAIT = "wait"  # no set yet: never guessed, because a wrong guess sends a secret's host past the gateway


class Mode(enum.Enum):
    """How a stream is announced to the gateway (contracts section 2; `; cleartext` for http:// inside a CONNECT)."""

    INTERCEPTED = "intercepted"
    CLEARTEXT = "cleartext"
    PASSTHROUGH = "passthrough"
    PLAIN = "plain"


def choose_connect(managed: ManagedSet | None, opaque: Sequence[HostPattern], host: str, port: int) -> Choice:
    """Decide on a CONNECT; `opaque` are the patterns the operator leaves unread though they are managed."""
    if managed is None:
        return Choice.WAIT
    if managed.covers(host, port) and not any(pattern.matches(host) for pattern in opaque):
        return Choice.INTERCEPT
    return Choice.PASSTHROUGH


def choose_plain(managed: ManagedSet | None) -> Choice:
    """Decide on a request in absolute form: the gateway reads it whatever it is for."""
    return Choice.WAIT if managed is None else Choice.PLAIN


# What the gateway says


class ManagedSetReader:
    """Puts together what the gateway says of one set in one message or several: each but the last says `more`."""

    def __init__(self) -> None:
        self._revision = -1
        self._entries: list[ManagedHost] = []

    def take(self, document: Mapping[str, object]) -> ManagedSet | None:
        """Read `{type, revision, hosts: [{pattern, ports}], more?}`; None while more comes. RemoteProtocolError."""
        if document.keys() - {"more"} != {"type", "revision", "hosts"} or document.get("more", True) is not True:
            raise RemoteProtocolError("interception.set: not {type, revision, hosts}, with or without a true `more`")
        revision, hosts = document.get("revision"), document.get("hosts")
        if type(revision) is not int or not 0 <= revision <= _MAX_REVISION:
            raise RemoteProtocolError("interception.set: revision is not a number of a plan")
        if revision != self._revision:
            # What had begun was overtaken by a newer plan.
            self._revision, self._entries = revision, []
        if not isinstance(hosts, list) or len(self._entries) + len(hosts) > _MAX_ENTRIES:
            raise RemoteProtocolError("interception.set: hosts is not a list of a possible length")
        self._entries += map(_read_entry, hosts)
        if "more" in document:
            return None
        whole = ManagedSet(revision=revision, hosts=tuple(self._entries))
        self._revision, self._entries = -1, []
        return whole


def _read_entry(entry: object) -> ManagedHost:
    if not isinstance(entry, dict) or entry.keys() != {"pattern", "ports"}:
        raise RemoteProtocolError("interception.set: an entry is not {pattern, ports}")
    pattern, ports = entry["pattern"], entry["ports"]
    if not isinstance(ports, list) or not ports or not all(type(port) is int and 0 <= port <= 65535 for port in ports):
        raise RemoteProtocolError("interception.set: ports is not a list of ports")
    try:
        return ManagedHost(pattern=parse_host_pattern(str(pattern)), ports=frozenset(cast(list[int], ports)))
    except HostError as error:
        raise RemoteProtocolError(f"interception.set: {error}") from None


# What the sandbox process says


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The first request of a captured connection, read strictly.

    `host` and `port` are those of a CONNECT; `head` is what may go on to the gateway: the process's own bytes,
    without the empty line and without fields that only sandboxd may write. A redirected connection is a CONNECT that
    its program never wrote, so it waits for no 200.
    """

    request: RequestHead
    head: bytes
    host: str = ""
    port: int = 0
    is_redirected: bool = False

    @property
    def is_connect(self) -> bool:
        return self.request.method == "CONNECT"

    @property
    def waits_for_200(self) -> bool:
        """Whether its program sends nothing before it hears that the way is open."""
        return self.is_connect and not self.is_redirected

    @property
    def is_for_us(self) -> bool:
        """Whether it asks sandboxd itself: a path where a proxy is sent a URL."""
        return self.request.target[:1] == b"/"


def read_asked(head: bytes) -> Asked:
    """Read a head without its empty line; raises Refused with the answer the gateway would give."""
    head = _without_ours(head)
    try:
        request = parse_request(head)
    except RemoteProtocolError as error:
        code = Code.HTTP_VERSION if error.status_hint == 505 else Code.INVALID_REQUEST
        raise Refused(code, error.reason) from None
    if request.method != "CONNECT":
        if request.target[:1] != b"/" and b"://" not in request.target:
            raise Refused(Code.INVALID_REQUEST, "the target is neither an absolute URL nor a path")
        return Asked(request=request, head=head)
    if request.has_body:
        raise Refused(Code.INVALID_REQUEST, "CONNECT has no body")
    try:
        host, port = split_authority(request.target.decode("latin-1"), None)
    except HostError as error:
        raise Refused(Code.INVALID_REQUEST, f"the CONNECT target is refused: {error}") from None
    _check_host(request, host, port)
    return Asked(request=request, head=head, host=host, port=port)


def redirected(host: str, port: int) -> Asked:
    """Return the CONNECT that a program would have sent, had it known of a proxy; raises Refused."""
    authority = _authority(host, port)
    return replace(read_asked(b"CONNECT %b HTTP/1.1\r\nHost: %b" % (authority, authority)), is_redirected=True)


def _check_host(request: RequestHead, host: str, port: int) -> None:
    """The Host of a CONNECT names the same host; its port may be missing (A1, S4)."""
    if request.host is None:
        if request.minor == 0:
            return
        raise Refused(Code.INVALID_REQUEST, "the Host field is missing")
    try:
        named = split_authority(request.host.decode("latin-1"), port)
    except HostError as error:
        raise Refused(Code.INVALID_REQUEST, f"the Host field is refused: {error}") from None
    if named != (host, port):
        raise Refused(Code.AUTHORITY_MISMATCH, "the Host field does not name the host of the CONNECT")


def _without_ours(head: bytes) -> bytes:
    """Drop the fields that only sandboxd may write, in either spelling of their hyphen.

    The mark of a gateway stays: whoever sent it has come round in a circle, and the codec refuses it.
    """
    if _OURS not in head.lower().replace(b"_", b"-"):
        return head
    request_line, *fields = head.split(CRLF)
    return CRLF.join((request_line, *[field for field in fields if not _is_ours(field)]))


def _is_ours(field: bytes) -> bool:
    name = field_name(field.partition(b":")[0])
    return name.startswith(_OURS) and name != HOP_MARKER


# What the gateway is asked


def connect_head(host: str, port: int, mode: Mode, revision: int) -> bytes:
    """Write the head of a stream that ends in one host."""
    authority = _authority(host, port)
    stream = b"passthrough" if mode is Mode.PASSTHROUGH else b"intercepted"
    further = b"; cleartext" if mode is Mode.CLEARTEXT else b""
    return b"CONNECT %b HTTP/1.1\r\nHost: %b\r\nSallyport-Stream: %b; revision=%d%b\r\n\r\n" % (
        authority,
        authority,
        stream,
        revision,
        further,
    )


def _authority(host: str, port: int) -> bytes:
    return (f"[{host}]:{port}" if ":" in host else f"{host}:{port}").encode("ascii")


def plain_head(asked: Asked, revision: int) -> bytes:
    """Write the head of a stream of plain requests: the process's own, announced."""
    request_line, _, fields = asked.head.partition(CRLF)
    announced = b"%b\r\nSallyport-Stream: plain; revision=%d" % (request_line, revision)
    return announced + (CRLF + fields if fields else b"") + HEAD_END
