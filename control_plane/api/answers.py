"""What is answered, as OpenAPI tells it: one row for each path and method. A test holds the rows against the paths."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from control_plane.api.documents.feed import (
    Admitted,
    ClientFeed,
    ClientKeyMade,
    ClientKeyShown,
    InstallationShown,
    InstanceShown,
    PushSubscriberShown,
    SharedToolShown,
)
from control_plane.api.documents.gateways import (
    AuthorityShown,
    Gateways,
    LeaseTaken,
    Placement,
    SessionResolved,
    TokensRenewed,
    ValueResolved,
)
from control_plane.api.documents.integrations import (
    AuthorizationBegun,
    ConnectionShown,
    FormShown,
    ResolutionShown,
    TargetShown,
)
from control_plane.api.documents.problems import Page
from control_plane.api.documents.sandboxes import (
    BindingsShown,
    Compiled,
    DenialsShown,
    Findings,
    PlanAccepted,
    PlanDocument,
    PlanListed,
    ProfileShown,
    RevocationShown,
    SandboxShown,
    Simulated,
    TokenMinted,
    VersionShown,
)
from control_plane.api.documents.service import ApiKeyMade, ApiKeyShown, Health, KeySet, Readiness
from control_plane.api.documents.webhooks import (
    WebhookDeliveryShown,
    WebhookEndpointShown,
    WebhookEventShown,
    WebhookSubscriptionShown,
    WebhookTaken,
)
from control_plane.api.documents.workers import Declared, WorkerShown, WorkerTaken
from control_plane.authorizations import OAUTH_CALLBACK, REDIRECT_CALLBACK
from control_plane.callers import CLIENT_FEED
from control_plane.refusals import ControlCode


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
