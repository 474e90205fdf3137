"""Answers of an upstream proxy to our CONNECT.

Allowed outcomes, for any bytes:
- RemoteProtocolError with status 502, which stays whatever follows;
- None for "not yet", but never once the head's end is there or it is over its limit;
- a status and the end of a head, which stay whatever follows, and which the codec of all other answers reads alike
  unless it refuses what a tunnel has no use for: its framing.
"""

from sallyport.net.proxy_connect import _MAX_HEAD_BYTES, read_proxy_answer
from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.codec import parse_response
from sallyport.wire.http1.scan import HEAD_END
from tests.support.fuzzing import run

SEEDS = (
    b"HTTP/1.1 200 Connection established\r\n\r\nearly bytes",
    b"HTTP/1.0 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 3\r\n\r\nabc",
    b"HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
    b"HTTP/1.1 502 \r\nX: \xff\t\r\n\r\n",
    b"SSH-2.0-OpenSSH_9\r\n",
    b"HTTP/1.1 200 OK\nX: y\n\n",
)

type Outcome = tuple[int, int] | str | None


def read(data: bytes) -> Outcome:
    """Give the outcome as a value."""
    try:
        return read_proxy_answer(data)
    except RemoteProtocolError as error:
        assert error.status_hint == 502
        return error.reason


def check(data: bytes) -> None:
    """Check one input."""
    whole = read(data)
    if whole is None:
        assert HEAD_END not in data
        assert len(data) <= _MAX_HEAD_BYTES
    for length in {1, 8, len(data) // 2, max(0, len(data) - 1)}:
        before = read(data[:length])
        if isinstance(before, str):
            assert isinstance(whole, str)
        elif before is not None:
            assert before == whole
    if isinstance(whole, tuple):
        status, end = whole
        assert data[end - 4 : end] == HEAD_END
        assert HEAD_END not in data[: end - 1]
        try:
            head = parse_response(data[: end - 4])
        except RemoteProtocolError:
            return
        assert head.status == status


if __name__ == "__main__":
    run(check, SEEDS)
