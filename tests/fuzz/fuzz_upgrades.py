"""The opening handshake of a WebSocket, as either side reads it.

The first byte of the input says whether the head is a request (even) or an answer. Allowed outcomes, for any bytes:
- RemoteProtocolError with status 400, 426 or 505;
- a request that asks for version 13 and the tunnel's subprotocol by a key of 16 bytes, with a 101 that its own side
  accepts and that no other key's side does;
- an answer that switches to the subprotocol, with the digest of the key and no extension.
"""

import base64

from sallyport.net.websocket_upgrade import TUNNEL_SUBPROTOCOL, accept_upgrade, check_upgrade, upgrade_request
from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.codec import parse_request, parse_response
from sallyport.wire.http1.head import RequestHead, ResponseHead
from sallyport.wire.http1.scan import HEAD_END
from tests.support.fuzzing import run

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
OTHER_KEY = b"AAAAAAAAAAAAAAAAAAAAAA=="
REQUEST = (
    b"GET /v1/tunnel HTTP/1.1\r\nHost: gateway.test\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: other, sallyport.tunnel.v1\r\n"
    b"Sec-WebSocket-Version: 13\r\nAuthorization: Bearer a.b.c"
)
ANSWER = accept_upgrade(parse_request(REQUEST)).removesuffix(HEAD_END)
SEEDS = (
    b"\x00" + REQUEST,
    b"\x00" + upgrade_request("gateway.test", token="a.b.c")[0].removesuffix(HEAD_END),
    b"\x00" + REQUEST.replace(b"Version: 13", b"Version: 8"),
    b"\x00" + REQUEST + b"\r\nSec-WebSocket-Protocol: third\r\nSec_WebSocket_Version: 13",
    b"\x01" + ANSWER,
    b"\x01" + ANSWER + b"\r\nSec-WebSocket-Extensions: permessage-deflate",
    b"\x01HTTP/1.1 401 Unauthorized\r\nX-Sallyport-Error: authentication_required\r\nContent-Length: 0",
)


def check(data: bytes) -> None:
    """Check one input."""
    try:
        if data[:1] and data[0] % 2:
            check_answer(parse_response(data[1:]))
        else:
            check_request(parse_request(data[1:]))
    except RemoteProtocolError as error:
        refusal = error
    else:
        return
    assert refusal.status_hint in (400, 426, 505)


def check_request(head: RequestHead) -> None:
    """It is refused, or it is all that RFC 6455 asks for, and its answer belongs to its key alone."""
    answer = parse_response(accept_upgrade(head).removesuffix(HEAD_END))
    assert (head.method, head.minor, head.has_body) == ("GET", 1, False)
    assert values(head, b"sec-websocket-version") == [b"13"]
    assert TUNNEL_SUBPROTOCOL.encode() in b",".join(values(head, b"sec-websocket-protocol"))
    [key] = values(head, b"sec-websocket-key")
    assert base64.b64encode(base64.b64decode(key, validate=True)) == key
    check_upgrade(answer, key)
    try:
        check_upgrade(answer, OTHER_KEY)
    except RemoteProtocolError:
        return
    assert key == OTHER_KEY


def check_answer(head: ResponseHead) -> None:
    """It is refused, or it switches, to nothing else."""
    check_upgrade(head, KEY)
    assert (head.status, head.close) == (101, False)
    assert values(head, b"sec-websocket-protocol") == [TUNNEL_SUBPROTOCOL.encode()]
    assert values(head, b"sec-websocket-accept") == [b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]
    assert not values(head, b"sec-websocket-extensions")


def values(head: RequestHead | ResponseHead, name: bytes) -> list[bytes]:
    """Take the values of one field, in a way of its own."""
    named = zip(head.names, head.lines, strict=True)
    return [line[line.index(b":") + 1 :].strip(b" \t") for each, line in named if each == name]


if __name__ == "__main__":
    run(check, SEEDS)
