"""Who calls, and what each may do: the one table of paths and roles (docs/control-plane.md tells it in words)."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """What a caller is: who runs this environment, who uses it within one organization, or a part of it."""

    OPERATOR = "operator"
    MEMBER = "member"
    SERVICE = "service"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """An authenticated caller. A member has an organization and is bound to it; whoever has none is bound to none.

    The holder of a client key, for whom the built-in server asks, is bound to the key's instance too.
    `id` names it in records: `service:NAME`, or the id of an API key. `expires_at` None: it does not end by itself.
    """

    id: str
    roles: frozenset[Role]
    organization_id: str | None = None
    instance_id: str | None = None
    expires_at: int | None = None

    @property
    def is_service(self) -> bool:
        """Whether it is a part of the environment, whose requests sandboxes cause."""
        return Role.SERVICE in self.roles

    @property
    def is_operator(self) -> bool:
        """Whether it sees what only operators see."""
        return Role.OPERATOR in self.roles


_OPERATOR: Final = frozenset({Role.OPERATOR})
_MEMBER: Final = frozenset({Role.OPERATOR, Role.MEMBER})
_SERVICE: Final = frozenset({Role.SERVICE})

# The one path for whoever has a client key, which is no caller's.
CLIENT_FEED: Final = "/api/integrations/client"
# Who may ask for what. A path that is not here is answered to nobody.
_SUBSCRIPTION: Final = "/v1/sandbox/profiles/{profile_id}/webhook-subscriptions/{subscription_id}"

PERMISSIONS: Final[Mapping[tuple[str, str], frozenset[Role]]] = {
    ("POST", "/v1/api-keys"): _OPERATOR,
    ("GET", "/v1/api-keys"): _OPERATOR,
    ("GET", "/v1/api-keys/{key_id}"): _OPERATOR,
    ("DELETE", "/v1/api-keys/{key_id}"): _OPERATOR,
    ("POST", "/v1/sandbox/profiles"): _MEMBER,
    ("GET", "/v1/sandbox/profiles"): _MEMBER,
    ("GET", "/v1/sandbox/profiles/{profile_id}"): _MEMBER,
    ("POST", "/v1/sandbox/profiles/{profile_id}/versions"): _MEMBER,
    ("GET", "/v1/sandbox/profiles/{profile_id}/versions/{version}"): _MEMBER,
    ("GET", "/v1/sandbox/profiles/{profile_id}/versions/{version}/integration-bindings"): _MEMBER,
    ("PUT", "/v1/sandbox/profiles/{profile_id}/versions/{version}/integration-bindings"): _MEMBER,
    ("POST", "/v1/sandbox/profiles/{profile_id}/versions/{version}/compile"): _MEMBER,
    ("GET", "/v1/sandbox/profiles/{profile_id}/versions/{version}/explain"): _MEMBER,
    ("POST", "/v1/sandbox/profiles/{profile_id}/versions/{version}/diff"): _MEMBER,
    ("POST", "/v1/sandbox/profiles/{profile_id}/versions/{version}/simulate"): _MEMBER,
    ("POST", "/v1/integration/webhook-endpoints"): _MEMBER,
    ("GET", "/v1/integration/webhook-endpoints"): _MEMBER,
    ("GET", "/v1/integration/webhook-endpoints/{endpoint_key}"): _MEMBER,
    ("DELETE", "/v1/integration/webhook-endpoints/{endpoint_key}"): _MEMBER,
    ("GET", "/v1/integration/webhook-events"): _MEMBER,
    ("POST", "/v1/sandbox/profiles/{profile_id}/webhook-subscriptions"): _MEMBER,
    ("GET", "/v1/sandbox/profiles/{profile_id}/webhook-subscriptions"): _MEMBER,
    ("GET", _SUBSCRIPTION): _MEMBER,
    ("PATCH", _SUBSCRIPTION): _MEMBER,
    ("DELETE", _SUBSCRIPTION): _MEMBER,
    ("GET", f"{_SUBSCRIPTION}/deliveries"): _MEMBER,
    (
        "POST",
        f"{_SUBSCRIPTION}/deliveries/{{event_id}}/redeliver",
    ): _MEMBER,
    ("POST", "/v1/sandboxes"): _MEMBER,
    ("GET", "/v1/sandboxes"): _MEMBER,
    ("GET", "/v1/sandboxes/{sandbox_id}"): _MEMBER,
    ("DELETE", "/v1/sandboxes/{sandbox_id}"): _MEMBER,
    ("GET", "/v1/sandboxes/{sandbox_id}/denials"): _MEMBER,
    # A plan written by hand sends credentials where its writer likes; members have theirs compiled from bindings.
    ("POST", "/v1/sandboxes/{sandbox_id}/plans"): _OPERATOR,
    ("GET", "/v1/sandboxes/{sandbox_id}/plans"): _MEMBER,
    ("GET", "/v1/sandboxes/{sandbox_id}/plans/{revision}"): _MEMBER,
    ("POST", "/v1/sandboxes/{sandbox_id}/tokens"): _MEMBER,
    ("GET", "/v1/sandboxes/{sandbox_id}/ca.pem"): _MEMBER,
    # It names anything by its id, of any organization.
    ("POST", "/v1/revocations"): _OPERATOR,
    ("GET", "/v1/integration/targets"): _MEMBER,
    ("POST", "/v1/integration/targets"): _OPERATOR,
    ("GET", "/v1/integration/targets/{target_key}"): _MEMBER,
    ("PATCH", "/v1/integration/targets/{target_key}"): _OPERATOR,
    ("DELETE", "/v1/integration/targets/{target_key}"): _OPERATOR,
    ("PUT", "/v1/integration/targets/{target_key}/secrets"): _OPERATOR,
    ("GET", "/v1/integration/targets/{target_key}/forms/target"): _OPERATOR,
    ("GET", "/v1/integration/targets/{target_key}/forms/secret"): _OPERATOR,
    ("GET", "/v1/integration/targets/{target_key}/forms/binding"): _MEMBER,
    ("GET", "/v1/integration/targets/{target_key}/forms/connection"): _MEMBER,
    ("POST", "/v1/integration/connections/{target_key}/api-key"): _MEMBER,
    ("POST", "/v1/integration/connections/{target_key}/oauth2/client-credentials"): _MEMBER,
    ("POST", "/v1/integration/connections/{target_key}/oauth2/start"): _MEMBER,
    ("POST", "/v1/integration/connections/{target_key}/oauth2/complete"): _MEMBER,
    ("POST", "/v1/integration/connections/{target_key}/redirect/start"): _MEMBER,
    ("POST", "/v1/integration/connections/{target_key}/redirect/complete"): _MEMBER,
    ("PUT", "/v1/integration/connections/{connection_id}/api-key"): _MEMBER,
    ("GET", "/v1/integration/connections"): _MEMBER,
    ("GET", "/v1/integration/connections/{connection_id}"): _MEMBER,
    ("GET", "/v1/integration/connections/{connection_id}/resolutions"): _MEMBER,
    ("PATCH", "/v1/integration/connections/{connection_id}"): _MEMBER,
    ("DELETE", "/v1/integration/connections/{connection_id}"): _MEMBER,
    ("POST", "/internal/integration-credentials/resolve"): _SERVICE,
    ("POST", "/internal/sandboxes/{sandbox_id}/tokens"): _SERVICE,
    ("GET", "/internal/sandboxes/{sandbox_id}/plan"): _SERVICE,
    ("PUT", "/internal/sandboxes/{sandbox_id}/plan"): _SERVICE,
    ("GET", "/internal/sandboxes/{sandbox_id}/interception-ca"): _SERVICE,
    ("GET", "/internal/sandboxes/{sandbox_id}/placement"): _SERVICE,
    ("PUT", "/internal/gateways/{gateway_id}/lease"): _SERVICE,
    ("GET", "/internal/gateways"): _SERVICE,
    ("GET", "/internal/plans/watch"): _SERVICE,
    ("PUT", "/internal/v1/workers/{worker_id}"): _SERVICE,
    ("DELETE", "/internal/v1/workers/{worker_id}"): _SERVICE,
    ("GET", "/internal/v1/workers/{worker_id}/declared"): _SERVICE,
    # What runs on a worker may be any organization's.
    ("GET", "/api/workers"): _OPERATOR,
    ("DELETE", "/api/workers/{worker_id}"): _OPERATOR,
    ("POST", "/internal/v1/workers/{worker_id}/admit"): _SERVICE,
    ("POST", "/api/instances"): _MEMBER,
    ("GET", "/api/instances"): _MEMBER,
    ("GET", "/api/instances/{instance_id}"): _MEMBER,
    ("DELETE", "/api/instances/{instance_id}"): _MEMBER,
    # Those of the tier admin are for operators, and seen by them alone.
    ("POST", "/api/auth/keys"): _MEMBER,
    ("GET", "/api/auth/keys"): _MEMBER,
    ("GET", "/api/auth/keys/{client_key_id}"): _MEMBER,
    ("DELETE", "/api/auth/keys/{client_key_id}"): _MEMBER,
    # What is installed runs on a worker, with what the worker may read.
    ("POST", "/api/shared-tools"): _OPERATOR,
    ("GET", "/api/shared-tools"): _MEMBER,
    ("GET", "/api/shared-tools/{shared_tool_id}"): _MEMBER,
    ("DELETE", "/api/shared-tools/{shared_tool_id}"): _OPERATOR,
    ("POST", "/api/shared-tools/{shared_tool_id}/start"): _OPERATOR,
    ("POST", "/api/shared-tools/{shared_tool_id}/stop"): _OPERATOR,
    ("POST", "/api/installations"): _OPERATOR,
    ("GET", "/api/installations"): _MEMBER,
    ("GET", "/api/installations/{installation_id}"): _MEMBER,
    ("DELETE", "/api/installations/{installation_id}"): _OPERATOR,
    ("POST", "/api/push-subscribers"): _MEMBER,
    ("GET", "/api/push-subscribers"): _MEMBER,
    ("GET", "/api/push-subscribers/{push_subscriber_id}"): _MEMBER,
    ("PATCH", "/api/push-subscribers/{push_subscriber_id}"): _MEMBER,
    ("DELETE", "/api/push-subscribers/{push_subscriber_id}"): _MEMBER,
}


def may(caller: Caller, method: str, path: str) -> bool:
    """Say whether a caller may ask for a method of a path as the application names it."""
    return not caller.roles.isdisjoint(PERMISSIONS.get((method, path), frozenset()))
