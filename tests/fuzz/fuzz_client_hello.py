"""The first bytes of a TLS client.

Allowed outcomes, for any bytes: RemoteProtocolError; None (more bytes are needed), but never for
MAX_CLIENT_HELLO_BYTES of them; a ClientHello whose name is normal. What is certain stays so: a beginning of the bytes
of a hello gives None or that hello, and a beginning that is refused is refused with whatever follows.
"""

from sallyport.host import normalize_host
from sallyport.wire.client_hello import MAX_CLIENT_HELLO_BYTES, ClientHello, parse_client_hello
from sallyport.wire.errors import RemoteProtocolError
from tests.support.fuzzing import run


def vector(size: int, content: bytes) -> bytes:
    """Write a length of `size` bytes and what it counts."""
    return len(content).to_bytes(size) + content


def hello(name: bytes, *, records: int = 1) -> bytes:
    """Write a ClientHello with a name and two protocols, cut into records."""
    names = vector(2, b"\x00" + vector(2, name))
    protocols = vector(2, vector(1, b"h2") + vector(1, b"http/1.1"))
    extensions = b"\x00\x00" + vector(2, names) + b"\x00\x10" + vector(2, protocols) + b"\x00\x2b\x00\x03\x02\x03\x04"
    body = (
        b"\x03\x03" + bytes(32) + vector(1, b"") + vector(2, b"\x13\x01") + vector(1, b"\x00") + vector(2, extensions)
    )
    message = b"\x01" + vector(3, body)
    size = -(-len(message) // records)
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + vector(2, piece) for piece in pieces)


SEEDS = (hello(b"api.example.com"), hello(b"API.example.com.", records=3), hello(b"127.0.0.1"), b"GET / HTTP/1.1\r\n")


def read(data: bytes) -> ClientHello | RemoteProtocolError | None:
    """Give the outcome as a value."""
    try:
        return parse_client_hello(data)
    except RemoteProtocolError as error:
        return error


def check(data: bytes) -> None:
    """Check one input."""
    whole = read(data)
    if whole is None:
        assert len(data) < MAX_CLIENT_HELLO_BYTES
    if isinstance(whole, ClientHello) and whole.server_name is not None:
        assert normalize_host(whole.server_name) == whole.server_name
    for length in {1, 5, len(data) // 2, len(data) - 1}:
        before = read(data[: max(length, 0)])
        if isinstance(before, RemoteProtocolError):
            assert isinstance(whole, RemoteProtocolError)
        elif before is not None:
            assert before == whole


if __name__ == "__main__":
    run(check, SEEDS)
