"""The errors Sallyport itself answers with (contracts section 9; docs/errors.md explains each).

A `Code` is a closed list: what a sandbox may learn is its wire word, a sentence without
addresses or causes, and what to do. Everything else belongs to the log.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Code(Enum):
    """One kind of answer the gateway makes itself.

    `wire` is the word in `code`, `X-Sallyport-Error` and `Proxy-Status`; `value` is the same
    word, save for the proxy's 407, which shares its wire word with the 401.
    `retryable` says that the cause may pass by itself; it does not say that the request had
    no effect (docs/errors.md). `proxy_error` is the error type of RFC 9209 section 2.3.
    """

    wire: str
    status: int
    title: str
    retryable: bool
    proxy_error: str

    def __new__(cls, wire: str, status: int, title: str, retryable: bool, proxy_error: str, value: str = "") -> "Code":
        code = object.__new__(cls)
        code._value_ = value or wire
        code.wire = wire
        code.status = status
        code.title = title
        code.retryable = retryable
        code.proxy_error = proxy_error
        return code

    INVALID_REQUEST = "invalid_request", 400, "The request is malformed or ambiguous", False, "http_request_error"
    AUTHENTICATION_REQUIRED = "authentication_required", 401, "A valid token is required", False, "http_request_denied"
    PROXY_AUTHENTICATION_REQUIRED = (
        "authentication_required",
        407,
        "A valid proxy token is required",
        False,
        "http_request_denied",
        "proxy_authentication_required",
    )
    DENIED_BY_PLAN = (
        "denied_by_plan",
        403,
        "The sandbox's plan does not allow this request",
        False,
        "http_request_denied",
    )
    CLEARTEXT_REFUSED = (
        "cleartext_refused",
        403,
        "A credential is never sent over plain HTTP",
        False,
        "http_request_denied",
    )
    ADDRESS_REFUSED = (
        "address_refused",
        403,
        "The destination's address is not allowed",
        False,
        "destination_ip_prohibited",
    )
    TRACE_REFUSED = "trace_refused", 405, "TRACE would echo the credential", False, "http_request_denied"
    REQUEST_TIMEOUT = "request_timeout", 408, "The request did not arrive in time", True, "http_request_error"
    BODY_TOO_LARGE = "body_too_large", 413, "The request body is over its limit", False, "http_request_error"
    AUTHORITY_MISMATCH = "authority_mismatch", 421, "The request names two different hosts", False, "http_request_error"
    STALE_INTERCEPTION = "stale_interception", 421, "The managed set has changed", True, "http_request_error"
    RATE_LIMITED = "rate_limited", 429, "A request limit is reached", True, "http_request_denied"
    HEAD_TOO_LARGE = "head_too_large", 431, "The request head is over its limit", False, "http_request_error"
    CREDENTIAL_UNAVAILABLE = (
        "credential_unavailable",
        502,
        "No credential can be had for this route",
        False,
        "proxy_configuration_error",
    )
    UPSTREAM_UNREACHABLE = (
        "upstream_unreachable",
        502,
        "The destination cannot be reached",
        True,
        "destination_unavailable",
    )
    UPSTREAM_PROTOCOL_ERROR = (
        "upstream_protocol_error",
        502,
        "The destination broke the HTTP protocol",
        False,
        "http_protocol_error",
    )
    CREDENTIAL_TEMPORARILY_UNAVAILABLE = (
        "credential_temporarily_unavailable",
        503,
        "The credential cannot be had at the moment",
        True,
        "proxy_internal_response",
    )
    PLAN_UNAVAILABLE = "plan_unavailable", 503, "No plan is loaded for this sandbox", True, "proxy_internal_response"
    DRAINING = "draining", 503, "The gateway is going away", True, "proxy_internal_response"
    OVERLOADED = "overloaded", 503, "The gateway is at a limit", True, "proxy_internal_response"
    UPSTREAM_TIMEOUT = "upstream_timeout", 504, "The destination did not answer in time", True, "http_response_timeout"
    HTTP_VERSION = "http_version", 505, "The HTTP version is not supported", False, "http_request_error"


class AuditCode(Enum):
    """Reasons that only the audit log shows: the peer sees a TLS alert or a reset, never an answer."""

    AUTHORITY_WITHDRAWN = "authority_withdrawn"
    HTTP2_UNSUPPORTED = "http2_unsupported"
    SNI_MISMATCH = "sni_mismatch"

    @property
    def wire(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One refusal, ready to be written as problem+json (RFC 9457).

    `detail` and `hint` reach the sandbox: no address, cause or secret may stand in them.
    `retry_after_seconds` is for the Retry-After header and not part of the document.
    """

    code: Code
    detail: str
    request_id: str = ""
    egress_rule_id: str | None = None
    nearest: Mapping[str, object] | None = None
    hint: str | None = None
    retry_after_seconds: int | None = None

    def to_json(self) -> bytes:
        """Return the document as ASCII JSON: same problem, same bytes, whatever the strings hold."""
        code = self.code
        document: dict[str, object] = {
            "type": f"urn:sallyport:error:{code.wire}",
            "title": code.title,
            "status": code.status,
            "code": code.wire,
            "detail": self.detail,
            "requestId": self.request_id,
            "retryable": code.retryable,
        }
        if self.egress_rule_id is not None:
            document["egressRuleId"] = self.egress_rule_id
        if self.nearest is not None:
            document["nearest"] = self.nearest
        if self.hint is not None:
            document["hint"] = self.hint
        # ASCII escapes keep lone surrogates and line separators harmless in every reader.
        return json.dumps(document, separators=(",", ":"), default=_plain).encode("ascii")


def proxy_status(code: Code) -> str:
    """Return the Proxy-Status field value of an answer we made (RFC 9209)."""
    return f'sallyport; error={code.proxy_error}; details="{code.wire}"'


def _plain(value: object) -> object:
    """Turn what json does not know into what it does: an error answer never fails on its own content."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    return str(value)
