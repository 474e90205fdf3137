"""Heads of requests and answers, and trailers.

The first byte of the input chooses the parser. Allowed outcomes, for any bytes:
- RemoteProtocolError with status 400 or 505;
- a request head that a second strict reader (tests.support.strict_http) reads the same way, and that, written for an
  upstream, parses again to the same method, framing and lines with exactly one Host;
- an answer head that the second reader reads the same way, and that, written downstream, parses again to the same
  status and lines with at most one framing;
- trailer lines that parse again to themselves.
"""

from gateway.core.downstream_head import answer_head, interim_head
from gateway.core.route_table import RouteTable
from gateway.core.upstream_head import upstream_head
from sallyport.destination import Destination
from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.codec import parse_request, parse_response, parse_trailers
from sallyport.wire.http1.framing import has_answer_body
from sallyport.wire.http1.head import CHUNKED, ResponseHead
from sallyport.wire.http1.scan import HEAD_END
from tests.support.fuzzing import run
from tests.support.plan_documents import plan_of
from tests.support.strict_http import Framing, Malformed, read_answer_head, read_head

TABLE = RouteTable(plan_of())
UPSTREAM = TABLE.forward_upstream(Destination("https", "api.example.com", 443))

SEEDS = (
    b"\x00GET /v1?a=b HTTP/1.1\r\nHost: a.example\r\nAccept: */*\r\nConnection: close, x\r\nX: y",
    b"\x00POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue",
    b"\x00POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent_Length: 6",
    b"\x00CONNECT a.example:443 HTTP/1.0\r\nProxy-Authorization: Basic eDp5",
    b"\x00GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX_Api_Key: a",
    b"\x01HTTP/1.1 200 OK\r\nContent-Length: 5\r\nAlt-Svc: h3",
    b"\x01HTTP/1.0 204 No Content\r\nConnection: x\r\nX: y",
    b"\x01HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade",
    b"\x02X-A: b\r\nGrpc-Status: 0",
)


def check(data: bytes) -> None:
    """Check one input."""
    kind, head = data[:1], data[1:]
    try:
        if kind == b"\x00":
            check_request(head)
        elif kind == b"\x01":
            check_response(head)
        else:
            lines = parse_trailers(head)
            assert parse_trailers(b"\r\n".join(lines)) == lines
    except RemoteProtocolError as error:
        refusal = error
    else:
        return
    assert refusal.status_hint in (400, 505)


def check_request(data: bytes) -> None:
    """Read, compare with the second reader, write, read again."""
    head = parse_request(data)
    if head.host and head.minor == 1:
        check_second_reader(data)
    # A second Host or a second framing must not come out either, whatever went in.
    block = upstream_head(TABLE, None, head, UPSTREAM, b"/x", None, None)
    assert block.index(HEAD_END) == len(block) - 4
    again = parse_request(block[:-4])
    assert (again.method, again.target, again.host) == (head.method, b"/x", b"api.example.com")
    assert (again.body, again.has_body) == (head.body, head.has_body)
    assert (again.lines, again.names) == (head.lines, head.names)
    assert again.proxy_authorization is None
    assert again.upgrade is None


def check_second_reader(data: bytes) -> None:
    """Compare our reading with one that shares nothing with it."""
    head = parse_request(data)
    if head.body >= 10**15:
        return  # they read fewer digits of a length
    try:
        theirs = read_head(data + HEAD_END, 0)
    except Malformed as error:
        raise AssertionError(f"only we accept this: {error}") from error
    assert theirs is not None
    assert theirs.method == head.method
    assert theirs.target.encode("ascii") == head.target
    assert theirs.host.encode("latin-1") == head.host
    framing = Framing.CHUNKED if head.body == CHUNKED else Framing.LENGTH if head.has_body else Framing.NONE
    assert (theirs.framing, theirs.length) == (framing, max(head.body, 0))


def check_response(data: bytes) -> None:
    """Read, write, read again."""
    head = parse_response(data)
    check_second_reader_of_answers(data, head)
    is_final = head.status >= 200
    has_body = has_answer_body("GET", head.status)
    block = answer_head(head, has_body=has_body, close=False) if is_final else interim_head(head)
    assert block.index(HEAD_END) == len(block) - 4
    again = parse_response(block[:-4])
    assert (again.status, again.reason) == (head.status, head.reason)
    assert not again.close
    visible = tuple(line for name, line in zip(head.names, head.lines, strict=True) if name != b"alt-svc")
    assert tuple(again.lines) == visible


def check_second_reader_of_answers(data: bytes, head: ResponseHead) -> None:
    """Compare our reading of an answer with one that shares nothing with it."""
    if (head.body or 0) >= 10**15:
        return  # they read fewer digits of a length
    try:
        theirs = read_answer_head(data)
    except Malformed as error:
        raise AssertionError(f"only we accept this: {error}") from error
    assert (theirs.status, theirs.reason) == (head.status, head.reason)
    framing = Framing.NONE if head.body is None else Framing.CHUNKED if head.body == CHUNKED else Framing.LENGTH
    assert (theirs.framing, theirs.length) == (framing, max(head.body or 0, 0))
    # What is passed on stands there in the same order, and nothing is passed on that does not.
    left = iter(theirs.headers)
    for line in head.lines:
        name, _, value = line.partition(b":")
        assert (name.decode("ascii").lower(), value.strip(b" \t")) in left


if __name__ == "__main__":
    run(check, SEEDS)
