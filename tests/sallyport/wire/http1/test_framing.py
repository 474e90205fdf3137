"""Which framing a message has (RFC 9112 section 6.3; egress cases S3, S11)."""

import pytest

from sallyport.wire.http1.body import BodyReader, ChunkedReader, LengthReader, UntilCloseReader
from sallyport.wire.http1.codec import parse_request, parse_response
from sallyport.wire.http1.framing import IDEMPOTENT_METHODS, answer_reader, has_answer_body, request_reader

LENGTH = b"Content-Length: 5"
CHUNKED = b"Transfer-Encoding: chunked"


def of_request(method: bytes, *lines: bytes) -> BodyReader:
    return request_reader(parse_request(b"\r\n".join((method + b" / HTTP/1.1", b"Host: a", *lines))))


def of_answer(method: str, status: int, *lines: bytes) -> BodyReader:
    return answer_reader(method, parse_response(b"\r\n".join((b"HTTP/1.1 %d x" % status, *lines))))


@pytest.mark.parametrize("method", [b"GET", b"DELETE", b"HEAD", b"POST", b"OPTIONS"])
def test_s3_a_request_has_the_body_its_framing_says_whatever_its_method(method: bytes) -> None:
    assert of_request(method).done
    assert isinstance(of_request(method, CHUNKED), ChunkedReader)
    reader = of_request(method, LENGTH)
    assert isinstance(reader, LengthReader)
    assert reader.remaining == 5


@pytest.mark.parametrize("status", [200, 206, 301, 404, 500])
def test_an_answer_has_the_body_its_framing_says(status: int) -> None:
    assert has_answer_body("GET", status)
    reader = of_answer("GET", status, LENGTH)
    assert isinstance(reader, LengthReader)
    assert reader.remaining == 5
    assert isinstance(of_answer("POST", status, CHUNKED), ChunkedReader)
    assert isinstance(of_answer("GET", status), UntilCloseReader)


@pytest.mark.parametrize("line", [LENGTH, CHUNKED, b"Server: x"])
@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("HEAD", 404), ("GET", 204), ("GET", 304)])
def test_s11_some_answers_have_no_body_whatever_they_say(method: str, status: int, line: bytes) -> None:
    assert not has_answer_body(method, status)
    reader = of_answer(method, status, line)
    assert reader.done
    assert isinstance(reader, LengthReader)


@pytest.mark.parametrize("status", [100, 101, 103, 199])
def test_an_interim_answer_has_no_body(status: int) -> None:
    assert not has_answer_body("GET", status)


def test_a7_what_may_be_sent_twice() -> None:
    assert {"GET", "PUT", "DELETE"} <= IDEMPOTENT_METHODS
    assert IDEMPOTENT_METHODS.isdisjoint({"POST", "PATCH", "CONNECT", "get"})
