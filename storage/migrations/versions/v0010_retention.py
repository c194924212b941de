"""Jobs and keys say for how long an ended job is kept, and its texts; those that said nothing are kept for ever."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_COLUMNS = {
    "keys": ("keep_for", "keep_texts_for"),
    "jobs": ("keep_for", "keep_texts_for", "kept_until", "texts_until", "texts_gone_at"),
}


def upgrade() -> None:
    """Apply."""
    # Columns without a value: no row is written, and the lock is held for a moment.
    for table, columns in _COLUMNS.items():
        for column in columns:
            op.add_column(table, sa.Column(column, sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Take back."""
    for table, columns in _COLUMNS.items():
        for column in columns:
            op.drop_column(table, column)
