"""First heads of a tunnel's streams: what a program says to sandboxd, what sandboxd says to the gateway.

The input is a head. It is read as a program's by sandboxd, and as a stream's by the gateway. Allowed outcomes, for any
bytes:
- sandboxd: Refused with a code; a request whose stream's head the gateway reads as declared, once, and as the same
  request, whatever the program wrote about itself;
- the gateway: RemoteProtocolError; a declaration, and a head without any field of ours.
"""

from gateway.core.decision import Mode as Admitted
from gateway.core.declaration import Declaration, take_declaration
from sallyport.problem import Code
from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.codec import parse_request
from sallyport.wire.http1.scan import HEAD_END
from sandboxd.core.intake import Mode, Refused, connect_head, plain_head, read_asked
from tests.support.fuzzing import run

REVISION = 2**53 - 1
ADMITTED = {
    Mode.INTERCEPTED: Admitted.INTERCEPTED,
    Mode.CLEARTEXT: Admitted.INTERCEPTED,
    Mode.PASSTHROUGH: Admitted.PASSTHROUGH,
}
SEEDS = (
    b"CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\nSallyport-Stream: intercepted; revision=7",
    b"CONNECT [::1]:443 HTTP/1.0\r\nSallyport-Stream: intercepted; revision=7; cleartext",
    b"GET http://a.example/x?y HTTP/1.1\r\nHost: a.example\r\nSallyport-Stream: plain; revision=1\r\nsallyport_x: y",
    b"POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 1",
    b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\nSALLYPORT-STREAM:passthrough; revision=1\r\nSallyport-Stream: plain",
)


def check(data: bytes) -> None:
    """Check one input."""
    check_program(data)
    try:
        _, head = take_declaration(data)
        request = parse_request(head)
    except RemoteProtocolError as error:
        assert error.status_hint in (400, 505)
        return
    assert not [name for name in request.names if name.startswith(b"sallyport-")]


def check_program(head: bytes) -> None:
    """Read what a program sends, and what becomes of it at the gateway."""
    try:
        asked = read_asked(head)
    except Refused as refused:
        assert refused.code in (Code.INVALID_REQUEST, Code.AUTHORITY_MISMATCH, Code.HTTP_VERSION)
        return
    if not asked.is_connect:
        declared, rest = read(plain_head(asked, REVISION))
        assert (declared.mode, declared.is_cleartext) == (Admitted.PLAIN, False)
        request = parse_request(rest)
        assert (request.method, request.target) == (asked.request.method, asked.request.target)
        assert (request.host, request.body, request.lines) == (
            asked.request.host,
            asked.request.body,
            asked.request.lines,
        )
        return
    for mode, admitted in ADMITTED.items():
        declared, rest = read(connect_head(asked.host, asked.port, mode, REVISION))
        assert (declared.mode, declared.is_cleartext) == (admitted, mode is Mode.CLEARTEXT)
        request = parse_request(rest)
        assert request.target == request.host
        assert read_asked(rest).host == asked.host
        assert read_asked(rest).port == asked.port


def read(block: bytes) -> tuple[Declaration, bytes]:
    """Read a stream's head; it is one, and its revision is the one it was written with."""
    assert block.index(HEAD_END) == len(block) - len(HEAD_END)
    declared, rest = take_declaration(block[: -len(HEAD_END)])
    assert declared.revision == REVISION
    return declared, rest


if __name__ == "__main__":
    run(check, SEEDS)
