"""The opening handshake: the RFC's own example, both sides against each other, and every refusal."""

import pytest

from sallyport.net.websocket_upgrade import (
    TUNNEL_PATH,
    TUNNEL_SUBPROTOCOL,
    accept_upgrade,
    check_upgrade,
    upgrade_request,
)
from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.codec import parse_request, parse_response

REQUEST = (
    b"GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: other, sallyport.tunnel.v1\r\n"
    b"Sec-WebSocket-Version: 13"
)
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: sallyport.tunnel.v1"
)


def test_the_example_of_rfc_6455() -> None:
    assert accept_upgrade(parse_request(REQUEST)) == ANSWER + b"\r\n\r\n"
    check_upgrade(parse_response(ANSWER), KEY)


def test_both_sides_agree() -> None:
    head, key = upgrade_request("gateway.example:8443", token="abc.def")
    request = parse_request(head.removesuffix(b"\r\n\r\n"))
    assert (request.target, request.host) == (TUNNEL_PATH.encode(), b"gateway.example:8443")
    assert b"Authorization: Bearer abc.def" in request.lines
    assert TUNNEL_SUBPROTOCOL == "sallyport.tunnel.v1"
    check_upgrade(parse_response(accept_upgrade(request).removesuffix(b"\r\n\r\n")), key)


def test_another_endpoint_and_no_token() -> None:
    head, key = upgrade_request("localhost", "/v1/feed", None, "feed.v1")
    assert b"Authorization" not in head
    answer = accept_upgrade(parse_request(head[:-4]), "feed.v1")
    check_upgrade(parse_response(answer[:-4]), key, "feed.v1")
    with pytest.raises(RemoteProtocolError):
        accept_upgrade(parse_request(head[:-4]))


def test_keys_are_never_used_twice() -> None:
    assert upgrade_request("a")[1] != upgrade_request("a")[1]


@pytest.mark.parametrize("token", ["a b", "a\r\nX: y", "é", "a\x00"])
def test_nothing_but_a_token_goes_into_the_head(token: str) -> None:
    with pytest.raises(ValueError, match="may not stand"):
        upgrade_request("a", "/", token)


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b"Upgrade: websocket\r\n", b"", 426),
        (b"Upgrade: websocket", b"Upgrade: h2c", 426),
        (b"keep-alive, Upgrade", b"keep-alive", 426),
        (b"Version: 13", b"Version: 8", 426),
        (b"\r\nSec-WebSocket-Version: 13", b"", 426),
        (b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13", 400),
        (b"GET", b"POST", 400),
        (b"Host:", b"Content-Length: 3\r\nHost:", 400),
        (b"sallyport.tunnel.v1", b"sallyport.tunnel.v2", 400),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIHNhbXBsZQ==", 400),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIHNhbXBsZSBub25jZR==", 400),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIHNhbXBsZSBub25j!Q==", 400),
        (b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b"", 400),
    ],
)
def test_requests_that_are_refused(old: bytes, new: bytes, status: int) -> None:
    assert old in REQUEST
    with pytest.raises(RemoteProtocolError) as refused:
        accept_upgrade(parse_request(REQUEST.replace(old, new)))
    assert refused.value.status_hint == status


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"101 Switching Protocols", b"200 OK"),
        (b"Upgrade: websocket", b"Upgrade: h2c"),
        (b"Connection: Upgrade\r\nSec", b"Connection: close\r\nSec"),
        (b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOA="),
        (b"\r\nSec-WebSocket-Protocol: sallyport.tunnel.v1", b""),
        (b"tunnel.v1", b"tunnel.v2"),
        (b"HTTP/1.1 101 Switching Protocols", b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Extensions: x"),
    ],
)
def test_answers_that_are_refused(old: bytes, new: bytes) -> None:
    assert old in ANSWER
    with pytest.raises(RemoteProtocolError):
        check_upgrade(parse_response(ANSWER.replace(old, new)), KEY)
