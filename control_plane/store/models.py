"""The tables, the same on SQLite and PostgreSQL. Instants are unix seconds; ids are text; ciphertexts are bytes.

A change here needs a migration; a test compares the two.
"""

from sqlalchemy import BigInteger, ForeignKey, ForeignKeyConstraint, Index, Integer, LargeBinary, MetaData, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# Without names of its own a database invents them, each another; migrations have to be able to name a constraint.
_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
# SQLite hands out row ids for a column of type INTEGER only, and there they have 64 bits.
_RowId = BigInteger().with_variant(Integer(), "sqlite")


class Model(DeclarativeBase):
    """What every table has in common."""

    metadata = MetaData(naming_convention=_NAMES)
    type_annotation_map = {str: Text(), int: BigInteger(), bytes: LargeBinary()}  # noqa: RUF012  SQLAlchemy's own shape


# --- sandboxes, profiles, plans ---------------------------------------------------------------------------------------


class Profile(Model):
    """A sandbox profile: what its sandboxes have in common."""

    __tablename__ = "profiles"
    id: Mapped[str] = mapped_column(primary_key=True)
    organization_id: Mapped[str] = mapped_column(index=True)
    display_name: Mapped[str | None]
    created_at: Mapped[int]


class ProfileVersion(Model):
    """One immutable version of a profile. image and egress are JSON as it came, absent where they were."""

    __tablename__ = "profile_versions"
    profile_id: Mapped[str] = mapped_column(ForeignKey("profiles.id"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    image: Mapped[str | None]
    egress: Mapped[str | None]
    # Counts the edits of its bindings, so that two that cross are noticed.
    bindings_revision: Mapped[int] = mapped_column(server_default="0")
    created_at: Mapped[int]


class Sandbox(Model):
    """A sandbox. One that was deleted keeps its row, so that nobody gets its id, its tokens or its plans."""

    __tablename__ = "sandboxes"
    __table_args__ = (Index(None, "organization_id", "id"),)
    id: Mapped[str] = mapped_column(primary_key=True)
    organization_id: Mapped[str]
    profile_id: Mapped[str | None]
    version: Mapped[int | None]
    created_at: Mapped[int]
    deleted_at: Mapped[int | None]
    # Of the current plan; the document is in `plans`.
    revision: Mapped[int | None]
    digest: Mapped[str | None]
    # Why the latest compilation made no plan (JSON, a list of issues); absent where it made one.
    compile_issues: Mapped[str | None]


class Plan(Model):
    """One revision of a sandbox's plan, byte for byte as it was accepted."""

    __tablename__ = "plans"
    sandbox_id: Mapped[str] = mapped_column(ForeignKey("sandboxes.id"), primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    digest: Mapped[str]
    document: Mapped[bytes]
    created_at: Mapped[int]


class PlanReference(Model):
    """One use of a credential by the current revision of a sandbox: what a resolution is checked against.

    Absent slot and resolver keys are empty texts, so that one comparison covers both.
    """

    __tablename__ = "plan_references"
    sandbox_id: Mapped[str] = mapped_column(ForeignKey("sandboxes.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    egress_rule_id: Mapped[str]
    binding_id: Mapped[str]
    connection_id: Mapped[str] = mapped_column(index=True)
    secret_type: Mapped[str]
    slot_key: Mapped[str]
    resolver_key: Mapped[str]


class InterceptionAuthority(Model):
    """The CA of one sandbox. Its key is never replaced; a certificate over it is renewed."""

    __tablename__ = "interception_authorities"
    sandbox_id: Mapped[str] = mapped_column(ForeignKey("sandboxes.id"), primary_key=True)
    certificate_pem: Mapped[str]
    private_key: Mapped[bytes]
    not_after: Mapped[int]
    created_at: Mapped[int]


# --- targets, connections and their credentials -----------------------------------------------------------------------


class Target(Model):
    """A provider as the operator offers it in this environment. config is JSON."""

    __tablename__ = "targets"
    key: Mapped[str] = mapped_column(primary_key=True)
    family_id: Mapped[str]
    variant_id: Mapped[str]
    enabled: Mapped[bool]
    config: Mapped[str]
    display_name: Mapped[str | None]
    description: Mapped[str | None]
    logo_key: Mapped[str | None]
    revision: Mapped[int]
    created_at: Mapped[int]
    updated_at: Mapped[int]


class TargetSecret(Model):
    """One secret of a target, encrypted."""

    __tablename__ = "target_secrets"
    target_key: Mapped[str] = mapped_column(ForeignKey("targets.key", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[bytes]
    updated_at: Mapped[int]


class Connection(Model):
    """An account authorised at an integration. config is JSON; error says why the status is `error`, safely."""

    __tablename__ = "connections"
    __table_args__ = (Index(None, "organization_id", "id"), Index(None, "target_key"))
    id: Mapped[str] = mapped_column(primary_key=True)
    organization_id: Mapped[str]
    target_key: Mapped[str]
    display_name: Mapped[str | None]
    status: Mapped[str]
    method: Mapped[str] = mapped_column(server_default="api-key")
    config: Mapped[str] = mapped_column(server_default="{}")
    error: Mapped[str | None]
    revision: Mapped[int] = mapped_column(server_default="1")
    created_at: Mapped[int]
    updated_at: Mapped[int]


class Credential(Model):
    """One secret of a connection, encrypted. version is another word after each rotation, and never seen before."""

    __tablename__ = "credentials"
    connection_id: Mapped[str] = mapped_column(ForeignKey("connections.id", ondelete="CASCADE"), primary_key=True)
    secret_type: Mapped[str] = mapped_column(primary_key=True)
    slot_key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[bytes]
    version: Mapped[str]
    expires_at: Mapped[int | None]
    updated_at: Mapped[int]


class CredentialLease(Model):
    """Who refreshes or mints one of a connection's credentials just now; others wait for what comes of it."""

    __tablename__ = "credential_leases"
    connection_id: Mapped[str] = mapped_column(ForeignKey("connections.id", ondelete="CASCADE"), primary_key=True)
    secret_type: Mapped[str] = mapped_column(primary_key=True)
    slot_key: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]
    until: Mapped[int]


class AuthorizationSession(Model):
    """A member on the way to a provider and back. Used once; the state itself is only known to the browser."""

    __tablename__ = "authorization_sessions"
    state_hash: Mapped[str] = mapped_column(primary_key=True)
    organization_id: Mapped[str]
    target_key: Mapped[str]
    method: Mapped[str]
    # Of the connection that is authorised again; absent where a new one is to be made.
    connection_id: Mapped[str | None]
    display_name: Mapped[str | None]
    config: Mapped[str]
    # The PKCE verifier, encrypted; absent where the method has none.
    verifier: Mapped[bytes | None]
    redirect_uri: Mapped[str]
    created_by: Mapped[str]
    expires_at: Mapped[int] = mapped_column(index=True)


class Binding(Model):
    """A connection attached to a version of a profile. config is JSON; position is its place in the list as written."""

    __tablename__ = "bindings"
    __table_args__ = (
        ForeignKeyConstraint(
            ["profile_id", "version"], ["profile_versions.profile_id", "profile_versions.version"], ondelete="CASCADE"
        ),
        Index(None, "profile_id", "version", "position"),
    )
    id: Mapped[str] = mapped_column(primary_key=True)
    profile_id: Mapped[str]
    version: Mapped[int]
    position: Mapped[int]
    connection_id: Mapped[str] = mapped_column(index=True)
    kind: Mapped[str]
    config: Mapped[str]
    created_at: Mapped[int]
    updated_at: Mapped[int]


class Recompilation(Model):
    """A profile's version whose sandboxes have to be compiled anew, because something it depends on changed."""

    __tablename__ = "recompilations"
    profile_id: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    # Counts the requests, so that one which came while compiling is not lost.
    requests: Mapped[int]
    not_before: Mapped[int] = mapped_column(index=True)
    attempts: Mapped[int]


class Resolution(Model):
    """One answered or refused request for a credential: who asked for what, never the value."""

    __tablename__ = "resolutions"
    id: Mapped[int] = mapped_column(_RowId, primary_key=True)
    at: Mapped[int] = mapped_column(index=True)
    caller: Mapped[str]
    sandbox_id: Mapped[str]
    plan_revision: Mapped[int]
    egress_rule_id: Mapped[str]
    binding_id: Mapped[str]
    connection_id: Mapped[str]
    secret_type: Mapped[str]
    slot_key: Mapped[str]
    result: Mapped[str]
    credential_version: Mapped[str | None]


# --- webhooks ---------------------------------------------------------------------------------------------------------


class WebhookEndpoint(Model):
    """A URL a provider sends events to; of a target, or of one connection where that owns the source."""

    __tablename__ = "webhook_endpoints"
    key: Mapped[str] = mapped_column(primary_key=True)
    target_key: Mapped[str] = mapped_column(ForeignKey("targets.key", ondelete="CASCADE"), index=True)
    connection_id: Mapped[str | None] = mapped_column(ForeignKey("connections.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[int]


class WebhookEvent(Model):
    """An event as it was taken in: unique per target and external id. payload is JSON as it came."""

    __tablename__ = "webhook_events"
    __table_args__ = (Index("uq_webhook_events_target_key_external_id", "target_key", "external_id", unique=True),)
    id: Mapped[str] = mapped_column(primary_key=True)
    target_key: Mapped[str]
    external_id: Mapped[str]
    organization_id: Mapped[str] = mapped_column(index=True)
    connection_id: Mapped[str]
    type: Mapped[str]
    payload: Mapped[str]
    received_at: Mapped[int] = mapped_column(index=True)
    # `pending` until its deliveries have been made out, then `processed`.
    state: Mapped[str] = mapped_column(index=True)


class WebhookSubscription(Model):
    """Who is told of the events that reach a sandbox profile's connections."""

    __tablename__ = "webhook_subscriptions"
    id: Mapped[str] = mapped_column(primary_key=True)
    organization_id: Mapped[str] = mapped_column(index=True)
    profile_id: Mapped[str] = mapped_column(ForeignKey("profiles.id", ondelete="CASCADE"), index=True)
    url: Mapped[str]
    secret: Mapped[bytes]
    # JSON, a list of types; an empty one is all.
    event_types: Mapped[str]
    enabled: Mapped[bool]
    created_at: Mapped[int]
    updated_at: Mapped[int]


class WebhookDelivery(Model):
    """One event on its way to one subscriber: `pending`, `delivered` or `failed`."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (Index(None, "state", "not_before"),)
    event_id: Mapped[str] = mapped_column(ForeignKey("webhook_events.id", ondelete="CASCADE"), primary_key=True)
    subscription_id: Mapped[str] = mapped_column(
        ForeignKey("webhook_subscriptions.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    state: Mapped[str]
    attempts: Mapped[int]
    # While somebody delivers it: when others may, because that one is gone.
    not_before: Mapped[int]
    give_up_at: Mapped[int]
    # Who delivers it just now; empty where nobody does.
    owner: Mapped[str]
    last_status: Mapped[int | None]
    last_error: Mapped[str | None]
    updated_at: Mapped[int]


# --- callers ----------------------------------------------------------------------------------------------------------


class ApiKey(Model):
    """A key of the API: its hash, what it may do, and for which organization (absent: an operator's, of all)."""

    __tablename__ = "api_keys"
    id: Mapped[str] = mapped_column(primary_key=True)
    key_hash: Mapped[str] = mapped_column(unique=True)
    role: Mapped[str]
    organization_id: Mapped[str | None] = mapped_column(index=True)
    display_name: Mapped[str | None]
    created_by: Mapped[str]
    created_at: Mapped[int]
    expires_at: Mapped[int | None]
    revoked_at: Mapped[int | None]
    last_used_at: Mapped[int | None]


class IdempotentAnswer(Model):
    """What a request with an idempotency key was answered; `digest` is of the request, `answer` is encrypted."""

    __tablename__ = "idempotent_answers"
    caller: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str]
    # 0 while the first request is still being answered.
    status: Mapped[int]
    answer: Mapped[bytes | None]
    at: Mapped[int] = mapped_column(index=True)


class PageSession(Model):
    """A login to the operator page. The cookie's value is only known to the browser."""

    __tablename__ = "page_sessions"
    session_hash: Mapped[str] = mapped_column(primary_key=True)
    api_key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.id", ondelete="CASCADE"), index=True)
    csrf_token: Mapped[str]
    created_at: Mapped[int]
    expires_at: Mapped[int] = mapped_column(index=True)


# --- the client feed --------------------------------------------------------------------------------------------------


class Instance(Model):
    """An application whose clients read the feed. revision counts the changes of what it is served."""

    __tablename__ = "instances"
    __table_args__ = (Index(None, "organization_id", "id"),)
    id: Mapped[str] = mapped_column(primary_key=True)
    organization_id: Mapped[str]
    display_name: Mapped[str | None]
    revision: Mapped[int]
    created_at: Mapped[int]


class ClientKey(Model):
    """A key that clients of one instance show, by its hash. Its tier never changes; a revoked one keeps its row."""

    __tablename__ = "client_keys"
    id: Mapped[str] = mapped_column(primary_key=True)
    key_hash: Mapped[str] = mapped_column(unique=True)
    organization_id: Mapped[str]
    instance_id: Mapped[str] = mapped_column(ForeignKey("instances.id", ondelete="CASCADE"), index=True)
    tier: Mapped[str]
    display_name: Mapped[str | None]
    created_by: Mapped[str]
    created_at: Mapped[int]
    revoked_at: Mapped[int | None] = mapped_column(index=True)


class InstanceServer(Model):
    """An integration server for an instance: a shared tool, or what one user has installed (then user_id says whose).

    id is the server's at its worker, name the feed's. source is JSON, what the worker is told to install. issue says
    why it does not run, where the worker said so. leaves_at: when it is stopped that was meant to run until now, or
    removed. removal is its own id once it is to be removed, and empty before, so that its name is free at once.
    """

    __tablename__ = "instance_servers"
    __table_args__ = (
        Index("uq_instance_servers_instance_id_name_removal", "instance_id", "name", "removal", unique=True),
    )
    id: Mapped[str] = mapped_column(primary_key=True)
    organization_id: Mapped[str]
    instance_id: Mapped[str] = mapped_column(ForeignKey("instances.id", ondelete="CASCADE"))
    name: Mapped[str]
    tool_id: Mapped[str]
    user_id: Mapped[str | None]
    tier: Mapped[str]
    source: Mapped[str]
    desired: Mapped[str]
    worker_id: Mapped[str] = mapped_column(index=True)
    issue: Mapped[str | None]
    removal: Mapped[str]
    leaves_at: Mapped[int | None] = mapped_column(index=True)
    created_at: Mapped[int]
    updated_at: Mapped[int]


class PlanServer(Model):
    """An MCP server inside a sandbox, of its current plan."""

    __tablename__ = "plan_servers"
    sandbox_id: Mapped[str] = mapped_column(ForeignKey("sandboxes.id"), primary_key=True)
    server_id: Mapped[str] = mapped_column(primary_key=True)


class FeedEntry(Model):
    """One entry of what an instance is served: together they are the last set that was verified.

    kind and subject say what it comes from, by the id that the API has for it.
    """

    __tablename__ = "feed_entries"
    instance_id: Mapped[str] = mapped_column(ForeignKey("instances.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    url: Mapped[str]
    tier: Mapped[str]
    user_id: Mapped[str | None]
    kind: Mapped[str]
    subject: Mapped[str]


class FeedChange(Model):
    """One change of what an instance is served; added, removed and meta are JSON (control_plane/feed/changes.py)."""

    __tablename__ = "feed_changes"
    instance_id: Mapped[str] = mapped_column(ForeignKey("instances.id", ondelete="CASCADE"), primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    event: Mapped[str]
    added: Mapped[str]
    removed: Mapped[str]
    meta: Mapped[str]
    at: Mapped[int]


class PushSubscriber(Model):
    """Who is told of changes of what an instance is served; of every instance where instance_id is absent.

    events is JSON, empty for all of them. A configured one is the control plane's own, which its start makes and
    removes, and may name an instance that is still to be made. owner tells it until lease_until.
    """

    __tablename__ = "push_subscribers"
    __table_args__ = (Index(None, "organization_id", "id"),)
    id: Mapped[str] = mapped_column(primary_key=True)
    organization_id: Mapped[str]
    instance_id: Mapped[str | None] = mapped_column(index=True)
    is_configured: Mapped[bool]
    url: Mapped[str]
    tier: Mapped[str]
    events: Mapped[str]
    secret: Mapped[bytes]
    enabled: Mapped[bool]
    # Since it answered last.
    attempts: Mapped[int]
    not_before: Mapped[int]
    owner: Mapped[str]
    lease_until: Mapped[int]
    last_status: Mapped[int | None]
    last_error: Mapped[str | None]
    created_at: Mapped[int]
    updated_at: Mapped[int]


class PushCursor(Model):
    """How far a subscriber is with an instance: the revision it was told last, and the one that was looked at last."""

    __tablename__ = "push_cursors"
    subscriber_id: Mapped[str] = mapped_column(ForeignKey("push_subscribers.id", ondelete="CASCADE"), primary_key=True)
    instance_id: Mapped[str] = mapped_column(ForeignKey("instances.id", ondelete="CASCADE"), primary_key=True)
    told: Mapped[int]
    seen: Mapped[int]


# --- keys and tokens --------------------------------------------------------------------------------------------------


class DataKey(Model):
    """The key an organization's secrets are encrypted with, wrapped by a master key."""

    __tablename__ = "data_keys"
    organization_id: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    master_version: Mapped[int]
    wrapped: Mapped[bytes]


class SigningKey(Model):
    """A key that signs tokens: published from its first moment, used from active_at, forgotten at retire_at."""

    __tablename__ = "signing_keys"
    id: Mapped[str] = mapped_column(primary_key=True)
    public_key: Mapped[bytes]
    private_key: Mapped[bytes]
    created_at: Mapped[int]
    active_at: Mapped[int]
    retire_at: Mapped[int | None]


class RenewalToken(Model):
    """A renewal token that was handed out. Used once; its answer is repeated for a short while."""

    __tablename__ = "renewal_tokens"
    __table_args__ = (Index(None, "sandbox_id", "expires_at"),)
    id: Mapped[str] = mapped_column(primary_key=True)
    sandbox_id: Mapped[str]
    lineage: Mapped[str]
    expires_at: Mapped[int] = mapped_column(index=True)
    used_at: Mapped[int | None]
    used_request_id: Mapped[str | None]


class TokenAnswer(Model):
    """What a token request was answered, encrypted, so that asking again gives the same."""

    __tablename__ = "token_answers"
    sandbox_id: Mapped[str] = mapped_column(primary_key=True)
    request_id: Mapped[str] = mapped_column(primary_key=True)
    renewal_id: Mapped[str]
    answer: Mapped[bytes]
    at: Mapped[int] = mapped_column(index=True)


# --- what is told to gateways, and what they tell ---------------------------------------------------------------------


class Event(Model):
    """One entry of the watch stream. Ids become visible in ascending order (store/database.py)."""

    __tablename__ = "events"
    __table_args__ = ({"sqlite_autoincrement": True},)  # an id is never used again, not even after the newest went
    id: Mapped[int] = mapped_column(_RowId, primary_key=True)
    kind: Mapped[str]
    body: Mapped[str]
    at: Mapped[int]


class Revocation(Model):
    """Something that is out of service until an instant, of one organization or ("") of any."""

    __tablename__ = "revocations"
    kind: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    organization_id: Mapped[str] = mapped_column(primary_key=True, server_default="")
    until: Mapped[int] = mapped_column(index=True)


class GatewayLease(Model):
    """A gateway that reported lately. plan_revisions is JSON."""

    __tablename__ = "gateway_leases"
    gateway_id: Mapped[str] = mapped_column(primary_key=True)
    epoch: Mapped[int]
    admin_url: Mapped[str]
    plan_revisions: Mapped[str]
    expires_at: Mapped[int] = mapped_column(index=True)


class GatewaySandbox(Model):
    """A sandbox that a gateway holds. tunnel_epoch is 0 where there is no tunnel."""

    __tablename__ = "gateway_sandboxes"
    __table_args__ = (
        ForeignKeyConstraint(["gateway_id"], ["gateway_leases.gateway_id"], ondelete="CASCADE"),
        Index(None, "sandbox_id"),
    )
    gateway_id: Mapped[str] = mapped_column(primary_key=True)
    sandbox_id: Mapped[str] = mapped_column(primary_key=True)
    tunnel: Mapped[bool]
    tunnel_epoch: Mapped[int]
    revision: Mapped[int | None]


class Worker(Model):
    """A worker that reported. state is `live`, `lost` (its lease ran out, and that was told) or `withdrawn`."""

    __tablename__ = "workers"
    __table_args__ = (Index(None, "state", "expires_at"),)
    worker_id: Mapped[str] = mapped_column(primary_key=True)
    epoch: Mapped[int]
    api_url: Mapped[str]
    front_url: Mapped[str | None]
    state: Mapped[str]
    expires_at: Mapped[int]


class WorkerServer(Model):
    """An integration server of a worker, as it was reported last. tools is JSON, a list of names."""

    __tablename__ = "worker_servers"
    worker_id: Mapped[str] = mapped_column(ForeignKey("workers.worker_id", ondelete="CASCADE"), primary_key=True)
    server_id: Mapped[str] = mapped_column(primary_key=True)
    tier: Mapped[str]
    status: Mapped[str]
    tools: Mapped[str]
    sandbox_id: Mapped[str | None] = mapped_column(index=True)
