"""Targets, their forms and secrets, and connections."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from control_plane.api.documents.problems import Issue
from control_plane.definitions.contract import Kind, MethodKind
from sallyport.plan.fields import Model


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
