"""The head that goes downstream (egress cases A5, S7, S11)."""

import pytest

from gateway.core.downstream_head import answer_head, interim_head, switching_head, without_hidden
from sallyport.wire.http1.codec import parse_response
from sallyport.wire.http1.framing import has_answer_body
from sallyport.wire.http1.head import CHUNKED, ResponseHead
from sallyport.wire.http1.scan import HEAD_END

LENGTH = b"Content-Length: 5"
CODING = b"Transfer-Encoding: chunked"


def answer(*lines: bytes, status: int = 200) -> ResponseHead:
    return parse_response(b"\r\n".join((b"HTTP/1.1 %d Odd reason" % status, *lines)))


def written(head: ResponseHead, method: str = "GET", *, close: bool = False) -> bytes:
    block = answer_head(head, has_body=has_answer_body(method, head.status), close=close)
    assert block.endswith(HEAD_END)
    assert block.count(HEAD_END) == 1
    return block


def test_lines_go_on_as_they_came() -> None:
    block = written(answer(b"Server:  x ", LENGTH, b"Set-Cookie: a", b"set-cookie: b"))
    assert block == (
        b"HTTP/1.1 200 Odd reason\r\nServer:  x \r\nSet-Cookie: a\r\nset-cookie: b\r\nContent-Length: 5\r\n\r\n"
    )


def test_an_answer_without_fields() -> None:
    assert written(answer(status=204)) == b"HTTP/1.1 204 Odd reason\r\n\r\n"


@pytest.mark.parametrize(
    ("lines", "method", "status", "framing"),
    [
        ([], "GET", 200, CODING),
        ([CODING], "GET", 200, CODING),
        ([LENGTH], "GET", 200, LENGTH),
        ([b"Content-Length: 0"], "POST", 201, b"Content-Length: 0"),
        ([], "HEAD", 200, b""),
        ([LENGTH], "HEAD", 200, LENGTH),
        ([CODING], "HEAD", 200, CODING),
        ([], "GET", 304, b""),
        ([LENGTH], "GET", 304, LENGTH),
        ([], "GET", 204, b""),
        ([LENGTH], "GET", 204, b""),
        ([CODING], "GET", 204, b""),
        ([b"Content-Length: 0"], "GET", 204, b""),
    ],
)
@pytest.mark.parametrize("close", [False, True])
def test_s11_there_is_one_framing_and_it_is_ours(
    lines: list[bytes], method: str, status: int, framing: bytes, close: bool
) -> None:
    again = parse_response(written(answer(*lines, status=status), method, close=close)[: -len(HEAD_END)])
    expected = None if not framing else CHUNKED if framing == CODING else int(framing.rpartition(b" ")[2])
    assert (again.body, again.close) == (expected, close)


def test_a5_alternative_services_stay_here() -> None:
    head = answer(b"Alt-Svc: h3=x", b"Server: x", b"ALT-SVC: clear", b"Alt_Svc: h3=x", LENGTH)
    assert written(head) == b"HTTP/1.1 200 Odd reason\r\nServer: x\r\nContent-Length: 5\r\n\r\n"
    assert interim_head(answer(b"Alt-Svc: h3=x", b"Link: </x>", status=103)) == (
        b"HTTP/1.1 103 Odd reason\r\nLink: </x>\r\n\r\n"
    )


def test_a5_trailers_hide_what_heads_do() -> None:
    hidden = [b"Alt-Svc: clear", b"ALT_SVC: h3=x", b"x-sallyport-error: denied_by_plan"]
    assert without_hidden([*hidden, b"X-End: Alt-Svc: 1", b"Alt-Svc-2: x"]) == [b"X-End: Alt-Svc: 1", b"Alt-Svc-2: x"]


def test_s11_an_interim_head_has_no_framing() -> None:
    assert interim_head(answer(b"Content-Length: 0", status=100)) == b"HTTP/1.1 100 Odd reason\r\n\r\n"


def test_s7_a_101_names_its_upgrade_once() -> None:
    head = answer(b"Connection: Upgrade", b"Upgrade: WebSocket", b"Sec-WebSocket-Accept: x", status=101)
    assert switching_head(head) == (
        b"HTTP/1.1 101 Odd reason\r\nSec-WebSocket-Accept: x\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n"
    )


def test_s7_a_101_without_an_upgrade_is_never_written() -> None:
    with pytest.raises(AssertionError):
        switching_head(answer(status=101))
