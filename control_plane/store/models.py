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


# --- connections and their credentials --------------------------------------------------------------------------------


class Connection(Model):
    """An account authorised at an integration."""

    __tablename__ = "connections"
    __table_args__ = (Index(None, "organization_id", "id"),)
    id: Mapped[str] = mapped_column(primary_key=True)
    organization_id: Mapped[str]
    target_key: Mapped[str]
    display_name: Mapped[str | None]
    status: Mapped[str]
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
    """Something that is out of service until an instant."""

    __tablename__ = "revocations"
    kind: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
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
