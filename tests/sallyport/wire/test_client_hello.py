import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sallyport.wire.client_hello import (
    HANDSHAKE_FAILURE_ALERT,
    MAX_CLIENT_HELLO_BYTES,
    NO_APPLICATION_PROTOCOL_ALERT,
    UNRECOGNIZED_NAME_ALERT,
    ClientHello,
    parse_client_hello,
)
from sallyport.wire.errors import RemoteProtocolError

# What the function may do with any bytes: give a hello, give None, or raise RemoteProtocolError.
type Outcome = ClientHello | str | None


def outcome(data: bytes) -> Outcome:
    try:
        return parse_client_hello(data)
    except RemoteProtocolError as error:
        return error.reason


def real_hello(
    server_name: str | None = "api.example.com",
    alpn: tuple[str, ...] = ("h2", "http/1.1"),
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> bytes:
    """The bytes that OpenSSL sends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = server_name is not None
    context.maximum_version = version
    if alpn:
        context.set_alpn_protocols(list(alpn))
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=server_name).do_handshake()
    return outgoing.read()


def record(payload: bytes) -> bytes:
    return b"\x16\x03\x01" + len(payload).to_bytes(2) + payload


def vector(length_size: int, content: bytes) -> bytes:
    return len(content).to_bytes(length_size) + content


def extension(kind: int, content: bytes) -> bytes:
    return kind.to_bytes(2) + vector(2, content)


def server_name(*names: bytes, kind: int = 0) -> bytes:
    return extension(0, vector(2, b"".join(bytes((kind,)) + vector(2, name) for name in names)))


def hello(extensions: bytes | None, *, version: bytes = b"\x03\x03", ciphers: bytes = b"\x13\x01") -> bytes:
    body = version + bytes(32) + vector(1, b"") + vector(2, ciphers) + vector(1, b"\0")
    if extensions is not None:
        body += vector(2, extensions)
    return record(b"\x01" + vector(3, body))


TLS_1_2, TLS_1_3 = 0x0303, 0x0304


def test_real_hello_of_tls_1_3() -> None:
    assert outcome(real_hello()) == ClientHello(
        server_name="api.example.com", alpn=("h2", "http/1.1"), versions=(TLS_1_3, TLS_1_2)
    )


def test_real_hello_of_tls_1_2_without_name_or_alpn() -> None:
    data = real_hello(server_name=None, alpn=(), version=ssl.TLSVersion.TLSv1_2)
    assert outcome(data) == ClientHello(server_name=None, alpn=(), versions=(TLS_1_2,))


def test_hello_without_extensions() -> None:
    assert outcome(hello(None)) == ClientHello(server_name=None, alpn=(), versions=(TLS_1_2,))
    assert outcome(hello(b"")) == ClientHello(server_name=None, alpn=(), versions=(TLS_1_2,))


def test_name_is_normalised_h1() -> None:
    answer = outcome(hello(server_name(b"API.Example.com.")))
    assert isinstance(answer, ClientHello)
    assert answer.server_name == "api.example.com"


@pytest.mark.parametrize(("text", "address"), [(b"192.0.2.1", "192.0.2.1"), (b"2001:DB8:0::1", "2001:db8::1")])
def test_a1_an_address_in_the_place_of_a_name_is_told_as_it_is(text: bytes, address: str) -> None:
    answer = outcome(hello(server_name(text)))
    assert isinstance(answer, ClientHello)
    assert answer.server_name == address


def test_grease_is_no_fault() -> None:
    extensions = extension(0x0A0A, b"") + extension(16, vector(2, vector(1, b"\xea\xea") + vector(1, b"h2")))
    extensions += extension(43, vector(1, b"\x1a\x1a\x03\x04"))
    assert outcome(hello(extensions)) == ClientHello(
        server_name=None, alpn=("\xea\xea", "h2"), versions=(0x1A1A, TLS_1_3)
    )


def test_every_prefix_asks_for_more_and_what_follows_is_not_looked_at() -> None:
    data = real_hello()
    assert {outcome(data[:cut]) for cut in range(len(data))} == {None}
    assert outcome(data + b"\x17whatever follows") == outcome(data)


@pytest.mark.parametrize("size", [9, 64, 100])
def test_hello_split_over_many_records(size: int) -> None:
    whole = real_hello()
    message = whole[5:]
    data = b"".join(record(message[start : start + size]) for start in range(0, len(message), size))
    assert outcome(data[:-1]) is None
    assert outcome(data) == outcome(whole)


def test_hello_in_too_many_records_is_refused_without_waiting_for_more() -> None:
    message = real_hello()[5:]
    data = b"".join(record(message[start : start + 1]) for start in range(64))
    assert outcome(data[:-1]) is None
    assert isinstance(outcome(data), str)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="cleartext"),
        pytest.param(b"\x16\x02\x00\x00\x01\x01", id="record-version"),
        pytest.param(b"\x16\x03\x01\x00\x00", id="empty-record"),
        pytest.param(b"\x16\x03\x01\x40\x01", id="long-record"),
        pytest.param(record(b"\x02\x00\x00\x00"), id="server-hello"),
        pytest.param(record(b"\x01\x01\x00\x00"), id="long-message"),
        pytest.param(record(b"\x01\0\0\0"), id="no-body"),
        pytest.param(record(hello(None)[5:] + b"\x01"), id="second-message-in-record"),
        pytest.param(hello(None, version=b"\x02\x00"), id="hello-version"),
        pytest.param(hello(None, ciphers=b"\x13"), id="odd-ciphers"),
        pytest.param(hello(None, ciphers=b""), id="no-ciphers"),
        pytest.param(hello(None, ciphers=b"\x13\x01\x13"), id="three-bytes-of-ciphers"),
        pytest.param(record(b"\x01" + vector(3, hello(b"")[9:] + b"x")), id="bytes-after-extensions"),
        pytest.param(hello(b"\x00"), id="half-an-extension"),
        pytest.param(hello(b"\x00\x00\x00\x09"), id="extension-beyond-block"),
        pytest.param(hello(server_name(b"a.test") * 2), id="H4-extension-twice"),
        pytest.param(hello(server_name(b"a.test", b"b.test")), id="H4-two-names"),
        pytest.param(hello(server_name(b"a.test", kind=1)), id="H4-name-type"),
        pytest.param(hello(server_name()), id="H4-empty-list"),
        pytest.param(hello(server_name(b"")), id="H4-empty-name"),
        pytest.param(hello(extension(0, b"")), id="H4-empty-extension"),
        pytest.param(hello(extension(0, vector(2, b"\x00" + vector(2, b"a.test")) + b"x")), id="H4-left-over"),
        pytest.param(hello(server_name(b"a.test\0.evil.test")), id="H4-nul"),
        pytest.param(hello(server_name(b"a.test ")), id="H4-space"),
        pytest.param(hello(server_name(b"a.test/x")), id="H4-slash"),
        pytest.param(hello(server_name(b"x@a.test")), id="H4-at"),
        pytest.param(hello(server_name("ä.test".encode())), id="H3-not-ascii"),
        pytest.param(hello(server_name(b"a.test..")), id="H1-two-dots"),
        pytest.param(hello(server_name(b"a" * 64 + b".test")), id="H5-label"),
        pytest.param(hello(server_name(b"0x7f.1")), id="H6-number"),
        pytest.param(hello(extension(16, vector(2, b""))), id="alpn-empty"),
        pytest.param(hello(extension(16, vector(2, b"\x00\x00"))), id="alpn-empty-name"),
        pytest.param(hello(extension(16, vector(2, b"\x09h2"))), id="alpn-beyond-list"),
        pytest.param(hello(extension(43, b"\x03\x03\x04\x03")), id="versions-odd"),
        pytest.param(hello(extension(43, b"\x00")), id="versions-empty"),
    ],
)
def test_malformed_hello_is_refused_and_stays_refused(data: bytes) -> None:
    assert isinstance(outcome(data), str)
    assert outcome(data + b"more") == outcome(data)


def test_length_is_bounded_and_never_waits_beyond_the_bound() -> None:
    largest = hello(extension(21, bytes(MAX_CLIENT_HELLO_BYTES - 5 - 4 - 41 - 2 - 4)))
    assert len(largest) == MAX_CLIENT_HELLO_BYTES
    assert isinstance(outcome(largest), ClientHello)
    message = real_hello()[5:9] + bytes(MAX_CLIENT_HELLO_BYTES)
    for size in (1, 7, 4000):
        endless = b"".join(record(message[start : start + size]) for start in range(0, len(message), size))
        assert isinstance(outcome(endless[:MAX_CLIENT_HELLO_BYTES]), str)


@pytest.mark.parametrize("sizes", [(4000,) * 5, (4000, 4000, 4000, 4359)], ids=["over-the-bound", "up-to-the-bound"])
def test_a_hello_that_fills_the_bound_without_its_end_is_refused_at_once(sizes: tuple[int, ...]) -> None:
    message = b"\x01" + MAX_CLIENT_HELLO_BYTES.to_bytes(3) + bytes(MAX_CLIENT_HELLO_BYTES)
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    data = b"".join(record(message[start : start + size]) for start, size in zip(starts, sizes, strict=True))
    assert outcome(data[: sum(sizes[:3]) + 15]) is None
    assert outcome(data[:MAX_CLIENT_HELLO_BYTES]) == "the ClientHello is too long"


@given(st.binary(max_size=300) | st.binary(max_size=80).map(hello) | st.binary(max_size=120).map(record))
def test_any_bytes_are_a_value_none_or_remote_protocol_error(data: bytes) -> None:
    answer = outcome(data)
    if isinstance(answer, ClientHello):
        assert answer.versions


@given(st.data())
def test_damaged_hello_gives_one_outcome_however_it_arrives(source: st.DataObject) -> None:
    data = bytearray(hello(server_name(b"a.test") + extension(16, vector(2, vector(1, b"http/1.1")))))
    for _ in range(source.draw(st.integers(0, 2))):
        data[source.draw(st.integers(0, len(data) - 1))] = source.draw(st.integers(0, 255))
    final = outcome(bytes(data))
    decided = [answer for cut in range(len(data)) if (answer := outcome(bytes(data[:cut]))) is not None]
    assert set(decided) <= {final}


@pytest.mark.parametrize(
    ("alert", "words"),
    [
        (HANDSHAKE_FAILURE_ALERT, "alert handshake failure"),
        (UNRECOGNIZED_NAME_ALERT, "unrecognized name"),
        (NO_APPLICATION_PROTOCOL_ALERT, "alert no application protocol"),
    ],
)
def test_client_understands_the_alert(alert: bytes, words: str) -> None:
    incoming = ssl.MemoryBIO()
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(incoming, ssl.MemoryBIO(), server_hostname="a.test")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    incoming.write(alert)
    with pytest.raises(ssl.SSLError, match=words):
        client.do_handshake()
