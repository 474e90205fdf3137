"""Whole answers that Sallyport makes itself, as bytes (contracts section 9)."""

from http import HTTPStatus

from sallyport.problem import Code, Problem, proxy_status

# The whole answer to a CONNECT that may go on: bytes of the stream follow (RFC 9110 section 9.3.6).
ESTABLISHED = b"HTTP/1.1 200 Connection Established\r\n\r\n"

# Both ways a proxy token may be sent (contracts section 3); Basic first, because most clients know only that.
_CHALLENGE = b'Proxy-Authenticate: Basic realm="sallyport"\r\nProxy-Authenticate: Bearer realm="sallyport"\r\n'


def problem_answer(problem: Problem, *, method: str, close: bool) -> bytes:
    """Write a refusal as a whole answer: problem+json with the codes an agent can act on."""
    code = problem.code
    body = problem.to_json()
    fields = b"Content-Type: application/problem+json\r\nContent-Length: %d\r\nCache-Control: no-store\r\n" % len(body)
    fields += b"Proxy-Status: %b\r\nX-Sallyport-Error: %b\r\n" % (
        proxy_status(code).encode("ascii"),
        code.wire.encode("ascii"),
    )
    if code is Code.PROXY_AUTHENTICATION_REQUIRED:
        fields += _CHALLENGE
    if code is Code.AUTHENTICATION_REQUIRED:
        fields += b'WWW-Authenticate: Bearer realm="sallyport"\r\n'
    if code is Code.TRACE_REFUSED:
        fields += b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"
    if problem.retry_after_seconds is not None:
        fields += b"Retry-After: %d\r\n" % problem.retry_after_seconds
    if close:
        fields += b"Connection: close\r\n"
    return b"%b%b\r\n%b" % (_status_line(code.status), fields, b"" if method == "HEAD" else body)


def plain_answer(status: int, content_type: str, body: bytes, *, close: bool = False) -> bytes:
    """Write a small answer of a proxy port's own (health, CA certificate)."""
    return b"%bContent-Type: %b\r\nContent-Length: %d\r\n%b\r\n%b" % (
        _status_line(status),
        content_type.encode("ascii"),
        len(body),
        b"Connection: close\r\n" if close else b"",
        body,
    )


def _status_line(status: int) -> bytes:
    return b"HTTP/1.1 %d %b\r\n" % (status, HTTPStatus(status).phrase.encode("ascii"))
