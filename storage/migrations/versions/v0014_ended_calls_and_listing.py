"""Ended calls are found without reading ended jobs, and the jobs of one key without reading those of others."""

from alembic import op

from storage.migrations.indexes import make_partial_indexes

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_INDEXES = {
    "ix_jobs_calls": ("finished_at", "kind = 'call' AND finished_at IS NOT NULL"),
    "ix_jobs_listed": ("key_id, id", "kind = 'job' AND deleted_at IS NULL"),
}


def upgrade() -> None:
    """Apply; whatever of it was done before it was cut off is passed over."""
    make_partial_indexes("jobs", _INDEXES)


def downgrade() -> None:
    """Take back."""
    for name in _INDEXES:
        op.drop_index(name, table_name="jobs")
