"""What the control plane refuses, and how it says so (contracts sections 4 and 9; docs/control-plane.md lists them).

The logic raises `Refused`; the API turns it into a problem document. Neither text holds a secret.
"""

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple


class ControlCode(Enum):
    """One kind of refusal: its word on the wire, its status, its title, whether asking again may help."""

    wire: str
    status: int
    title: str
    retryable: bool

    def __new__(cls, wire: str, status: int, title: str, retryable: bool = False) -> "ControlCode":
        code = object.__new__(cls)
        code._value_ = code.wire = wire
        code.status = status
        code.title = title
        code.retryable = retryable
        return code

    INVALID_REQUEST = "invalid_request", 400, "The request is malformed"
    UNAUTHORIZED = "unauthorized", 401, "A service token or API key for the control plane is required"
    SIGNATURE_REFUSED = "signature_refused", 401, "The webhook is not proved to be its provider's"
    FORBIDDEN = "forbidden", 403, "This caller may not ask this"
    BINDING_NOT_IN_PLAN = "binding_not_in_plan", 403, "The sandbox's current plan does not use this credential"
    RENEWAL_REFUSED = "renewal_refused", 403, "The renewal token is not accepted"
    NOT_FOUND = "not_found", 404, "There is nothing here"
    SANDBOX_NOT_FOUND = "sandbox_not_found", 404, "There is no such sandbox"
    PROFILE_NOT_FOUND = "profile_not_found", 404, "There is no such sandbox profile or version"
    PLAN_NOT_FOUND = "plan_not_found", 404, "There is no such plan"
    WEBHOOK_ENDPOINT_NOT_FOUND = "webhook_endpoint_not_found", 404, "There is no such webhook endpoint"
    WEBHOOK_SUBSCRIPTION_NOT_FOUND = "webhook_subscription_not_found", 404, "There is no such webhook subscription"
    WEBHOOK_EVENT_NOT_FOUND = "webhook_event_not_found", 404, "There is no such webhook event or delivery"
    TARGET_NOT_FOUND = "target_not_found", 404, "There is no such target"
    PUSH_SUBSCRIBER_NOT_FOUND = "push_subscriber_not_found", 404, "There is no such push subscriber"
    CONNECTION_NOT_FOUND = "connection_not_found", 404, "There is no such connection"
    WORKER_NOT_FOUND = "worker_not_found", 404, "There is no such worker"
    MCP_SERVER_NOT_FOUND = "mcp_server_not_found", 404, "The worker has no such MCP server, or knows no such source"
    INSTANCE_NOT_FOUND = "instance_not_found", 404, "There is no such instance"
    CLIENT_KEY_NOT_FOUND = "client_key_not_found", 404, "There is no such client key"
    API_KEY_NOT_FOUND = "api_key_not_found", 404, "There is no such API key"
    CREDENTIAL_NOT_FOUND = "credential_not_found", 404, "The connection has no such credential"
    RESOLVER_NOT_FOUND = "resolver_not_found", 404, "There is no such credential resolver"
    METHOD_NOT_ALLOWED = "method_not_allowed", 405, "This method is not for this resource"
    REQUEST_TIMEOUT = "request_timeout", 408, "The request did not arrive in time", True
    ALREADY_EXISTS = "already_exists", 409, "This id is taken"
    PLAN_CONFLICT = "plan_conflict", 409, "The plan may not replace the one in force"
    REQUEST_CONFLICT = "request_conflict", 409, "The request id was used for another request"
    REVISION_CONFLICT = "revision_conflict", 409, "It was changed by another meanwhile"
    REQUEST_IN_PROGRESS = "request_in_progress", 409, "The first request of this key is still being answered", True
    LEASE_CONFLICT = "lease_conflict", 409, "A newer process of this gateway or worker holds the lease"
    WORKER_LIVE = "worker_live", 409, "The worker lives"
    MCP_SERVER_CONFLICT = "mcp_server_conflict", 409, "The MCP server is not in a state for this"
    TARGET_DISABLED = "target_disabled", 409, "The target is not enabled"
    TARGET_NOT_READY = "target_not_ready", 409, "The target lacks what this needs"
    WEBHOOKS_NOT_OFFERED = "webhooks_not_offered", 409, "The integration sends no webhooks"
    PUSH_SUBSCRIBER_CONFIGURED = "push_subscriber_configured", 409, "The configuration names this push subscriber"
    LIMIT_REACHED = "limit_reached", 409, "There are as many of these as there may be"
    METHOD_NOT_OFFERED = "method_not_offered", 409, "The target has no such connection method"
    AUTHORIZATION_REFUSED = "authorization_refused", 409, "The provider did not authorise the connection"
    TARGET_IN_USE = "target_in_use", 409, "Connections use this target"
    INSTANCE_IN_USE = "instance_in_use", 409, "A worker runs something for this instance"
    CONNECTION_IN_USE = "connection_in_use", 409, "A binding or a current plan uses this connection"
    CONNECTION_NOT_ACTIVE = "connection_not_active", 409, "The connection is not active"
    AMBIGUOUS_CREDENTIAL = "ambiguous_credential", 409, "Several credentials answer to this description"
    REFRESH_FAILED_PERMANENT = "refresh_failed_permanent", 409, "The connection has to be authorised again"
    BODY_TOO_LARGE = "body_too_large", 413, "The request body is over its limit"
    INVALID_PLAN = "invalid_plan", 422, "The document is not a plan for this sandbox"
    INVALID_BINDINGS = "invalid_bindings", 422, "A binding does not fit what it leads to"
    NOT_COMPILABLE = "not_compilable", 422, "The bindings make no plan"
    MCP_SERVER_REFUSED = "mcp_server_refused", 422, "The worker refuses this MCP server"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict", 422, "The idempotency key was used for another request"
    RATE_LIMITED = "rate_limited", 429, "A request limit is reached", True
    INTERNAL_ERROR = "internal_error", 500, "The control plane failed", True
    MCP_SERVER_FAILED = "mcp_server_failed", 502, "The MCP server cannot be installed or does not run"
    OVERLOADED = "overloaded", 503, "The control plane is at a limit", True
    WEBHOOK_NOT_READY = "webhook_not_ready", 503, "The webhook endpoint lacks its signing secret", True
    WORKER_UNAVAILABLE = "worker_unavailable", 503, "No worker answers at the moment", True
    DATABASE_UNAVAILABLE = "database_unavailable", 503, "The database cannot be reached at the moment", True
    PROVIDER_UNAVAILABLE = "provider_unavailable", 503, "The provider does not answer at the moment", True
    REFRESH_FAILED_TEMPORARY = "refresh_failed_temporary", 503, "The credential cannot be refreshed at the moment", True


class FieldIssue(NamedTuple):
    """One thing wrong with a request: a word, an RFC 6901 pointer into the body (or a parameter's name), a sentence."""

    code: str
    pointer: str
    message: str


class Refused(Exception):
    """A request that is answered with a problem document."""

    def __init__(
        self,
        code: ControlCode,
        detail: str,
        *,
        issues: Sequence[FieldIssue] = (),
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(f"{code.wire}: {detail}")
        self.code = code
        self.detail = detail
        self.issues = tuple(issues)
        self.retry_after_seconds = retry_after_seconds


def sandbox_not_found() -> Refused:
    """Return the refusal of a sandbox that is not there, or no more."""
    return Refused(ControlCode.SANDBOX_NOT_FOUND, "it was never made, or was deleted")
