"""Jobs may expire and are kept for a while; defences count how often they were needed."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_CAN_EXPIRE = sa.text("expires_at IS NOT NULL AND finished_at IS NULL")
_FINISHED = sa.text("finished_at IS NOT NULL")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "counters",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_counters"),
    )
    op.add_column("jobs", sa.Column("expires_at", sa.BigInteger(), nullable=True))
    indexes = (("ix_jobs_expires_at", "expires_at", _CAN_EXPIRE), ("ix_jobs_finished_at", "finished_at", _FINISHED))
    for name, column, where in indexes:
        op.create_index(name, "jobs", [column], unique=False, sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    """Take back."""
    for name in ("ix_jobs_finished_at", "ix_jobs_expires_at"):
        op.drop_index(name, table_name="jobs")
    op.drop_column("jobs", "expires_at")
    op.drop_table("counters")
