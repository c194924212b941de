"""Jobs are submitted in parts."""

import sqlalchemy as sa
from alembic import op

from storage.rows import JobId

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "parted_jobs",
        sa.Column("job_id", JobId, nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("on_invalid", sa.String(length=16), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_parted_jobs_job_id"),
        sa.PrimaryKeyConstraint("job_id", name="pk_parted_jobs"),
    )
    op.create_table(
        "parts",
        sa.Column("job_id", JobId, nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("items", sa.BigInteger(), nullable=False),
        sa.Column("chunk_end", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_parts_job_id"),
        sa.PrimaryKeyConstraint("job_id", "number", name="pk_parts"),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("parts")
    op.drop_table("parted_jobs")
