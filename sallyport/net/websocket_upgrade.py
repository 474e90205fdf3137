"""The opening handshake of a WebSocket (RFC 6455 section 4), both sides, on heads of sallyport.wire.http1.

Says nothing of paths and tokens but where they stand: who serves an endpoint checks them before it accepts.
"""

import base64
import hashlib
import secrets
from typing import Final

from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.head import RequestHead, ResponseHead

# What a tunnel speaks (docs/tunnel-protocol.md), and where.
TUNNEL_SUBPROTOCOL: Final = "sallyport.tunnel.v1"
TUNNEL_PATH: Final = "/v1/tunnel"

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
_KEY_BYTES: Final = 16
_UPGRADE_REQUIRED: Final = 426


def accept_upgrade(head: RequestHead, subprotocol: str = TUNNEL_SUBPROTOCOL) -> bytes:
    """Return the 101 head for a request that asks for a WebSocket of this subprotocol.

    Raises RemoteProtocolError: 426 for what is no WebSocket request or of another version (answer it with
    `Sec-WebSocket-Version: 13`), 400 for a malformed one. Extensions are never taken.
    """
    if head.upgrade is None or head.upgrade.lower() != b"websocket":
        raise RemoteProtocolError("not a WebSocket request", _UPGRADE_REQUIRED)
    if head.method != "GET" or head.minor != 1 or head.has_body:
        raise RemoteProtocolError("a WebSocket begins with a GET of HTTP/1.1 without a body")
    if _value(head, b"sec-websocket-version") != b"13":
        raise RemoteProtocolError("only version 13 of WebSocket is spoken", _UPGRADE_REQUIRED)
    if subprotocol not in _list(head, b"sec-websocket-protocol"):
        raise RemoteProtocolError(f"the subprotocol {subprotocol} is not offered")
    key = _value(head, b"sec-websocket-key")
    if key is None or not _is_key(key):
        raise RemoteProtocolError("Sec-WebSocket-Key is not 16 bytes in base64")
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        + _accept(key)
        + b"\r\nSec-WebSocket-Protocol: "
        + subprotocol.encode("ascii")
        + b"\r\n\r\n"
    )


def upgrade_request(
    host: str, path: str = TUNNEL_PATH, token: str | None = None, subprotocol: str = TUNNEL_SUBPROTOCOL
) -> tuple[bytes, bytes]:
    """Return a request head and the key that check_upgrade wants; host as it stands in Host, token as a bearer."""
    for part in (host, path, token or "", subprotocol):
        if not part.isascii() or not part.isprintable() or " " in part:
            raise ValueError("a character that may not stand in a head")
    key = base64.b64encode(secrets.token_bytes(_KEY_BYTES))
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key.decode('ascii')}",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Protocol: {subprotocol}",
    ]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    return "\r\n".join([*lines, "", ""]).encode("ascii"), key


def check_upgrade(head: ResponseHead, key: bytes, subprotocol: str = TUNNEL_SUBPROTOCOL) -> None:
    """Check the answer to upgrade_request; raises RemoteProtocolError when it is not the WebSocket asked for.

    Look at `status` first where another answer than 101 has a meaning (401, 503).
    """
    if head.status != 101 or head.close or head.upgrade is None or head.upgrade.lower() != b"websocket":
        raise RemoteProtocolError("the answer does not switch to WebSocket")
    if _value(head, b"sec-websocket-accept") != _accept(key):
        raise RemoteProtocolError("Sec-WebSocket-Accept does not belong to the key")
    if _value(head, b"sec-websocket-protocol") != subprotocol.encode("ascii"):
        raise RemoteProtocolError(f"the subprotocol {subprotocol} was not chosen")
    if b"sec-websocket-extensions" in head.names:
        raise RemoteProtocolError("an extension that was not offered")


def _accept(key: bytes) -> bytes:
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def _is_key(key: bytes) -> bool:
    try:
        decoded = base64.b64decode(key, validate=True)
    except ValueError:
        return False
    return len(decoded) == _KEY_BYTES and base64.b64encode(decoded) == key


def _values(head: RequestHead | ResponseHead, name: bytes) -> list[bytes]:
    lines = [line for each, line in zip(head.names, head.lines, strict=True) if each == name]
    return [line.partition(b":")[2].strip(b" \t") for line in lines]


def _value(head: RequestHead | ResponseHead, name: bytes) -> bytes | None:
    """Return the value of a field that may stand once; raises RemoteProtocolError for two."""
    values = _values(head, name)
    if len(values) > 1:
        raise RemoteProtocolError(f"more than one {name.decode('ascii')}")
    return values[0] if values else None


def _list(head: RequestHead, name: bytes) -> list[str]:
    return [item.strip(b" \t").decode("latin-1") for value in _values(head, name) for item in value.split(b",")]
