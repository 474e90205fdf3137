"""What is answered, as OpenAPI tells it: one row for each path and method. A test holds the rows against the paths.

Answers are made by the logic as plain documents; these models only describe them, and are never in the way of one.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import Field, JsonValue

from control_plane.authorizations import OAUTH_CALLBACK, REDIRECT_CALLBACK
from control_plane.callers import CLIENT_FEED, Role
from control_plane.definitions.contract import Kind, MethodKind
from control_plane.denials import Denial
from control_plane.feed.tiers import Tier
from control_plane.refusals import ControlCode
from sallyport.plan.fields import Model
from sallyport.plan.model import Egress
from sallyport.plan.workload import Image

# A plan is told by docs/runtime-plan.md; its schema would be larger than all the others.
PlanDocument = dict[str, JsonValue]
# What explaining and comparing find is told by docs/compiling.md.
Findings = dict[str, JsonValue]


class Issue(Model):
    """One thing wrong: a code, where (a pointer into the body, or a parameter's name), a sentence."""

    code: str
    pointer: str
    message: str


class Problem(Model):
    """RFC 9457."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str
    retryable: bool
    issues: list[Issue] | None = None


class Page[T](Model):
    """Items by id; nextCursor is absent on the last page."""

    items: list[T]
    next_cursor: str | None = None


class PlanShown(Model):
    """The plan in force."""

    revision: int
    digest: str


class SandboxShown(Model):
    """A sandbox."""

    sandbox_id: str
    organization_id: str
    sandbox_profile_id: str | None = None
    version: int | None = None
    status: Literal["active"]
    created_at: int
    plan: PlanShown | None = None
    compile_issues: list[Issue] | None = None


class ProfileShown(Model):
    """A sandbox profile; latestVersion is absent while it has none."""

    sandbox_profile_id: str
    organization_id: str
    display_name: str | None = None
    created_at: int
    latest_version: int | None = None


class VersionShown(Model):
    """One version of a profile."""

    sandbox_profile_id: str
    version: int
    image: Image | None = None
    egress: Egress | None = None
    created_at: int


class PlanAccepted(Model):
    """A plan that was taken in, or put in force."""

    sandbox_id: str
    revision: int
    digest: str


class PlanListed(Model):
    """One revision of a sandbox's plan."""

    revision: int
    digest: str
    created_at: int


class TokenMinted(Model):
    """A token; a tunnel's comes with one that renews it."""

    token: str
    expires_at: int
    renewal_token: str | None = None
    renewal_expires_at: int | None = None


class BindingShown(Model):
    """A connection as a version of a profile uses it."""

    binding_id: str
    connection_id: str
    kind: Kind
    config: dict[str, JsonValue]
    created_at: int
    updated_at: int


class BindingsShown(Model):
    """All bindings of a version; `revision` counts their edits."""

    sandbox_profile_id: str
    version: int
    revision: int
    bindings: list[BindingShown]


class Compiled(Model):
    """What bindings compile to, and whether it was put in force for a sandbox that was named."""

    plan: PlanDocument
    sandbox_id: str | None = None
    revision: int | None = None
    digest: str | None = None
    changed: bool | None = None


class Simulated(Model):
    """What would become of recorded requests, those that change first."""

    items: list[Findings]
    changed: int


class RevocationShown(Model):
    """What is out of service, and until when."""

    kind: str
    id: str
    until: int


class CredentialShown(Model):
    """A credential, never its value."""

    secret_type: str
    slot_key: str | None = None
    version: str
    updated_at: int
    expires_at: int | None = None


class ConnectionShown(Model):
    """A connection; type and slot stand at the top where it has one credential."""

    connection_id: str
    target_key: str
    organization_id: str
    status: Literal["active", "error", "revoked"]
    method: MethodKind
    revision: int
    display_name: str | None = None
    error: str | None = None
    config: dict[str, JsonValue] | None = None
    secret_type: str | None = None
    slot_key: str | None = None
    credentials: list[CredentialShown]
    created_at: int
    updated_at: int


class ResolutionShown(Model):
    """A request for a credential of a connection; `result` is `ok`, or the code of the refusal."""

    resolution_id: int
    at: int
    result: str
    caller: str
    sandbox_id: str
    plan_revision: int
    egress_rule_id: str
    binding_id: str
    secret_type: str
    slot_key: str | None = None
    credential_version: str | None = None


class AuthorizationBegun(Model):
    """Where a member is sent, and how long the way back is open."""

    authorization_url: str
    state: str
    expires_at: int


class ApiKeyShown(Model):
    """What is known of an API key."""

    api_key_id: str
    role: Role
    organization_id: str | None = None
    display_name: str | None = None
    expires_at: int | None = None
    revoked_at: int | None = None
    last_used_at: int | None = None
    created_by: str
    created_at: int


class ApiKeyMade(ApiKeyShown):
    """An API key, shown this once."""

    key: str


class SecretFieldShown(Model):
    """A secret that a member types in."""

    secret_type: str
    label: str
    help: str | None = None
    pattern: str | None = None
    required: bool


class MethodShown(Model):
    """A way to connect."""

    kind: MethodKind
    label: str
    secret_type: str
    secrets: list[SecretFieldShown]


class WebhookSourceShown(Model):
    """Where a provider's events come from."""

    ownership: Literal["target", "connection"]
    routing: Literal["path", "payload"]
    registration: Literal["implicit", "managed"]
    event_types: list[str]
    describe: str


class TargetHealth(Model):
    """How a target does; issues are for operators."""

    status: Literal["healthy", "degraded", "unhealthy", "disabled"]
    issues: list[Issue] | None = None


class TargetSecretShown(Model):
    """Whether a secret is set."""

    name: str
    is_set: bool
    updated_at: int | None = None


class Schemas(Model):
    """JSON Schemas of what is configured."""

    target: dict[str, JsonValue]
    secret: dict[str, JsonValue]
    connection: dict[str, JsonValue]
    binding: dict[str, JsonValue]


class Overrides(Model):
    """What the operator calls it instead."""

    display_name: str | None = None
    description: str | None = None
    logo_key: str | None = None


class TargetShown(Model):
    """A target; overrides and secrets are for operators. What only a definition tells is absent where it is gone."""

    target_key: str
    family_id: str
    variant_id: str
    enabled: bool
    display_name: str
    description: str | None = None
    logo_key: str | None = None
    config: dict[str, JsonValue]
    revision: int
    kind: Kind | None = None
    connection_methods: list[MethodShown] | None = None
    schemas: Schemas | None = None
    webhook_source: WebhookSourceShown | None = None
    target_health: TargetHealth
    overrides: Overrides | None = None
    secrets: list[TargetSecretShown] | None = None
    created_at: int
    updated_at: int


class FieldShown(Model):
    """How one member of a schema is shown."""

    name: str
    label: str
    widget: Literal["text", "password", "textarea", "select", "checkbox", "list", "number"]
    help: str | None = None
    choices: list[str] | None = None
    hidden: bool | None = None


class FormShown(Model):
    """What is valid, and how it is shown."""

    schema_: Annotated[dict[str, JsonValue], Field(alias="schema")]
    fields: list[FieldShown]


class SessionResolved(Model):
    """Temporary keys of AWS for a gateway."""

    kind: Literal["aws_session"]
    access_key_id: str
    secret_access_key: str
    session_token: str | None = None
    expires_at: int | None = None
    version: str


class ValueResolved(Model):
    """A credential for a gateway."""

    kind: Literal["value"]
    value: str
    version: str
    expires_at: int | None = None


class TokensRenewed(Model):
    """A tunnel token and what renews it."""

    request_id: str
    token: str
    expires_at: int
    renewal_token: str
    renewal_expires_at: int


class AuthorityShown(Model):
    """A sandbox's interception CA with its key."""

    certificate_pem: str
    private_key_pem: str
    not_after: int


class GatewayPlaced(Model):
    """A gateway that holds a sandbox."""

    id: str
    admin_url: str
    tunnel: bool
    revision: int | None = None


class Placement(Model):
    """The gateways that hold a sandbox."""

    gateways: list[GatewayPlaced]


class DenialShown(Denial):
    """An answer that a gateway made instead of the destination, and why."""

    gateway_id: str


class GatewayAsked(Model):
    """Whether a gateway has told its denials."""

    id: str
    state: Literal["asked", "away", "not_asked"]
    reason: str | None = None


class DenialsShown(Model):
    """The newest denials of a sandbox after a cursor, the oldest first."""

    items: list[DenialShown]
    next_cursor: str
    gateways: list[GatewayAsked]


class LeaseTaken(Model):
    """How long a report is believed, and which of its tunnels are older than another gateway's."""

    expires_in_seconds: int
    superseded: list[str]


class SandboxHeld(Model):
    """A sandbox that a gateway holds."""

    sandbox_id: str
    tunnel: bool
    tunnel_epoch: int | None = None


class GatewayShown(Model):
    """A gateway that lives."""

    id: str
    epoch: int
    admin_url: str
    expires_at: int
    sandboxes: list[SandboxHeld]
    plan_revisions: dict[str, int]


class Gateways(Model):
    """Every gateway with a live lease."""

    items: list[GatewayShown]


class WorkerTaken(Model):
    """How long a worker's report is believed."""

    expires_in_seconds: int


class ServerDeclared(Model):
    """A server that is to be installed on a worker, as its install request has it."""

    server_id: str
    source: JsonValue
    tier: Literal["standard", "admin"]
    desired: Literal["running", "stopped"]
    arguments: list[str]
    environment: dict[str, str]
    secrets: dict[str, JsonValue]


class Declared(Model):
    """What is to be installed on a worker."""

    servers: list[ServerDeclared]


class ServerShown(Model):
    """An integration server of a worker, as it was reported last."""

    server_id: str
    tier: str
    status: str
    tools: list[str]
    sandbox_id: str | None = None


class WorkerShown(Model):
    """A worker, and what it runs."""

    worker_id: str
    state: Literal["live", "lost", "withdrawn"]
    epoch: int
    api_url: str
    front_url: str | None = None
    expires_at: int
    servers: list[ServerShown]


class InstanceShown(Model):
    """An application whose clients read a feed."""

    instance_id: str
    organization_id: str
    display_name: str | None = None
    created_at: int


class ClientKeyShown(Model):
    """What is known of a client key."""

    client_key_id: str
    instance_id: str
    tier: Tier
    display_name: str | None = None
    revoked_at: int | None = None
    created_by: str
    created_at: int


class ClientKeyMade(ClientKeyShown):
    """A new client key, shown this once."""

    key: str


class _InstanceServerShown(Model):
    """A server as its worker reported it last; `pending`: it has not yet."""

    instance_id: str
    tool_id: str
    name: str
    tier: Tier
    worker_id: str
    desired: Literal["running", "stopped"]
    status: str
    issue: str | None = None
    created_at: int
    updated_at: int


class SharedToolShown(_InstanceServerShown):
    """A tool that all users of an instance share."""

    shared_tool_id: str


class InstallationShown(_InstanceServerShown):
    """A tool that one user has installed."""

    installation_id: str
    user_id: str


class FeedServer(Model):
    """Where a client calls a server."""

    type: Literal["streamable"]
    url: str


class ClientFeed(Model):
    """What a client may use, by name."""

    mcp_servers: dict[str, FeedServer]


class AdmittedServer(Model):
    """Where what is called is: at the worker that asks, or in a sandbox behind a gateway."""

    server_id: str
    sandbox_id: str | None = None
    admin_url: str | None = None


class Admitted(Model):
    """Who calls, and what; what is not there is absent."""

    key_id: str | None = None
    tier: Tier | None = None
    server: AdmittedServer | None = None


class Health(Model):
    """The process answers."""

    status: Literal["ok"]


class Readiness(Model):
    """Whether requests can be served."""

    status: Literal["ready", "not_ready"]
    reasons: list[str] | None = None
    integrations_left_out: list[str] | None = None


class KeySet(Model):
    """RFC 7517."""

    keys: list[dict[str, str]]


class WebhookEndpointShown(Model):
    """A URL that a provider sends events to."""

    endpoint_key: str
    url: str
    target_key: str
    connection_id: str | None = None
    describe: str | None = None
    event_types: list[str] | None = None
    created_at: int


class WebhookEventShown(Model):
    """An event that was taken in, without what its provider wrote."""

    event_id: str
    organization_id: str
    target_key: str
    connection_id: str
    type: str
    state: Literal["pending", "processed"]
    received_at: int


class WebhookSubscriptionShown(Model):
    """Who is told of events; `secret` only where it is a new one."""

    subscription_id: str
    sandbox_profile_id: str
    organization_id: str
    url: str
    event_types: list[str]
    enabled: bool
    secret: str | None = None
    created_at: int
    updated_at: int


class WebhookDeliveryShown(Model):
    """What became of one event at one subscriber."""

    event_id: str
    state: Literal["pending", "delivered", "failed"]
    attempts: int
    last_status: int | None = None
    last_error: str | None = None
    next_attempt_at: int | None = None
    given_up_at: int | None = None
    updated_at: int


class PushSubscriberShown(Model):
    """Who is told of changes of the feed; `secret` only where it is a new one."""

    push_subscriber_id: str
    source: Literal["api", "configuration"]
    organization_id: str | None = None
    instance_id: str | None = None
    url: str
    tier: Literal["standard", "admin"]
    events: list[str]
    enabled: bool
    failed_attempts: int
    last_status: int | None = None
    last_error: str | None = None
    secret: str | None = None
    created_at: int
    updated_at: int


class WebhookTaken(Model):
    """What became of an event; a provider's challenge is answered in its own form instead."""

    status: str


class Told(NamedTuple):
    """An answer that is no problem. `model` None: no body, or one of another media type."""

    status: int
    model: Any = None
    media_type: str = "application/json"
    also: tuple[int, ...] = ()


# An answer for people, who are refused by a page too.
PAGE: Final = "text/html"
_NOTHING: Final = Told(204)
_TARGETS: Final = "/v1/integration/targets"
_VERSION: Final = "/v1/sandbox/profiles/{profile_id}/versions/{version}"
_CONNECTIONS: Final = "/v1/integration/connections"
_ENDPOINTS: Final = "/v1/integration/webhook-endpoints"
_SUBSCRIPTIONS: Final = "/v1/sandbox/profiles/{profile_id}/webhook-subscriptions"
_KEYS: Final = "/api/auth/keys"
_SHARED: Final = "/api/shared-tools"
_INSTALLATIONS: Final = "/api/installations"
_SUBSCRIPTION: Final = f"{_SUBSCRIPTIONS}/{{subscription_id}}"

TOLD: Final[Mapping[tuple[str, str], Told]] = {
    ("GET", "/healthz"): Told(200, Health),
    ("GET", "/readyz"): Told(200, Readiness, also=(503,)),
    ("GET", "/.well-known/jwks.json"): Told(200, KeySet),
    ("GET", OAUTH_CALLBACK): Told(200, media_type=PAGE),
    ("GET", REDIRECT_CALLBACK): Told(200, media_type=PAGE),
    ("POST", "/v1/api-keys"): Told(201, ApiKeyMade),
    ("GET", "/v1/api-keys"): Told(200, Page[ApiKeyShown]),
    ("GET", "/v1/api-keys/{key_id}"): Told(200, ApiKeyShown),
    ("DELETE", "/v1/api-keys/{key_id}"): _NOTHING,
    ("POST", "/v1/sandbox/profiles"): Told(201, ProfileShown),
    ("GET", "/v1/sandbox/profiles"): Told(200, Page[ProfileShown]),
    ("GET", "/v1/sandbox/profiles/{profile_id}"): Told(200, ProfileShown),
    ("POST", "/v1/sandbox/profiles/{profile_id}/versions"): Told(201, VersionShown),
    ("GET", "/v1/sandbox/profiles/{profile_id}/versions/{version}"): Told(200, VersionShown),
    ("GET", f"{_VERSION}/integration-bindings"): Told(200, BindingsShown),
    ("PUT", f"{_VERSION}/integration-bindings"): Told(200, BindingsShown),
    ("POST", f"{_VERSION}/compile"): Told(200, Compiled),
    ("GET", f"{_VERSION}/explain"): Told(200, Findings),
    ("POST", f"{_VERSION}/diff"): Told(200, Findings),
    ("POST", f"{_VERSION}/simulate"): Told(200, Simulated),
    ("POST", "/p/integration/webhooks/{endpoint_key}"): Told(200, WebhookTaken, also=(202,)),
    ("POST", _ENDPOINTS): Told(201, WebhookEndpointShown),
    ("GET", _ENDPOINTS): Told(200, Page[WebhookEndpointShown]),
    ("GET", f"{_ENDPOINTS}/{{endpoint_key}}"): Told(200, WebhookEndpointShown),
    ("DELETE", f"{_ENDPOINTS}/{{endpoint_key}}"): _NOTHING,
    ("GET", "/v1/integration/webhook-events"): Told(200, Page[WebhookEventShown]),
    ("POST", _SUBSCRIPTIONS): Told(201, WebhookSubscriptionShown),
    ("GET", _SUBSCRIPTIONS): Told(200, Page[WebhookSubscriptionShown]),
    ("GET", _SUBSCRIPTION): Told(200, WebhookSubscriptionShown),
    ("PATCH", _SUBSCRIPTION): Told(200, WebhookSubscriptionShown),
    ("DELETE", _SUBSCRIPTION): _NOTHING,
    ("GET", f"{_SUBSCRIPTION}/deliveries"): Told(200, Page[WebhookDeliveryShown]),
    ("POST", f"{_SUBSCRIPTION}/deliveries/{{event_id}}/redeliver"): Told(202, WebhookDeliveryShown),
    ("POST", "/v1/sandboxes"): Told(201, SandboxShown),
    ("GET", "/v1/sandboxes"): Told(200, Page[SandboxShown]),
    ("GET", "/v1/sandboxes/{sandbox_id}"): Told(200, SandboxShown),
    ("DELETE", "/v1/sandboxes/{sandbox_id}"): _NOTHING,
    ("GET", "/v1/sandboxes/{sandbox_id}/denials"): Told(200, DenialsShown),
    ("POST", "/v1/sandboxes/{sandbox_id}/plans"): Told(201, PlanAccepted, also=(200,)),
    ("GET", "/v1/sandboxes/{sandbox_id}/plans"): Told(200, Page[PlanListed]),
    ("GET", "/v1/sandboxes/{sandbox_id}/plans/{revision}"): Told(200, PlanDocument),
    ("POST", "/v1/sandboxes/{sandbox_id}/tokens"): Told(201, TokenMinted),
    ("GET", "/v1/sandboxes/{sandbox_id}/ca.pem"): Told(200, media_type="application/x-pem-file"),
    ("POST", "/v1/revocations"): Told(201, RevocationShown),
    ("GET", _TARGETS): Told(200, Page[TargetShown]),
    ("POST", _TARGETS): Told(201, TargetShown),
    ("GET", f"{_TARGETS}/{{target_key}}"): Told(200, TargetShown),
    ("PATCH", f"{_TARGETS}/{{target_key}}"): Told(200, TargetShown),
    ("DELETE", f"{_TARGETS}/{{target_key}}"): _NOTHING,
    ("PUT", f"{_TARGETS}/{{target_key}}/secrets"): Told(200, TargetShown),
    ("GET", f"{_TARGETS}/{{target_key}}/forms/target"): Told(200, FormShown),
    ("GET", f"{_TARGETS}/{{target_key}}/forms/secret"): Told(200, FormShown),
    ("GET", f"{_TARGETS}/{{target_key}}/forms/binding"): Told(200, FormShown),
    ("GET", f"{_TARGETS}/{{target_key}}/forms/connection"): Told(200, FormShown),
    ("POST", f"{_CONNECTIONS}/{{target_key}}/api-key"): Told(201, ConnectionShown),
    ("POST", f"{_CONNECTIONS}/{{target_key}}/oauth2/client-credentials"): Told(201, ConnectionShown),
    ("POST", f"{_CONNECTIONS}/{{target_key}}/oauth2/start"): Told(200, AuthorizationBegun),
    ("POST", f"{_CONNECTIONS}/{{target_key}}/oauth2/complete"): Told(200, ConnectionShown),
    ("POST", f"{_CONNECTIONS}/{{target_key}}/redirect/start"): Told(200, AuthorizationBegun),
    ("POST", f"{_CONNECTIONS}/{{target_key}}/redirect/complete"): Told(200, ConnectionShown),
    ("PUT", f"{_CONNECTIONS}/{{connection_id}}/api-key"): Told(200, ConnectionShown),
    ("GET", _CONNECTIONS): Told(200, Page[ConnectionShown]),
    ("GET", f"{_CONNECTIONS}/{{connection_id}}"): Told(200, ConnectionShown),
    ("GET", f"{_CONNECTIONS}/{{connection_id}}/resolutions"): Told(200, Page[ResolutionShown]),
    ("PATCH", f"{_CONNECTIONS}/{{connection_id}}"): Told(200, ConnectionShown),
    ("DELETE", f"{_CONNECTIONS}/{{connection_id}}"): _NOTHING,
    ("POST", "/internal/integration-credentials/resolve"): Told(200, ValueResolved | SessionResolved),
    ("POST", "/internal/sandboxes/{sandbox_id}/tokens"): Told(200, TokensRenewed),
    ("GET", "/internal/sandboxes/{sandbox_id}/plan"): Told(200, PlanDocument, also=(304,)),
    ("PUT", "/internal/sandboxes/{sandbox_id}/plan"): Told(200, PlanAccepted),
    ("GET", "/internal/sandboxes/{sandbox_id}/interception-ca"): Told(200, AuthorityShown),
    ("GET", "/internal/sandboxes/{sandbox_id}/placement"): Told(200, Placement),
    ("PUT", "/internal/gateways/{gateway_id}/lease"): Told(200, LeaseTaken),
    ("GET", "/internal/gateways"): Told(200, Gateways),
    ("GET", CLIENT_FEED): Told(200, ClientFeed, also=(304,)),
    ("POST", "/api/instances"): Told(201, InstanceShown),
    ("GET", "/api/instances"): Told(200, Page[InstanceShown]),
    ("GET", "/api/instances/{instance_id}"): Told(200, InstanceShown),
    ("DELETE", "/api/instances/{instance_id}"): _NOTHING,
    ("POST", _KEYS): Told(201, ClientKeyMade),
    ("GET", _KEYS): Told(200, Page[ClientKeyShown]),
    ("GET", f"{_KEYS}/{{client_key_id}}"): Told(200, ClientKeyShown),
    ("DELETE", f"{_KEYS}/{{client_key_id}}"): _NOTHING,
    ("POST", _SHARED): Told(201, SharedToolShown, also=(202,)),
    ("GET", _SHARED): Told(200, Page[SharedToolShown]),
    ("GET", f"{_SHARED}/{{shared_tool_id}}"): Told(200, SharedToolShown),
    ("DELETE", f"{_SHARED}/{{shared_tool_id}}"): _NOTHING,
    ("POST", f"{_SHARED}/{{shared_tool_id}}/start"): Told(200, SharedToolShown),
    ("POST", f"{_SHARED}/{{shared_tool_id}}/stop"): Told(200, SharedToolShown),
    ("POST", _INSTALLATIONS): Told(201, InstallationShown, also=(202,)),
    ("GET", _INSTALLATIONS): Told(200, Page[InstallationShown]),
    ("GET", f"{_INSTALLATIONS}/{{installation_id}}"): Told(200, InstallationShown),
    ("DELETE", f"{_INSTALLATIONS}/{{installation_id}}"): _NOTHING,
    ("POST", "/internal/v1/workers/{worker_id}/admit"): Told(200, Admitted),
    ("GET", "/internal/plans/watch"): Told(200, media_type="text/event-stream"),
    ("PUT", "/internal/v1/workers/{worker_id}"): Told(200, WorkerTaken),
    ("DELETE", "/internal/v1/workers/{worker_id}"): _NOTHING,
    ("GET", "/internal/v1/workers/{worker_id}/declared"): Told(200, Declared),
    ("GET", "/api/workers"): Told(200, Page[WorkerShown]),
    ("DELETE", "/api/workers/{worker_id}"): _NOTHING,
    ("POST", "/api/push-subscribers"): Told(201, PushSubscriberShown),
    ("GET", "/api/push-subscribers"): Told(200, Page[PushSubscriberShown]),
    ("GET", "/api/push-subscribers/{push_subscriber_id}"): Told(200, PushSubscriberShown),
    ("PATCH", "/api/push-subscribers/{push_subscriber_id}"): Told(200, PushSubscriberShown),
    ("DELETE", "/api/push-subscribers/{push_subscriber_id}"): _NOTHING,
}

CODES: Final = sorted({code.wire for code in ControlCode})
