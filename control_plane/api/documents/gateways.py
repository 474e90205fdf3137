"""What a gateway asks for: credentials, tokens, authorities, where sandboxes are."""

from typing import Literal

from sallyport.plan.fields import Model


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
