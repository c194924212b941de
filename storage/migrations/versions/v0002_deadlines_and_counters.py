"""Jobs may expire and are kept for a while; defences count how often they were needed."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_INDEXES = {
    "ix_jobs_expires_at": ("expires_at", sa.text("expires_at IS NOT NULL AND finished_at IS NULL")),
    "ix_jobs_finished_at": ("finished_at", sa.text("finished_at IS NOT NULL")),
    "ix_jobs_deleted_at": ("deleted_at", sa.text("deleted_at IS NOT NULL")),
    "ix_jobs_unfinished": ("model", sa.text("state IN ('accepting', 'queued', 'running')")),
}


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "counters",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_counters"),
    )
    op.add_column("jobs", sa.Column("expires_at", sa.BigInteger(), nullable=True))
    op.add_column("chunks", sa.Column("failures", sa.BigInteger(), server_default="0", nullable=False))
    for name, (column, where) in _INDEXES.items():
        op.create_index(name, "jobs", [column], unique=False, sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    """Take back."""
    for name in _INDEXES:
        op.drop_index(name, table_name="jobs")
    op.drop_column("chunks", "failures")
    op.drop_column("jobs", "expires_at")
    op.drop_table("counters")
