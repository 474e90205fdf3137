"""Workers and the integration servers they run."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "workers",
        sa.Column("worker_id", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("api_url", sa.Text(), nullable=False),
        sa.Column("front_url", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("worker_id", name=op.f("pk_workers")),
    )
    op.create_index(op.f("ix_workers_state_expires_at"), "workers", ["state", "expires_at"], unique=False)
    op.create_table(
        "worker_servers",
        sa.Column("worker_id", sa.Text(), nullable=False),
        sa.Column("server_id", sa.Text(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("tools", sa.Text(), nullable=False),
        sa.Column("sandbox_id", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["worker_id"], ["workers.worker_id"], name=op.f("fk_worker_servers_worker_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("worker_id", "server_id", name=op.f("pk_worker_servers")),
    )
    op.create_index(op.f("ix_worker_servers_sandbox_id"), "worker_servers", ["sandbox_id"], unique=False)


def downgrade() -> None:
    """Remove them with everything in them."""
    op.drop_table("worker_servers")
    op.drop_table("workers")
