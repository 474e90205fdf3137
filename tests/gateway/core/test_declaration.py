"""What the first head of a tunnel's stream declares, and that nothing of ours is left in it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.decision import Mode
from gateway.core.declaration import Declaration, take_declaration
from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.codec import parse_request


def head(*lines: bytes) -> bytes:
    return b"\r\n".join((b"CONNECT a.test:443 HTTP/1.1", *lines))


@pytest.mark.parametrize(
    ("line", "declared"),
    [
        (b"Sallyport-Stream: intercepted; revision=1", Declaration(Mode.INTERCEPTED, 1)),
        (b"sallyport-stream:passthrough; revision=9007199254740991", Declaration(Mode.PASSTHROUGH, 2**53 - 1)),
        (b"SALLYPORT-STREAM: \tplain; revision=7 ", Declaration(Mode.PLAIN, 7)),
        (b"Sallyport-Stream: intercepted; revision=7; cleartext", Declaration(Mode.INTERCEPTED, 7, True)),
    ],
)
def test_a_declaration_is_taken_off(line: bytes, declared: Declaration) -> None:
    assert take_declaration(head(b"Host: a.test:443", line, b"X: 1")) == (declared, head(b"Host: a.test:443", b"X: 1"))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"intercepted",
        b"intercepted;revision=1",
        b"intercepted; revision=01",
        b"intercepted; revision=0",
        b"intercepted; revision=+1",
        b"intercepted; revision=1.0",
        b"intercepted; revision=12345678901234567",
        b"intercepted; revision=1;",
        b"intercepted; revision=1; cleartext; cleartext",
        b"plain; revision=1; cleartext",
        b"Intercepted; revision=1",
        b"opaque; revision=1",
        b"revision=1; intercepted",
        b"intercepted; revision=1, passthrough; revision=1",
        b"intercepted; revision=\xb2",
    ],
)
def test_another_value_is_refused(value: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        take_declaration(head(b"Sallyport-Stream: " + value))


@pytest.mark.parametrize("lines", [[], [b"Sallyport-Stream: plain; revision=1"] * 2, [b"Sallyport_Stream: x"]])
def test_it_stands_exactly_once(lines: list[bytes]) -> None:
    with pytest.raises(RemoteProtocolError, match="exactly one"):
        take_declaration(head(*lines))


PIECES = st.sampled_from(
    [b"Sallyport-Stream", b"sallyport_stream", b"Sallyport-X", b": ", b":", b"plain", b"; revision=1", b"\r\n", b"X: 1"]
)


@given(st.lists(PIECES | st.binary(max_size=8), max_size=12).map(b"".join))
def test_any_bytes_are_a_declaration_or_refused_and_no_field_of_ours_gets_by(block: bytes) -> None:
    try:
        declared, rest = take_declaration(b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n" + block)
        request = parse_request(rest)
    except RemoteProtocolError:
        return
    assert declared.revision >= 1
    assert not [name for name in request.names if name.startswith(b"sallyport")]
    assert not [line for line in request.lines if line.lower().startswith(b"sallyport")]
