"""Answers the gateway makes itself, as bytes (contracts section 9)."""

from http import HTTPStatus

from gateway.core.decision import Deny
from sallyport.problem import Code, Problem, proxy_status

# Both ways a proxy token may be sent (contracts section 3); Basic first, because most clients know only that.
_CHALLENGE = b'Proxy-Authenticate: Basic realm="sallyport"\r\nProxy-Authenticate: Bearer realm="sallyport"\r\n'


def refusal(deny: Deny, request_id: str, *, method: str, close: bool) -> bytes:
    """Write a whole answer: problem+json with the codes an agent can act on."""
    code = deny.code
    body = Problem(
        code=code,
        detail=deny.detail,
        request_id=request_id,
        egress_rule_id=deny.rule_id,
        nearest=deny.nearest,
        hint=deny.hint,
    ).to_json()
    fields = b"Content-Type: application/problem+json\r\nContent-Length: %d\r\nCache-Control: no-store\r\n" % len(body)
    fields += b"Proxy-Status: %b\r\nX-Sallyport-Error: %b\r\n" % (
        proxy_status(code).encode("ascii"),
        code.wire.encode("ascii"),
    )
    if code is Code.PROXY_AUTHENTICATION_REQUIRED:
        fields += _CHALLENGE
    if code is Code.TRACE_REFUSED:
        fields += b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"
    if deny.retry_after_seconds is not None:
        fields += b"Retry-After: %d\r\n" % deny.retry_after_seconds
    if close:
        fields += b"Connection: close\r\n"
    return b"%b%b\r\n%b" % (_status_line(code.status), fields, b"" if method == "HEAD" else body)


def plain_answer(status: int, content_type: str, body: bytes) -> bytes:
    """Write a small answer of the proxy port's own (health, CA certificate)."""
    return b"%bContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (
        _status_line(status),
        content_type.encode("ascii"),
        len(body),
        body,
    )


def _status_line(status: int) -> bytes:
    return b"HTTP/1.1 %d %b\r\n" % (status, HTTPStatus(status).phrase.encode("ascii"))
