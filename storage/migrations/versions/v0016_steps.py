"""Jobs of millions of chunks end and go round again step by step, and count what comes in while it comes."""

import sqlalchemy as sa
from alembic import op

from storage.migrations.indexes import make_partial_indexes

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_COLUMNS = ("unsettled_after", "unretried_from", "arrived", "estimated")

_OF_JOBS = {
    "ix_jobs_unsettled": ("id", "unsettled_after IS NOT NULL"),
    "ix_jobs_unretried": ("id", "unretried_from IS NOT NULL"),
}
_OF_CHUNKS = {"ix_chunks_failed": ("job_id, first", "failed > 0")}


def upgrade() -> None:
    """Apply; whatever of it was done before it was cut off is passed over."""
    # Columns without a value: no row is written. SQLite's run is one transaction, and knows no such words.
    again = op.get_bind().dialect.name == "postgresql"
    for name in _COLUMNS:
        op.add_column("jobs", sa.Column(name, sa.BigInteger(), nullable=True), if_not_exists=again or None)
    make_partial_indexes("jobs", _OF_JOBS)
    make_partial_indexes("chunks", _OF_CHUNKS)


def downgrade() -> None:
    """Take back."""
    op.drop_index("ix_chunks_failed", table_name="chunks")
    for name in _OF_JOBS:
        op.drop_index(name, table_name="jobs")
    for name in _COLUMNS:
        op.drop_column("jobs", name)
