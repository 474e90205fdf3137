"""Chunked bodies, however they are cut.

The input is a byte for the number of cuts, so many cut positions (two bytes each), and the body. Allowed outcomes:
- RemoteProtocolError, for the same reason whole, cut and byte by byte;
- payload, trailers and rest, equal however the bytes were cut; framed again and read again they are the same; and a
  second strict reader (tests.support.strict_http) takes the same bytes for the same, but for an extension without a
  name, which we drop like any other.
"""

from itertools import pairwise

from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.body import ChunkedReader, frame_chunk, frame_end
from tests.support.fuzzing import run
from tests.support.strict_http import Malformed, read_request

SEEDS = (
    b"\x00" + b"5\r\nhello\r\n0\r\n\r\nGET",
    b"\x02\x00\x03\x00\x09" + b"5;a=b\r\nhello\r\n0\r\nX-A: 1\r\n\r\nrest",
    b"\x01\x00\x01" + b"a\r\n0123456789\r\n0;x\r\n\r\n",
    b"\x01\x00\x02" + b"1\nx\n0\n\n",
    b"\x00" + b"0\r\nContent-Length: 5\r\n\r\n",
)

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

type Outcome = tuple[bytes, tuple[bytes, ...], bytes, bool] | str


def read(pieces: list[bytes]) -> Outcome:
    """Feed pieces as they would arrive; what comes after the end is rest."""
    reader = ChunkedReader()
    payload = rest = b""
    try:
        for piece in pieces:
            if reader.done:
                rest += piece
            else:
                payload += reader.feed(piece)
                rest = reader.rest
    except RemoteProtocolError as error:
        return error.reason
    return payload, tuple(reader.trailers), rest, reader.done


def check(data: bytes) -> None:
    """Check one input."""
    count = data[0] % 8 if data else 0
    body = data[1 + 2 * count :]
    cuts = [int.from_bytes(data[1 + 2 * number : 3 + 2 * number]) % (len(body) + 1) for number in range(count)]
    whole = read([body])
    assert read([body[start:end] for start, end in pairwise(sorted({0, len(body), *cuts}))]) == whole
    assert read([body[at : at + 1] for at in range(len(body))]) == whole
    if isinstance(whole, tuple) and whole[3]:
        payload, trailers, rest, _ = whole
        framed = (frame_chunk(payload) if payload else b"") + frame_end(list(trailers)) + rest
        assert read([framed]) == whole
        check_second_reader(body, payload, trailers, rest)


def check_second_reader(body: bytes, payload: bytes, trailers: tuple[bytes, ...], rest: bytes) -> None:
    """Compare our reading with one that shares nothing with it."""
    try:
        theirs = read_request(HEAD + body, 0)
    except Malformed as error:
        if str(error).startswith("chunk extension"):
            return
        raise AssertionError(f"only we accept this: {error}") from error
    assert theirs is not None
    assert theirs.body == payload
    assert (HEAD + body)[theirs.end :] == rest
    assert [name for name, _ in theirs.trailers] == [line.partition(b":")[0].decode().lower() for line in trailers]


if __name__ == "__main__":
    run(check, SEEDS)
