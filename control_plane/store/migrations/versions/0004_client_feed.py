"""The client feed: instances, their keys and servers, what they are served and how that changed."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "instances",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("organization_id", sa.Text(), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instances")),
    )
    op.create_index(op.f("ix_instances_organization_id_id"), "instances", ["organization_id", "id"], unique=False)
    op.create_table(
        "client_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("key_hash", sa.Text(), nullable=False),
        sa.Column("organization_id", sa.Text(), nullable=False),
        sa.Column("instance_id", sa.Text(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        _of_instance("client_keys"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_client_keys")),
        sa.UniqueConstraint("key_hash", name=op.f("uq_client_keys_key_hash")),
    )
    op.create_index(op.f("ix_client_keys_instance_id"), "client_keys", ["instance_id"], unique=False)
    op.create_index(op.f("ix_client_keys_revoked_at"), "client_keys", ["revoked_at"], unique=False)
    op.create_table(
        "instance_servers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("organization_id", sa.Text(), nullable=False),
        sa.Column("instance_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("tool_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=True),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("desired", sa.Text(), nullable=False),
        sa.Column("worker_id", sa.Text(), nullable=False),
        sa.Column("issue", sa.Text(), nullable=True),
        sa.Column("removal", sa.Text(), nullable=False),
        sa.Column("leaves_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        _of_instance("instance_servers"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance_servers")),
    )
    op.create_index(
        "uq_instance_servers_instance_id_name_removal",
        "instance_servers",
        ["instance_id", "name", "removal"],
        unique=True,
    )
    op.create_index(op.f("ix_instance_servers_leaves_at"), "instance_servers", ["leaves_at"], unique=False)
    op.create_index(op.f("ix_instance_servers_worker_id"), "instance_servers", ["worker_id"], unique=False)
    op.create_table(
        "plan_servers",
        sa.Column("sandbox_id", sa.Text(), nullable=False),
        sa.Column("server_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["sandbox_id"], ["sandboxes.id"], name=op.f("fk_plan_servers_sandbox_id")),
        sa.PrimaryKeyConstraint("sandbox_id", "server_id", name=op.f("pk_plan_servers")),
    )
    op.create_table(
        "feed_entries",
        sa.Column("instance_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        _of_instance("feed_entries"),
        sa.PrimaryKeyConstraint("instance_id", "name", name=op.f("pk_feed_entries")),
    )
    op.create_table(
        "feed_changes",
        sa.Column("instance_id", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("added", sa.Text(), nullable=False),
        sa.Column("removed", sa.Text(), nullable=False),
        sa.Column("meta", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        _of_instance("feed_changes"),
        sa.PrimaryKeyConstraint("instance_id", "revision", name=op.f("pk_feed_changes")),
    )


def downgrade() -> None:
    """Remove them with everything in them."""
    for table in ("feed_changes", "feed_entries", "plan_servers", "instance_servers", "client_keys"):
        op.drop_table(table)
    op.drop_table("instances")


def _of_instance(table: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_instance_id")
    return sa.ForeignKeyConstraint(["instance_id"], ["instances.id"], name=name, ondelete="CASCADE")
