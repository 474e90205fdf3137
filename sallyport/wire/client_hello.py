"""Read a TLS ClientHello before deciding what becomes of the bytes (RFC 8446 section 4.1.2, RFC 6066, RFC 7301).

Strict where two readers could disagree about the name asked for: a hello that repeats an extension, lists two names,
or whose lengths do not add up is refused and never repaired. Nothing is decrypted and nothing is answered here;
the fatal alerts a listener may answer with stand at the end.
"""

from dataclasses import dataclass

from sallyport.host import HostError, normalize_host
from sallyport.wire.errors import RemoteProtocolError

# Record headers included. Browsers with post-quantum keys send under 2 KiB.
MAX_CLIENT_HELLO_BYTES = 16 * 1024

_RECORD_HEADER_BYTES = 5
# A caller asks again with every segment; without this, one-byte records in one-byte segments cost seconds.
_MAX_RECORDS = 64
_MAX_RECORD_BYTES = 16 * 1024  # plaintext, RFC 8446 section 5.1
# The first byte of a TLS stream (RFC 8446 section 5.1).
HANDSHAKE_RECORD = 22
_CLIENT_HELLO = 1
_SERVER_NAME = 0
_ALPN = 16
_SUPPORTED_VERSIONS = 43


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientHello:
    """What a client asks for. `server_name` is normalised (sallyport.host), None when it names none.

    It may be an address: RFC 6066 section 3 forbids that and clients do it, so what it means is the caller's to say.
    `alpn` is in the client's order, bytes beyond ASCII as Latin-1. `versions` are wire numbers (0x0303 is TLS 1.2),
    those of the extension where it is present, GREASE values included.
    """

    server_name: str | None
    alpn: tuple[str, ...]
    versions: tuple[int, ...]


def parse_client_hello(data: bytes) -> ClientHello | None:
    """Read the hello at the beginning of a connection, or give None for "more bytes are needed".

    `data` is everything received so far; what follows the hello's last record is not looked at. Raises
    RemoteProtocolError for what is not a well-formed hello within MAX_CLIENT_HELLO_BYTES, as soon as that is certain,
    so None is never given for that many bytes.
    """
    message = b""
    offset = 0
    for _ in range(_MAX_RECORDS):
        record = _record_at(data, offset)
        if record is None:
            return None
        message += record
        offset += _RECORD_HEADER_BYTES + len(record)
        if message[0] != _CLIENT_HELLO:
            raise RemoteProtocolError("the first TLS message is not a ClientHello")
        if len(message) < 4:
            continue
        length = int.from_bytes(message[1:4])
        if length > MAX_CLIENT_HELLO_BYTES:
            raise RemoteProtocolError("the ClientHello is too long")
        if len(message) == 4 + length:
            return _parse_body(message[4:])
        if len(message) > 4 + length:
            raise RemoteProtocolError("bytes follow the ClientHello in its record")
    raise RemoteProtocolError("the ClientHello is cut into too many records")


def _record_at(data: bytes, offset: int) -> bytes | None:
    """Give the payload of the whole handshake record at `offset`, or None while it is incomplete."""
    header = data[offset : offset + _RECORD_HEADER_BYTES]
    if (header and header[0] != HANDSHAKE_RECORD) or (len(header) > 1 and header[1] != 3):
        raise RemoteProtocolError("not a TLS handshake record")
    if offset + _RECORD_HEADER_BYTES >= MAX_CLIENT_HELLO_BYTES:
        raise RemoteProtocolError("the ClientHello is too long")
    if len(header) < _RECORD_HEADER_BYTES:
        return None
    length = int.from_bytes(header[3:5])
    if not 0 < length <= _MAX_RECORD_BYTES:
        raise RemoteProtocolError("a TLS record has an impossible length")
    end = offset + _RECORD_HEADER_BYTES + length
    if end > MAX_CLIENT_HELLO_BYTES:
        raise RemoteProtocolError("the ClientHello is too long")
    return data[offset + _RECORD_HEADER_BYTES : end] if len(data) >= end else None


