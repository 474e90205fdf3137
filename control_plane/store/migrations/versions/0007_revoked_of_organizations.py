"""Revocations may be of one organization's connection or binding; those that are there are of all that bear the id."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_KEPT = ("kind", "id", "until")


def upgrade() -> None:
    """Make the table anew: SQLite changes no primary key."""
    # The default is for replicas of the version before, which write no organization and mean all.
    organization = sa.Column("organization_id", sa.Text(), nullable=False, server_default="")
    _make_anew([organization], ("kind", "id", "organization_id"))


def downgrade() -> None:
    """Go back to the ids alone: what was revoked of one organization is then revoked of all, and nothing comes back."""
    _make_anew([], ("kind", "id"))


def _make_anew(more: list[sa.Column[str]], key: tuple[str, ...]) -> None:
    ends = sa.text("SELECT kind, id, MAX(until) FROM revocations GROUP BY kind, id")
    rows = [dict(zip(_KEPT, row, strict=True)) for row in op.get_bind().execute(ends)]
    op.drop_index(op.f("ix_revocations_until"), table_name="revocations")
    op.drop_table("revocations")
    made = op.create_table(
        "revocations",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        *more,
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(*key, name=op.f("pk_revocations")),
    )
    op.create_index(op.f("ix_revocations_until"), "revocations", ["until"], unique=False)
    op.bulk_insert(made, rows)
