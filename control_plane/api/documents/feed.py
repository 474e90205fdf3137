"""Instances with their keys, what they have installed, and what their clients are told."""

from typing import Literal

from control_plane.feed.tiers import Tier
from sallyport.plan.fields import Model


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