class _Fields:
    """Take length-prefixed fields off a block of bytes; the block must be used up when `finish` is called."""

    __slots__ = ("_block", "_offset")

    def __init__(self, block: bytes) -> None:
        self._block = block
        self._offset = 0

    @property
    def is_empty(self) -> bool:
        return self._offset == len(self._block)

    def take(self, size: int) -> bytes:
        field = self._block[self._offset : self._offset + size]
        if len(field) < size:
            raise RemoteProtocolError("a length in the ClientHello reaches beyond its field")
        self._offset += size
        return field

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def vector(self, length_size: int, *, least: int = 0, most: int = 0xFFFF) -> bytes:
        length = self.number(length_size)
        if not least <= length <= most:
            raise RemoteProtocolError("a length in the ClientHello is out of range")
        return self.take(length)

    def finish(self) -> None:
        if not self.is_empty:
            raise RemoteProtocolError("bytes are left over in a field of the ClientHello")


def _parse_body(body: bytes) -> ClientHello:
    fields = _Fields(body)
    legacy_version = fields.number(2)
    if legacy_version >> 8 != 3:
        raise RemoteProtocolError("the ClientHello has an unknown version")
    fields.take(32)  # random
    fields.vector(1, most=32)  # session id
    if len(fields.vector(2, least=2)) % 2:
        raise RemoteProtocolError("the cipher suites of the ClientHello have an odd length")
    fields.vector(1, least=1)  # compression methods
    extensions = {} if fields.is_empty else _parse_extensions(fields.vector(2))
    fields.finish()
    server_name = extensions.get(_SERVER_NAME)
    alpn = extensions.get(_ALPN)
    versions = extensions.get(_SUPPORTED_VERSIONS)
    return ClientHello(
        server_name=None if server_name is None else _parse_server_name(server_name),
        alpn=() if alpn is None else _parse_alpn(alpn),
        versions=(legacy_version,) if versions is None else _parse_versions(versions),
    )


def _parse_extensions(block: bytes) -> dict[int, bytes]:
    fields = _Fields(block)
    extensions: dict[int, bytes] = {}
    while not fields.is_empty:
        kind = fields.number(2)
        if kind in extensions:
            raise RemoteProtocolError("the ClientHello repeats an extension")
        extensions[kind] = fields.vector(2)
    return extensions


def _parse_server_name(extension: bytes) -> str:
    fields = _Fields(extension)
    entries = _Fields(fields.vector(2))
    fields.finish()
    if entries.number(1) != 0:
        raise RemoteProtocolError("the ClientHello has a server name of unknown type")
    name = entries.vector(2, least=1)
    if not entries.is_empty:
        raise RemoteProtocolError("the ClientHello lists more than one server name")
    try:
        return normalize_host(name.decode("ascii"))
    except (UnicodeDecodeError, HostError):
        raise RemoteProtocolError("the server name of the ClientHello is not a host name") from None


def _parse_alpn(extension: bytes) -> tuple[str, ...]:
    fields = _Fields(extension)
    entries = _Fields(fields.vector(2, least=2))
    fields.finish()
    names: list[str] = []
    while not entries.is_empty:
        names.append(entries.vector(1, least=1).decode("latin-1"))
    return tuple(names)


def _parse_versions(extension: bytes) -> tuple[int, ...]:
    fields = _Fields(extension)
    entries = _Fields(fields.vector(1, least=2))
    fields.finish()
    versions: list[int] = []
    while not entries.is_empty:
        versions.append(entries.number(2))
    return tuple(versions)


# Fatal alerts as whole plaintext records (RFC 8446 section 6), for refusing before a handshake has begun.


def _fatal_alert(description: int) -> bytes:
    return bytes((21, 3, 3, 0, 2, 2, description))


HANDSHAKE_FAILURE_ALERT = _fatal_alert(40)
UNRECOGNIZED_NAME_ALERT = _fatal_alert(112)
NO_APPLICATION_PROTOCOL_ALERT = _fatal_alert(120)
ACCESS_DENIED_ALERT = _fatal_alert(49)
