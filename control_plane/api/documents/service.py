"""Who may call, and how the service is."""

from typing import Literal

from control_plane.callers import Role
from sallyport.plan.fields import Model


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
